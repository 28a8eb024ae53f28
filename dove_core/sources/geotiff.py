"""GeoTIFF scenes through rasterio: what they are, where a window of them lies, and how it looks in colours."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dove_core.errors import DataError, UsageError
from dove_core.sources.source import time_in

CACHE_BYTES = 128 * 2**20
"""What GDAL may keep of the blocks it read, in each process: a row of tiles shares blocks with the next."""

_LONGEST = 1024
"""Longer side of the decimated read that percentiles come from, in pixels."""

_STRIP = 64
_PERCENTILES = (2, 98)
_WGS84 = "EPSG:4326"
_ADDRESS = re.compile(
    r"(?s)(?P<scene>.+)#window=(?P<window>\d+,\d+,\d+,\d+)&bands=(?P<bands>\d+(?:,\d+)*)(?:&stretch=(?P<stretch>[^&]+))?"
)
_UNIT_SLACK = 0.05
_HINT = "expected a whole GeoTIFF; `gdalinfo` says what is wrong with it"


@dataclass(frozen=True)
class Tile:
    """A window of a scene in pixels, and how its values become colours: all that is needed to see it again.

    `bands` are one or three numbers from 1. `stretch` holds the values that become black and white; None leaves 8 bits
    as they are.
    """

    x: int
    y: int
    width: int
    height: int
    bands: tuple[int, ...]
    stretch: tuple[float, float] | None = None

    def address(self, scene: str) -> str:
        """Return what `tile_of` takes apart: `scene.tif#window=0,0,256,256&bands=1,2,3&stretch=12.0,2800.0`."""
        window = f"{self.x},{self.y},{self.width},{self.height}"
        stretch = f"&stretch={self.stretch[0]!r},{self.stretch[1]!r}" if self.stretch else ""
        return f"{scene}#window={window}&bands={','.join(map(str, self.bands))}{stretch}"


@dataclass(frozen=True)
class Scene:
    """What is known of a scene: its size in pixels, which bands are looked at, and its time.

    `placed` tells whether it says where it lies; `block_bytes` is what the file makes one read at least.
    """

    width: int
    height: int
    bands: tuple[int, ...]
    time: str | None
    placed: bool
    block_bytes: int


def tile_of(address: str) -> tuple[str, Tile] | None:
    """Return a scene's name and the tile of it that an address names, or None if it is no such address."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    x, y, width, height = map(int, match["window"].split(","))
    bands = tuple(map(int, match["bands"].split(",")))
    low, _, high = (match["stretch"] or "").partition(",")
    return match["scene"], Tile(x, y, width, height, bands, (float(low), float(high)) if high else None)


def open_scene(path: Path) -> Any:
    """Open a scene as a rasterio dataset, to be read within `gdal()`.

    Raises:
        UsageError: rasterio is not installed.
        DataError: the file is missing, damaged, or no raster.
    """
    try:
        import rasterio  # noqa: PLC0415  # an extra that only scenes need
        from rasterio.errors import NotGeoreferencedWarning, RasterioError  # noqa: PLC0415
    except ImportError as error:
        message = f"{path} is read through rasterio, which is not installed"
        raise UsageError(message, hint="pip install rasterio") from error
    try:
        with gdal(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioError as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_HINT) from error


