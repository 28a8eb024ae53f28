"""Scenes, such as GeoTIFFs, read with rasterio: their properties, and the pixels of a tile."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dove_core.data.bands import Look, colour_bands, in_eight_bits, is_palette, look_of, valid_pixels
from dove_core.errors import DataError, UsageError
from dove_core.sources.band_files import band_paths, stacked, time_in_name
from dove_core.sources.position import ScenePosition, is_usable, position_of
from dove_core.sources.source import time_in

CACHE_BYTES = 128 * 2**20
"""Size of GDAL's block cache in each process; neighbouring rows of tiles share blocks."""

_ADDRESS = re.compile(
    r"(?s)(?P<scene>.+)#window=(?P<window>\d+,\d+,\d+,\d+)&bands=(?P<bands>\d+(?:,\d+)*)(?:&stretch=(?P<stretch>[^&]+))?"
    r"(?:&nodata=(?P<nodata>[^&]+))?(?:&alpha=(?P<alpha>no))?"
)
_HINT = "expected a complete GeoTIFF, or another raster of GDAL; check it with `gdalinfo`"


@dataclass(frozen=True)
class Tile:
    """A window of a scene in pixels, and the conversion of its values to colours.

    `bands` are one or three band numbers from 1. `look.stretch` has the values that become black and white; None for
    8-bit values, which stay unchanged.
    """

    x: int
    y: int
    width: int
    height: int
    bands: tuple[int, ...]
    look: Look = Look()

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Return first column, first row, width and height."""
        return self.x, self.y, self.width, self.height

    def address(self, scene: str) -> str:
        """Return the address for `parse_tile`: `scene.tif#window=0,0,256,256&bands=1,2,3&stretch=12.0,2800.0`."""
        text = f"{scene}#window={_listed(self.window)}&bands={_listed(self.bands)}"
        text += f"&stretch={_listed(self.look.stretch)}" if self.look.stretch else ""
        text += f"&nodata={_listed(self.look.nodata)}" if self.look.nodata else ""
        return text if self.look.alpha else f"{text}&alpha=no"


@dataclass(frozen=True)
class Scene:
    """Properties of a scene: its size in pixels, the bands to read, and its time.

    `named` tells whether the file, or the user, says that the bands have these colours; `placed` whether the scene has
    a usable position; `block_bytes` is the size of the smallest piece that can be read. `files` are all files that it
    is read from, with sidecars and sources.
    """

    width: int
    height: int
    bands: tuple[int, ...]
    named: bool
    time: str | None
    placed: bool
    block_bytes: int
    files: tuple[str, ...]


def parse_tile(address: str) -> tuple[str, Tile] | None:
    """Return the name of the scene and the tile of an address; None if the text is not the address of a tile."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    x, y, width, height = map(int, match["window"].split(","))
    bands = tuple(map(int, match["bands"].split(",")))
    stretch, nodata = _numbers(match["stretch"]), _numbers(match["nodata"])
    look = Look((stretch[0], stretch[1]) if stretch else None, nodata, alpha=match["alpha"] is None)
    return match["scene"], Tile(x, y, width, height, bands, look)


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(map(repr, values))


def _numbers(text: str | None) -> tuple[float, ...]:
    return tuple(map(float, text.split(","))) if text else ()


def open_scene(path: Path) -> Any:
    """Open a scene as a rasterio dataset; read it within `gdal()`.

    Raises:
        UsageError: rasterio is not installed.
        DataError: the file is missing, damaged, or not a raster.
    """
    try:
        import rasterio  # noqa: PLC0415  # an optional package
        from rasterio.errors import NotGeoreferencedWarning, RasterioError  # noqa: PLC0415
    except ImportError as error:
        message = f"{path} needs the package rasterio"
        raise UsageError(message, hint="pip install rasterio") from error
    try:
        with gdal(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            bands = band_paths(path)
            return rasterio.open(stacked(bands) if bands else path)
    except RasterioError as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_HINT) from error


def gdal() -> Any:
    """Return a context for reading with a bounded cache, in which GDAL's errors are raised."""
    import rasterio  # noqa: PLC0415

    return rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES)


