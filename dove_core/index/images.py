"""A hit's image, read straight from where it lies."""

from __future__ import annotations

from collections.abc import Sequence

from dove_core.errors import DataError, SearchIndexError
from dove_core.index.rows import Row
from dove_core.places import Place

_AT_ONCE = 16
_HINT = "images are read from what was embedded: bring it back, or run `dove embed` again"


def read_image(root: Place, shard: str, offset: int, size: int) -> bytes:
    """Read the bytes of an image: from `offset` on in a file below `root`, or as a PNG a tile of a GeoTIFF there.

    Args:
        root: the folder that was embedded; where it is in a bucket, the image alone comes here.
        shard: the path of a tar or image, or, with a size of 0, the address of a tile.
        offset: where in the file the image begins.
        size: its length in bytes.

    Raises:
        SearchIndexError: the file is not there any more, or is another than before.
        UsageError: a tile is wanted, and rasterio is not installed.
    """
    if size == 0:
        return _read_tile(root, shard)
    try:
        data = root.range(shard, offset, size)
    except OSError as error:
        raise SearchIndexError(f"{root / shard} cannot be read: {error}", hint=_HINT) from error
    if len(data) < size:
        raise SearchIndexError(f"{root / shard} is shorter than when it was embedded", hint="run `dove embed` again")
    return data


def read_images(root: Place, rows: Sequence[Row]) -> list[bytes]:
    """Read the images of some rows; those in a bucket several at once.

    Raises:
        SearchIndexError, UsageError: as `read_image`.
        DownloadError: the bucket cannot be reached.
    """

    def read(row: Row) -> bytes:
        return read_image(root, row.shard, row.offset, row.size)

    if not root.is_remote:
        return [read(row) for row in rows]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # folders do without

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read, rows))


def _read_tile(root: Place, address: str) -> bytes:
    from dove_core.sources.geotiff import read_window, tile_of  # noqa: PLC0415  # other queries do without

    found = tile_of(address)
    if found is None:
        raise SearchIndexError(f"{address} is no tile's address", hint="run `dove embed` again")
    try:
        with root.here(found[0]) as path:
            return read_window(path, found[1])
    except DataError as error:
        raise SearchIndexError(error.message, hint=_HINT) from error


def not_there(shard: str, key: str) -> SearchIndexError:
    """Return the error for bytes that are no image any more."""
    message = f"{shard} does not hold the image {key} any more"
    return SearchIndexError(message, hint="the shards were made again? Run `dove embed` again")