def gdal() -> Any:
    """Return a context for reading, in which what GDAL keeps is bounded and what it complains of becomes errors."""
    import rasterio  # noqa: PLC0415

    return rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a scene for as long as the context lasts.

    Raises:
        UsageError: rasterio is not installed.
        DataError: the file is missing, damaged, or no raster.
    """
    dataset = open_scene(path)
    from rasterio.errors import RasterioError  # noqa: PLC0415

    try:
        with gdal(), dataset:
            yield dataset
    except RasterioError as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_HINT) from error


def look_at(path: Path, wanted: tuple[int, ...] = ()) -> Scene:
    """Find out what a scene is.

    Args:
        path: a GeoTIFF.
        wanted: numbers of one or three bands; none: those that the file calls red, green and blue, else the first three
            that are no alpha band, else the first.

    Raises:
        UsageError: a band is wanted that is not there.
        DataError: the file is damaged, or its values are complex numbers.
    """
    with opened(path) as dataset:
        if any("complex" in kind for kind in dataset.dtypes):
            raise DataError(f"{path} holds complex numbers", hint="make an intensity image of it first")
        bands = wanted or _colour_bands(dataset)
        if max(bands) > dataset.count:
            message = f"--bands {','.join(map(str, bands))}: {path} has {dataset.count} band(s)"
            raise UsageError(message, hint="bands are counted from 1")
        rows, columns = dataset.block_shapes[0]
        block = rows * columns * sum(np.dtype(dataset.dtypes[band - 1]).itemsize for band in bands)
        time = time_in(dataset.tags().get("TIFFTAG_DATETIME"))
        return Scene(dataset.width, dataset.height, bands, time, _is_placed(dataset), block)


def stretch_of(path: Path, scene: Scene) -> tuple[float, float] | None:
    """Return the 2nd and 98th percentile of a scene's values, of all its bands together; None if they are 8 bits.

    They come from a read at most 1,024 pixels long, out of the file's overviews if it has any; nothing counts that is
    marked as no data, zero in every band, or unreadable.

    Raises:
        DataError: the scene is not there any more.
    """
    with opened(path) as dataset:
        if all(dataset.dtypes[band - 1] == "uint8" for band in scene.bands):
            return None
        values = [np.zeros(0), *_decimated(dataset, scene)]
    low, high = np.percentile(np.concatenate(values), _PERCENTILES) if len(values) > 1 else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _decimated(dataset: Any, scene: Scene) -> Iterator[np.ndarray]:
    """Yield the values with data of a smaller image of the scene, a strip of it at a time."""
    shrink = max(1.0, max(scene.width, scene.height) / _LONGEST)
    width, height = max(1, round(scene.width / shrink)), max(1, round(scene.height / shrink))
    for start in range(0, height, _STRIP):
        stop = min(start + _STRIP, height)
        rows = (round(start * scene.height / height), round(stop * scene.height / height))
        how = {"window": (rows, (0, scene.width)), "out_shape": (len(scene.bands), stop - start, width)}
        try:
            values = dataset.read(scene.bands, **how).astype(np.float64)
            valid = _valid(dataset, values, **{**how, "out_shape": how["out_shape"][1:]}) & values.any(axis=0)
        except OSError:  # what rasterio raises for a damaged block
            continue
        if valid.any():
            yield values[:, valid].ravel()


def read_tile(dataset: Any, tile: Tile) -> np.ndarray | None:
    """Read a tile as `(height, width, 3)` uint8, black where there is no data; None if there is nothing in it.

    Nothing is: every pixel is marked as no data, or zero in every band.
    """
    window = ((tile.y, tile.y + tile.height), (tile.x, tile.x + tile.width))
    values = dataset.read(tile.bands, window=window)
    valid = _valid(dataset, values, window=window)
    if not (valid & values.any(axis=0)).any():
        return None
    if tile.stretch is not None:
        low, high = tile.stretch
        scaled = (np.nan_to_num(values.astype(np.float32)) - np.float32(low)) * np.float32(255 / (high - low))
        values = scaled.round().clip(0, 255).astype(np.uint8)
    pixels: np.ndarray = np.moveaxis(_in_colours(dataset, tile.bands, values), 0, -1)
    return np.where(valid[..., None], pixels, np.uint8(0))


def read_window(path: Path, tile: Tile) -> bytes:
    """Return a tile as the bytes of a PNG.

    Raises:
        UsageError: rasterio is not installed.
        DataError: the scene is missing or damaged, or holds nothing there.
    """
    with opened(path) as dataset:
        if tile.x + tile.width > dataset.width or tile.y + tile.height > dataset.height:
            raise DataError(f"{path} is smaller than it was", hint=_HINT)
        pixels = read_tile(dataset, tile)
    if pixels is None:
        raise DataError(f"{path} holds nothing any more where the tile was", hint=_HINT)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def footprint(dataset: Any, tile: Tile) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a tile in WGS84 degrees: the box around its outline.

    West is greater than east across the 180th meridian.
    """
    from rasterio.warp import transform_bounds  # noqa: PLC0415

    corners = _corners(dataset, tile)
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    bounds = transform_bounds(dataset.crs, _WGS84, min(xs), min(ys), max(xs), max(ys), densify_pts=21)
    west, south, east, north = (float(value) for value in bounds)
    return _wrapped(west), south, _wrapped(east), north