@contextmanager
def dataset_of(path: Path) -> Iterator[Any]:
    """Give a scene as an open rasterio dataset.

    Raises:
        UsageError: rasterio is not installed.
        DataError: the file is missing, damaged, or not a raster.
    """
    dataset = open_scene(path)
    from rasterio.errors import RasterioError  # noqa: PLC0415

    try:
        with gdal(), dataset:
            yield dataset
    except RasterioError as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_HINT) from error


def describe_scene(path: Path, wanted: tuple[int, ...] = ()) -> Scene:
    """Return the properties of a scene.

    Args:
        path: a GeoTIFF.
        wanted: numbers of one or three bands; empty: those with the colours red, green and blue, else the first three
            except alpha bands, else the first.

    Raises:
        UsageError: a wanted band does not exist.
        DataError: the file is damaged, or its values are complex numbers.
    """
    with dataset_of(path) as dataset:
        if not dataset.count:
            raise DataError(f"{path} has no bands of its own", hint="give a file made of one of its subdatasets")
        if any("complex" in kind for kind in dataset.dtypes):
            raise DataError(f"{path} has complex numbers", hint="convert it to an intensity image first")
        bands, named = (wanted, True) if wanted else colour_bands(dataset)
        if max(bands) > dataset.count:
            message = f"--bands {','.join(map(str, bands))}: {path} has {dataset.count} band(s)"
            raise UsageError(message, hint=f"give numbers from 1 to {dataset.count}")
        rows, columns = dataset.block_shapes[0]
        block = rows * columns * sum(np.dtype(dataset.dtypes[band - 1]).itemsize for band in bands)
        time = time_in(dataset.tags().get("TIFFTAG_DATETIME")) or time_in_name(path)
        position = position_of(dataset)
        placed = position is not None and is_usable(position, dataset.width, dataset.height)
        files = tuple(dataset.files)
        return Scene(dataset.width, dataset.height, bands, named, time, placed, block, files)


def look_at(path: Path, scene: Scene) -> Look:
    """Return how the values of a scene become colours, from a reduced image of it.

    Raises:
        DataError: the scene is missing or damaged.
    """
    with dataset_of(path) as dataset:
        return look_of(dataset, scene.bands)


class OpenScene:
    """A scene that is open: its rasterio dataset and its position."""

    def __init__(self, path: Path) -> None:
        """Open a scene.

        Raises:
            DataError: the file is missing, damaged, or not a raster.
        """
        self.dataset = open_scene(path)
        self.position: ScenePosition | None = position_of(self.dataset)

    def close(self) -> None:
        """Close the dataset."""
        self.dataset.close()


def read_tile(dataset: Any, tile: Tile) -> np.ndarray | None:
    """Read a tile as `(height, width, 3)` uint8, with black pixels where there is no data; None if it is empty.

    A tile is empty if every pixel has no data, zeros in all bands, or white in three bands that are not stretched, as
    the margins of aerial mosaics.
    """
    window = ((tile.y, tile.y + tile.height), (tile.x, tile.x + tile.width))
    values = dataset.read(tile.bands, window=window)
    valid = valid_pixels(dataset, tile.bands, values, tile.look, window=window)
    filled = valid if is_palette(dataset, tile.bands) else valid & values.any(axis=0)  # 0 of a palette is a colour
    if len(tile.bands) == 3 and tile.look.stretch is None:
        filled &= (values < 255).any(axis=0)
    if not filled.any():
        return None
    pixels = in_eight_bits(dataset, tile.bands, values, tile.look)
    return np.where(valid[..., None], pixels, np.uint8(0))


def read_window(path: Path, tile: Tile) -> bytes:
    """Return a tile as the bytes of a PNG.

    Raises:
        UsageError: rasterio is not installed.
        DataError: the scene is missing or damaged, or the tile is empty.
    """
    with dataset_of(path) as dataset:
        if tile.x + tile.width > dataset.width or tile.y + tile.height > dataset.height:
            raise DataError(f"{path} is smaller than when it was embedded", hint="run `dove embed` again")
        pixels = read_tile(dataset, tile)
    if pixels is None:
        raise DataError(f"{path} has no data in this tile any more", hint="run `dove embed` again")
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
