"""GeoTIFF scenes, read with rasterio: their bands, and the footprint and colours of a tile."""

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
"""Size of GDAL's block cache in each process; neighbouring rows of tiles share blocks."""

_LONGEST = 1024
"""Longer side, in pixels, of the reduced image from which percentiles are computed."""

_STRIP = 64
_PERCENTILES = (2, 98)
_WGS84 = "EPSG:4326"
_ADDRESS = re.compile(
    r"(?s)(?P<scene>.+)#window=(?P<window>\d+,\d+,\d+,\d+)&bands=(?P<bands>\d+(?:,\d+)*)(?:&stretch=(?P<stretch>[^&]+))?"
)
_UNIT_SLACK = 0.05
_HINT = "expected a complete GeoTIFF; check it with `gdalinfo`"


@dataclass(frozen=True)
class Tile:
    """A window of a scene in pixels, and the conversion of its values to colours.

    `bands` are one or three band numbers from 1. `stretch` has the values that become black and white; None for 8-bit
    values, which stay unchanged.
    """

    x: int
    y: int
    width: int
    height: int
    bands: tuple[int, ...]
    stretch: tuple[float, float] | None = None

    def address(self, scene: str) -> str:
        """Return the address for `parse_tile`: `scene.tif#window=0,0,256,256&bands=1,2,3&stretch=12.0,2800.0`."""
        window = f"{self.x},{self.y},{self.width},{self.height}"
        stretch = f"&stretch={self.stretch[0]!r},{self.stretch[1]!r}" if self.stretch else ""
        return f"{scene}#window={window}&bands={','.join(map(str, self.bands))}{stretch}"


@dataclass(frozen=True)
class Scene:
    """Properties of a scene: its size in pixels, the bands to read, and its time.

    `placed` tells whether it has a usable position; `block_bytes` is the size of the smallest piece that can be read.
    """

    width: int
    height: int
    bands: tuple[int, ...]
    time: str | None
    placed: bool
    block_bytes: int


def parse_tile(address: str) -> tuple[str, Tile] | None:
    """Return the name of the scene and the tile of an address; None if the text is not the address of a tile."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    x, y, width, height = map(int, match["window"].split(","))
    bands = tuple(map(int, match["bands"].split(",")))
    low, _, high = (match["stretch"] or "").partition(",")
    return match["scene"], Tile(x, y, width, height, bands, (float(low), float(high)) if high else None)


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
            return rasterio.open(path)
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
        if any("complex" in kind for kind in dataset.dtypes):
            raise DataError(f"{path} has complex numbers", hint="convert it to an intensity image first")
        bands = wanted or _colour_bands(dataset)
        if max(bands) > dataset.count:
            message = f"--bands {','.join(map(str, bands))}: {path} has {dataset.count} band(s)"
            raise UsageError(message, hint=f"give numbers from 1 to {dataset.count}")
        rows, columns = dataset.block_shapes[0]
        block = rows * columns * sum(np.dtype(dataset.dtypes[band - 1]).itemsize for band in bands)
        time = time_in(dataset.tags().get("TIFFTAG_DATETIME"))
        return Scene(dataset.width, dataset.height, bands, time, _is_placed(dataset), block)


def stretch_of(path: Path, scene: Scene) -> tuple[float, float] | None:
    """Return the 2nd and 98th percentile of a scene's values over all its bands; None for 8-bit values.

    They are computed from a reduced image of at most 1,024 pixels, read from overviews if there are any. Pixels without
    data, with zeros in all bands, and in unreadable blocks are left out.

    Raises:
        DataError: the scene is missing or damaged.
    """
    with dataset_of(path) as dataset:
        if all(dataset.dtypes[band - 1] == "uint8" for band in scene.bands):
            return None
        values = [np.zeros(0), *_decimated(dataset, scene)]
    low, high = np.percentile(np.concatenate(values), _PERCENTILES) if len(values) > 1 else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _decimated(dataset: Any, scene: Scene) -> Iterator[np.ndarray]:
    """Yield the valid values of a reduced image of the scene, one strip at a time."""
    shrink = max(1.0, max(scene.width, scene.height) / _LONGEST)
    width, height = max(1, round(scene.width / shrink)), max(1, round(scene.height / shrink))
    for start in range(0, height, _STRIP):
        stop = min(start + _STRIP, height)
        rows = (round(start * scene.height / height), round(stop * scene.height / height))
        how = {"window": (rows, (0, scene.width)), "out_shape": (len(scene.bands), stop - start, width)}
        try:
            values = dataset.read(scene.bands, **how).astype(np.float64)
            valid = _valid(dataset, values, **{**how, "out_shape": how["out_shape"][1:]}) & values.any(axis=0)
        except OSError:  # raised by rasterio for a damaged block
            continue
        if valid.any():
            yield values[:, valid].ravel()


def read_tile(dataset: Any, tile: Tile) -> np.ndarray | None:
    """Read a tile as `(height, width, 3)` uint8, with black pixels where there is no data; None if it is empty.

    A tile is empty if every pixel has no data, or zeros in all bands.
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


