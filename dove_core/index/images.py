"""Reading of an image from the file that was embedded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dove_core.errors import DataError, SearchIndexError, reason_of
from dove_core.index.rows import Row
from dove_core.places import Place

_AT_ONCE = 16
_HINT = "give the folder with the embedded images with --shards, or run `dove embed` again"


def read_image(root: Place, row: Row) -> bytes:
    """Return the bytes of an image in a file below `root`, or of a tile of a GeoTIFF as a PNG.

    From a bucket only the bytes of the image are read. A size of 0 says that `row.shard` is the address of a tile.

    Raises:
        SearchIndexError: the file is missing, or has changed since it was embedded.
        UsageError: rasterio is not installed, and the image is a tile.
    """
    if row.size == 0:
        return _read_tile(root, row.shard)
    try:
        data = root.range(row.shard, row.offset, row.size)
    except OSError as error:
        raise SearchIndexError(f"{root / row.shard} cannot be read: {reason_of(error)}", hint=_HINT) from error
    if len(data) < row.size:
        message = f"{root / row.shard} is shorter than when it was embedded"
        raise SearchIndexError(message, hint="run `dove embed` again")
    return data


def read_images(root: Place, rows: Sequence[Row]) -> list[bytes]:
    """Read the images of some rows, several at once from a bucket.

    Raises:
        SearchIndexError, UsageError: as `read_image`.
        DownloadError: the bucket cannot be read.
    """
    if not root.is_remote:
        return [read_image(root, row) for row in rows]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # only for buckets

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(partial(read_image, root), rows))


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


def not_there(row: Row) -> SearchIndexError:
    """Return the error for bytes that are not an image any more."""
    message = f"{row.shard} does not hold the image {row.key} any more"
    return SearchIndexError(message, hint="run `dove embed` again if the shards were made again")