def metres_per_pixel(dataset: Any, tile: Tile) -> float:
    """Return the side of a square with the area that a pixel of a tile has on the ground.

    A projected scene's own unit counts, unless it is off by more than a twentieth there: Web Mercator's metres are half
    a metre long at 60 degrees. Elsewhere the tile's corners, in degrees, are measured at their latitude.
    """
    from rasterio.warp import transform  # noqa: PLC0415

    corners = _corners(dataset, tile)
    longitudes, latitudes = transform(dataset.crs, _WGS84, [x for x, _ in corners], [y for _, y in corners])
    middle = math.radians(sum(latitudes) / len(latitudes))
    # Lengths of a degree on the WGS84 ellipsoid: a series that is right to a centimetre.
    north = 111132.954 - 559.822 * math.cos(2 * middle) + 1.175 * math.cos(4 * middle)
    east = 111412.84 * math.cos(middle) - 93.5 * math.cos(3 * middle) + 0.118 * math.cos(5 * middle)
    xs = [((longitude - longitudes[0] + 180) % 360 - 180) * east for longitude in longitudes]
    ys = [(latitude - latitudes[0]) * north for latitude in latitudes]
    area = abs(sum(xs[k - 1] * ys[k] - xs[k] * ys[k - 1] for k in range(len(xs)))) / 2
    measured = math.sqrt(area / (tile.width * tile.height))
    if not dataset.crs.is_projected:
        return measured
    a, b, _, d, e, *_ = dataset.transform
    own: float = math.sqrt(abs(a * e - b * d)) * dataset.crs.linear_units_factor[1]
    return own if abs(measured - own) <= _UNIT_SLACK * own else measured


def _corners(dataset: Any, tile: Tile) -> list[tuple[float, float]]:
    a, b, left, d, e, top, *_ = dataset.transform
    right, bottom = tile.x + tile.width, tile.y + tile.height
    ends = [(tile.x, tile.y), (right, tile.y), (right, bottom), (tile.x, bottom)]
    return [(a * x + b * y + left, d * x + e * y + top) for x, y in ends]


def _wrapped(longitude: float) -> float:
    """Bring a longitude between -180 and 180."""
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180


def _colour_bands(dataset: Any) -> tuple[int, ...]:
    called = {kind.name: band for band, kind in enumerate(dataset.colorinterp, start=1)}
    if {"red", "green", "blue"} <= called.keys():
        return called["red"], called["green"], called["blue"]
    coloured = [band for band, kind in enumerate(dataset.colorinterp, start=1) if kind.name != "alpha"] or [1]
    return tuple(coloured[:3]) if len(coloured) >= 3 else (coloured[0],)


def _in_colours(dataset: Any, bands: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    """Return `(3, H, W)`: three bands as they are, one as grey, or through its palette if it has one."""
    if len(bands) == 3:
        return values
    if dataset.colorinterp[bands[0] - 1].name == "palette" and values.dtype == np.uint8:
        palette = np.zeros((256, 3), np.uint8)
        for value, colour in dataset.colormap(bands[0]).items():
            palette[value] = colour[:3]
        return np.moveaxis(palette[values[0]], -1, 0)
    return np.broadcast_to(values, (3, *values.shape[1:]))


def _valid(dataset: Any, values: np.ndarray, **how: Any) -> np.ndarray:
    """Return which pixels hold data, `(H, W)`: by alpha band, mask or no-data value, and numbers only."""
    valid: np.ndarray = np.isfinite(values).all(axis=0)
    if any("all_valid" not in {flag.name for flag in flags} for flags in dataset.mask_flag_enums):
        valid &= dataset.dataset_mask(**how) > 0
    return valid


def _is_placed(dataset: Any) -> bool:
    """Tell whether a scene says where it lies, by a system that can be brought to degrees."""
    if dataset.crs is None or dataset.transform.is_identity:
        return False
    try:
        box = footprint(dataset, Tile(0, 0, dataset.width, dataset.height, (1,)))
    except Exception:  # PROJ's errors have no kind in common: a system of a building site, or one it does not know
        return False
    return all(map(math.isfinite, box))
