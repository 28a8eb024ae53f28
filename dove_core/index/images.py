"""Reading of an image from the file that was embedded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dove_core.errors import DataError, SearchIndexError, reason_of
from dove_core.index.rows import Row
from dove_core.places import Place

if TYPE_CHECKING:
    from PIL import Image

_AT_ONCE = 16
_HINT = "give the folder with the embedded images with --shards, or run `dove embed` again"


def read_image(root: Place, row: Row) -> bytes:
    """Return the bytes of an image in a file below `root`, or of a tile of a GeoTIFF as a PNG.

    From a bucket only the bytes of the image are read. A size of 0 says that `row.shard` is the address of a tile, or
    of a row of a Parquet file, of whose row group the images before it are read too.

    Raises:
        SearchIndexError: the file is missing, or has changed since it was embedded.
        UsageError: rasterio is not installed, and the image is a tile.
    """
    return read_images(root, [row])[0]


def read_images(root: Place, rows: Sequence[Row]) -> list[bytes]:
    """Read the images of some rows: several at once from a bucket, and those of one Parquet file in one pass.

    Raises:
        SearchIndexError, UsageError: as `read_image`.
        DownloadError: the bucket cannot be read.
    """
    found = _read_tables(root, {number: row.shard for number, row in enumerate(rows) if row.size == 0})
    others = {number: row for number, row in enumerate(rows) if number not in found}
    if not root.is_remote or len(others) < 2:
        found |= {number: _read_one(root, row) for number, row in others.items()}
    else:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # only for buckets

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found |= dict(zip(others, pool.map(partial(_read_one, root), others.values()), strict=True))
    return [found[number] for number in range(len(rows))]


def _read_one(root: Place, row: Row) -> bytes:
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


def _read_tables(root: Place, addresses: Mapping[int, str]) -> dict[int, bytes]:
    """Return the images at those addresses that are of rows of Parquet files, by the same numbers."""
    if not addresses:
        return {}
    from dove_core.data.parquet_images import parse_row  # noqa: PLC0415  # slow, and only for Parquet files

    tables: dict[str, list[tuple[int, int]]] = {}
    for number, address in addresses.items():
        if parsed := parse_row(address):
            tables.setdefault(parsed[0], []).append((parsed[1], number))
    found: dict[int, bytes] = {}
    for name, wanted in tables.items():
        try:
            found |= _read_rows(root, name, sorted(wanted))
        except DataError as error:
            raise SearchIndexError(error.message, hint=_HINT) from error
        except OSError as error:
            raise SearchIndexError(f"{root / name} cannot be read: {reason_of(error)}", hint=_HINT) from error
    return found


def _read_rows(root: Place, name: str, wanted: Sequence[tuple[int, int]]) -> dict[int, bytes]:
    """Return the images of some rows of a Parquet file, given with their numbers in the result.

    From a bucket, only the columns of images are read.
    """
    from dove_core.data.parquet_images import RowReader  # noqa: PLC0415

    found = {}
    with root.seekable(name) as stream:
        reader = RowReader(stream, str(root / name))
        for row, number in wanted:
            image = reader.image(row)
            if image is None:
                raise DataError(f"{root / name} has no image in row {row} any more")
            found[number] = image
    return found


def _read_tile(root: Place, address: str) -> bytes:
    from dove_core.sources.geotiff import parse_tile, read_window  # noqa: PLC0415  # only for tiles

    parsed = parse_tile(address)
    if parsed is None:
        raise SearchIndexError(f"{address} is not a valid address of an image", hint="run `dove embed` again")
    name, tile = parsed
    try:
        with root.local_path(name) as path:
            return read_window(path, tile)
    except DataError as error:
        raise SearchIndexError(error.message, hint=_HINT) from error


def decode_image(data: bytes, row: Row, *, side: int | None = None) -> Image.Image:
    """Return a row's image as RGB, as the model saw it: turned, and brought to 8 bits if it has more.

    Args:
        data: the image file's bytes, as the index read them.
        row: the row they belong to.
        side: a JPEG may be decoded at a smaller size, if neither side becomes smaller than this.

    Raises:
        SearchIndexError: the bytes are not an image.
    """
    from dove_core.data.jpegs import upright_jpeg  # noqa: PLC0415  # with numpy and Pillow, which few queries need
    from dove_core.data.sharding.image import check_header, decode_rgb  # noqa: PLC0415

    least = side or 1 << 30
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow about unusual files
            if not data.startswith(b"\xff\xd8"):
                return decode_rgb(data)
            check_header(data)
            from PIL import Image  # noqa: PLC0415

            return Image.fromarray(upright_jpeg(data, min_height=least, min_width=least, min_factor=2))
    except (DataError, OSError, ValueError) as error:
        raise not_there(row) from error


def not_there(row: Row) -> SearchIndexError:
    """Return the error for bytes that are not an image any more."""
    message = f"{row.shard} does not hold the image {row.key} any more"
    return SearchIndexError(message, hint="run `dove embed` again if the shards were made again")
