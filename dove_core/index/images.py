"""Reading of an image from the file that was embedded."""

from __future__ import annotations

from collections.abc import Sequence

from dove_core.errors import DataError, SearchIndexError, reason_of
from dove_core.index.rows import Row
from dove_core.places import Place

_AT_ONCE = 16
_HINT = "give the folder with the embedded images with --shards, or run `dove embed` again"


def read_image(root: Place, shard: str, offset: int, size: int) -> bytes:
    """Return the bytes of an image in a file below `root`, or of a tile of a GeoTIFF as a PNG.

    Args:
        root: the folder that was embedded; from a bucket only the bytes of the image are read.
        shard: path of a tar or image; with a size of 0, the address of a tile.
        offset: of the image in the file.
        size: of the image in bytes.

    Raises:
        SearchIndexError: the file is missing, or has changed since it was embedded.
        UsageError: rasterio is not installed, and the image is a tile.
    """
    if size == 0:
        return _read_tile(root, shard)
    try:
        data = root.range(shard, offset, size)
    except OSError as error:
        raise SearchIndexError(f"{root / shard} cannot be read: {reason_of(error)}", hint=_HINT) from error
    if len(data) < size:
        raise SearchIndexError(f"{root / shard} is shorter than when it was embedded", hint="run `dove embed` again")
    return data


def read_images(root: Place, rows: Sequence[Row]) -> list[bytes]:
    """Read the images of some rows, several at once from a bucket.

    Raises:
        SearchIndexError, UsageError: as `read_image`.
        DownloadError: the bucket cannot be read.
    """

    def read(row: Row) -> bytes:
        return read_image(root, row.shard, row.offset, row.size)

    if not root.is_remote:
        return [read(row) for row in rows]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # only for buckets

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read, rows))


def _read_tile(root: Place, address: str) -> bytes:
    from dove_core.sources.geotiff import parse_tile, read_window  # noqa: PLC0415  # only for tiles

    parsed = parse_tile(address)
    if parsed is None:
        raise SearchIndexError(f"{address} is not a valid address of a tile", hint="run `dove embed` again")
    name, tile = parsed
    try:
        with root.local_path(name) as path:
            return read_window(path, tile)
    except DataError as error:
        raise SearchIndexError(error.message, hint=_HINT) from error


def not_there(shard: str, key: str) -> SearchIndexError:
    """Return the error for bytes that are not an image any more."""
    message = f"{shard} does not hold the image {key} any more"
    return SearchIndexError(message, hint="run `dove embed` again if the shards were made again")