def footprint(dataset: Any, tile: Tile) -> tuple[float, float, float, float]:
    """Return west, south, east and north in WGS84 degrees of the bounding box of a tile.

    West > east if it crosses the antimeridian.
    """
    from rasterio.warp import transform_bounds  # noqa: PLC0415

    corners = _corners(dataset, tile)
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    bounds = transform_bounds(dataset.crs, _WGS84, min(xs), min(ys), max(xs), max(ys), densify_pts=21)
    west, south, east, north = (float(value) for value in bounds)
    return _wrapped(west), south, _wrapped(east), north


def metres_per_pixel(dataset: Any, tile: Tile) -> float:
    """Return the ground sample distance of a tile: the square root of the area of a pixel on the ground.

    It is the pixel size in the units of the CRS, unless that differs by more than 5 % from the size measured between
    the tile's corners on the ellipsoid. For example, a metre of Web Mercator is half a metre at 60 degrees.
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
    in_units: float = math.sqrt(abs(a * e - b * d)) * dataset.crs.linear_units_factor[1]
    return in_units if abs(measured - in_units) <= _UNIT_SLACK * in_units else measured


def _corners(dataset: Any, tile: Tile) -> list[tuple[float, float]]:
    a, b, left, d, e, top, *_ = dataset.transform
    right, bottom = tile.x + tile.width, tile.y + tile.height
    ends = [(tile.x, tile.y), (right, tile.y), (right, bottom), (tile.x, bottom)]
    return [(a * x + b * y + left, d * x + e * y + top) for x, y in ends]


def _wrapped(longitude: float) -> float:
    """Return a longitude between -180 and 180."""
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180


def _colour_bands(dataset: Any) -> tuple[int, ...]:
    colours = {kind.name: band for band, kind in enumerate(dataset.colorinterp, start=1)}
    if {"red", "green", "blue"} <= colours.keys():
        return colours["red"], colours["green"], colours["blue"]
    visible = [band for band, kind in enumerate(dataset.colorinterp, start=1) if kind.name != "alpha"] or [1]
    return tuple(visible[:3]) if len(visible) >= 3 else (visible[0],)


def _in_colours(dataset: Any, bands: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    """Return `(3, H, W)`: three bands unchanged, one band with its palette, or else as grey."""
    if len(bands) == 3:
        return values
    if dataset.colorinterp[bands[0] - 1].name == "palette" and values.dtype == np.uint8:
        palette = np.zeros((256, 3), np.uint8)
        for value, colour in dataset.colormap(bands[0]).items():
            palette[value] = colour[:3]
        return np.moveaxis(palette[values[0]], -1, 0)
    return np.broadcast_to(values, (3, *values.shape[1:]))


def _valid(dataset: Any, values: np.ndarray, **how: Any) -> np.ndarray:
    """Return which pixels `(H, W)` are finite and have data by alpha band, mask and no-data value."""
    valid: np.ndarray = np.isfinite(values).all(axis=0)
    if any("all_valid" not in {flag.name for flag in flags} for flags in dataset.mask_flag_enums):
        valid &= dataset.dataset_mask(**how) > 0
    return valid


def _is_placed(dataset: Any) -> bool:
    """Tell whether a scene has a CRS and a transform that can be converted to degrees."""
    if dataset.crs is None or dataset.transform.is_identity:
        return False
    try:
        box = footprint(dataset, Tile(0, 0, dataset.width, dataset.height, (1,)))
    except Exception:  # PROJ's errors have no common base class, for example for a local or unknown CRS
        return False
    return all(map(math.isfinite, box))
