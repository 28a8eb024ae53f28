"""A hit's picture, read straight from where it lies."""

from __future__ import annotations

from pathlib import Path

from dove_core.errors import DataError, SearchIndexError

_HINT = "pictures are read from what was embedded: bring it back, or run `dove embed` again"


def read_picture(root: Path, shard: str, offset: int, size: int) -> bytes:
    """Read the bytes of a picture: from `offset` on in a file below `root`, or as a PNG a tile of a GeoTIFF there.

    Args:
        root: the folder that was embedded.
        shard: the path of a tar or picture, or, with a size of 0, the address of a tile.
        offset: where in the file the picture begins.
        size: its length in bytes.

    Raises:
        SearchIndexError: the file is not there any more, or is another than before.
        UsageError: a tile is wanted, and rasterio is not installed.
    """
    if size == 0:
        return _read_tile(root, shard)
    path = root / shard
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
    except OSError as error:
        raise SearchIndexError(f"{path} cannot be read: {error}", hint=_HINT) from error
    if len(data) < size:
        raise SearchIndexError(f"{path} is shorter than when it was embedded", hint="run `dove embed` again")
    return data


def _read_tile(root: Path, address: str) -> bytes:
    from dove_core.search.geotiff import read_window, tile_of  # noqa: PLC0415  # other queries do without

    found = tile_of(address)
    if found is None:
        raise SearchIndexError(f"{address} is no tile's address", hint="run `dove embed` again")
    try:
        return read_window(root / found[0], found[1])
    except DataError as error:
        raise SearchIndexError(error.message, hint=_HINT) from error


def not_there(shard: str, key: str) -> SearchIndexError:
    """Return the error for bytes that are no picture any more."""
    message = f"{shard} does not hold the picture {key} any more"
    return SearchIndexError(message, hint="the shards were made again? Run `dove embed` again")
