"""Where a scene lies on the Earth: the footprint of a window of it, and its ground sample distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Window = tuple[int, int, int, int]
"""First column, first row, width and height, in pixels."""

Box = tuple[float, float, float, float]
"""West, south, east and north in WGS84 degrees; west > east if it crosses the antimeridian."""

_Points = tuple[np.ndarray, np.ndarray]
_WGS84 = "EPSG:4326"
_EDGE = 23
"""Points on each side of a window: its corners and 21 more, as GDAL has."""

_DENSE = 101
"""Points along each side of the grid over a window that has a pole, or reaches beyond the Earth."""

_HALVINGS = 16
"""Steps by which the end of the Earth is found between two points of that grid."""

_WIDEST_GAP = 10.0
"""Degrees between neighbouring points of such a grid. A wider gap is not covered by the scene."""

_NEAR_POLE = 90 - 1e-6
_UNIT_SLACK = 0.05
_ROUND_TRIP = 1e-6


@dataclass(frozen=True)
class ScenePosition:
    """The conversion of pixels to coordinates of a CRS, by a transform, ground control points or RPCs."""

    crs: Any
    locate: Callable[[np.ndarray, np.ndarray], _Points]

    def footprint(self, window: Window) -> Box | None:
        """Return the bounding box of the part of a window that is on the Earth; None if no part is.

        The whole width of the Earth is from -180 to 180. Errors of PROJ, which have no common base class, are those of
        a CRS that cannot be converted to degrees.
        """
        x, y, width, height = window
        steps = np.linspace(0, 1, _EDGE)[:-1]
        ones, zeros = np.ones_like(steps), np.zeros_like(steps)
        ring_x = np.concatenate([steps, ones, 1 - steps, zeros]) * width + x
        ring_y = np.concatenate([zeros, steps, ones, 1 - steps]) * height + y
        longitudes, latitudes = self._degrees(ring_x, ring_y)
        is_there = np.isfinite(longitudes) & np.isfinite(latitudes)
        if self.crs.is_geographic and is_there.all():
            return _box(longitudes.min(), latitudes.min(), longitudes.max(), latitudes.max())
        if is_there.all() and np.abs(latitudes).max() < _NEAR_POLE:
            unwrapped = np.unwrap(np.append(longitudes, longitudes[0]), period=360)
            if abs(unwrapped[-1] - unwrapped[0]) < 180:  # else the outline goes around a pole
                return _box(unwrapped.min(), latitudes.min(), unwrapped.max(), latitudes.max())
            return self._box_of_grid(window, has_pole=True)
        return self._box_of_grid(window, has_pole=False)

    def metres_per_pixel(self, window: Window) -> float | None:
        """Return the ground sample distance: the square root of the area of the pixel in the middle of a window.

        It is the pixel size in the units of the CRS, unless that differs by more than 5 % from the size measured on
        the ellipsoid. For example, a metre of Web Mercator is half a metre at 60 degrees. None if it is not on the
        Earth.
        """
        middle = self._middle(window)
        if middle is None:
            return None
        columns, rows = middle[0] + np.array([0.0, 1, 0]), middle[1] + np.array([0.0, 0, 1])
        longitudes, latitudes = self._degrees(columns, rows)
        measured = math.sqrt(_area(*_earth_centred(longitudes, latitudes)))
        if self.crs.is_geographic or not math.isfinite(measured):
            return _rounded(measured) if math.isfinite(measured) else None
        xs, ys = self.locate(columns, rows)
        area = abs((xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0]))
        in_units = math.sqrt(area) * float(self.crs.linear_units_factor[1])
        return _rounded(in_units if abs(measured - in_units) <= _UNIT_SLACK * in_units else measured)

    def _middle(self, window: Window) -> tuple[float, float] | None:
        """Return the point of a window on the Earth that is nearest to its middle, as column and row."""
        x, y, width, height = window
        middle = x + width / 2 - 0.5, y + height / 2 - 0.5
        if np.isfinite(self._degrees(*(np.array([value, value + 1]) for value in middle))).all():
            return middle
        columns, rows, longitudes, _ = self._grid(window)
        if not len(longitudes):
            return None
        nearest = int(np.argmin((columns - middle[0]) ** 2 + (rows - middle[1]) ** 2))
        return float(columns[nearest]), float(rows[nearest])

    def _box_of_grid(self, window: Window, *, has_pole: bool) -> Box | None:
        _, _, longitudes, latitudes = self._grid(window)
        if not len(longitudes):
            return None
        south, north = float(latitudes.min()), float(latitudes.max())
        if has_pole:
            return (-180.0, south, 180.0, 90.0) if north > -south else (-180.0, -90.0, 180.0, north)
        off_pole = np.sort(longitudes[np.abs(latitudes) < _NEAR_POLE] % 360)
        gaps = np.diff(np.append(off_pole, off_pole[0] + 360))
        widest = int(np.argmax(gaps))
        if gaps[widest] < _WIDEST_GAP:
            return -180.0, south, 180.0, north
        west = float(off_pole[(widest + 1) % len(off_pole)])
        return _box(west, south, west + 360 - float(gaps[widest]), north)

    def _grid(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return columns, rows, longitudes and latitudes of points of a window that are on the Earth.

        They are those of a dense grid and, where the Earth ends between two of these, the last points before its end.
        """
        x, y, width, height = window
        steps = np.linspace(0, 1, _DENSE)
        columns, rows = np.meshgrid(steps * width + x, steps * height + y)
        is_there = np.isfinite(self._degrees(columns.ravel(), rows.ravel())[0]).reshape(columns.shape)
        points = np.stack([columns, rows], axis=-1)
        inside, outside = [points[is_there]], list[np.ndarray]()
        for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
            for last, beyond in ((one, other), (other, one)):
                ends = is_there[last] & ~is_there[beyond]
                inside.append(points[last][ends])
                outside.append(points[beyond][ends])
        near, far = np.concatenate(inside[1:]), np.concatenate(outside)
        for _ in range(_HALVINGS if len(near) else 0):
            middle = (near + far) / 2
            ends = np.isfinite(self._degrees(middle[:, 0], middle[:, 1])[0])
            near, far = np.where(ends[:, None], middle, near), np.where(ends[:, None], far, middle)
        found = np.concatenate([inside[0], near])
        return found[:, 0], found[:, 1], *self._degrees(found[:, 0], found[:, 1])

    def _degrees(self, columns: np.ndarray, rows: np.ndarray) -> _Points:
        """Return longitudes and latitudes of pixel corners; not finite beyond the Earth.

        Those of a geographic CRS are not wrapped: they go on beyond 180 degrees as the scene does.
        """
        if not len(columns):
            return columns, rows
        xs, ys = self.locate(columns, rows)
        if self.crs.is_geographic:
            limit = math.radians(90) / float(self.crs.units_factor[1])
            ys = ys.clip(-limit, limit)
            longitudes, latitudes = _reprojected(self.crs, _WGS84, xs, ys)
            raw = np.degrees(xs * float(self.crs.units_factor[1]))
            return longitudes + 360 * np.round((raw - longitudes) / 360), latitudes
        longitudes, latitudes = _reprojected(self.crs, _WGS84, xs, ys)
        # Some projections give a place on the Earth for points beyond it: such a place leads back to another point.
        again = _reprojected(_WGS84, self.crs, longitudes, latitudes)
        slack = _ROUND_TRIP * max(1.0, float(np.abs(xs).max()), float(np.abs(ys).max()))
        is_there = (np.abs(again[0] - xs) <= slack) & (np.abs(again[1] - ys) <= slack)
        return np.where(is_there, longitudes, np.nan), np.where(is_there, latitudes, np.nan)


def position_of(dataset: Any) -> ScenePosition | None:
    """Return the position of a scene from its transform, its ground control points, or its RPCs; None without one.

    RPCs are evaluated at the middle of their heights. A CRS may be in a `.prj` file beside the scene, as of ArcGIS.
    """
    transform = dataset.transform
    if not transform.is_identity:
        crs = dataset.crs or _crs_beside(Path(dataset.name))
        return ScenePosition(crs, lambda x, y: _moved(transform, x, y)) if crs is not None else None
    points, crs = dataset.gcps
    if len(points) >= 3 and crs is not None:
        return ScenePosition(crs, _by_points(points, crs.is_geographic))
    if dataset.rpcs is not None:
        return _by_coefficients(dataset.rpcs)
    return None


def is_usable(position: ScenePosition, width: int, height: int) -> bool:
    """Tell whether a scene can be placed in degrees."""
    try:
        return position.footprint((0, 0, width, height)) is not None
    except Exception:  # PROJ's errors have no common base class, for example for a local or unknown CRS
        return False


def _reprojected(source: Any, target: Any, xs: np.ndarray, ys: np.ndarray) -> _Points:
    """Convert points from one CRS to another; those that cannot be converted become NaN.

    GDAL converts all points of a call or raises an error, so a part without an error is found by halving.
    """
    from rasterio.errors import CRSError  # noqa: PLC0415
    from rasterio.warp import transform  # noqa: PLC0415

    if not len(xs):
        return xs, ys
    try:
        return _converted(transform(source, target, xs, ys))
    except CRSError:
        raise
    except Exception:  # PROJ's errors have no common base class
        if len(xs) == 1:
            return np.array([np.nan]), np.array([np.nan])
    half = len(xs) // 2
    parts = [_reprojected(source, target, xs[part], ys[part]) for part in (slice(half), slice(half, None))]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _moved(transform: Any, x: np.ndarray, y: np.ndarray) -> _Points:
    a, b, left, d, e, top, *_ = transform
    return a * x + b * y + left, d * x + e * y + top


def _crs_beside(path: Path) -> Any:
    from rasterio.crs import CRS  # noqa: PLC0415
    from rasterio.errors import CRSError  # noqa: PLC0415

    try:
        return CRS.from_wkt(path.with_suffix(".prj").read_text())
    except (OSError, ValueError, CRSError):
        return None


def _by_points(points: Any, is_geographic: bool) -> Callable[[np.ndarray, np.ndarray], _Points]:
    from rasterio.control import GroundControlPoint  # noqa: PLC0415
    from rasterio.transform import GCPTransformer  # noqa: PLC0415

    across = is_geographic and max(point.x for point in points) - min(point.x for point in points) > 180
    whole = [
        GroundControlPoint(point.row, point.col, point.x % 360 if across else point.x, point.y, point.z or 0.0)
        for point in points
    ]
    transformer = GCPTransformer(whole)
    return lambda x, y: _converted(transformer.xy(y, x, offset="ul"))


def _by_coefficients(rpcs: Any) -> ScenePosition:
    from rasterio.crs import CRS  # noqa: PLC0415
    from rasterio.transform import RPCTransformer  # noqa: PLC0415

    transformer = RPCTransformer(rpcs, RPC_HEIGHT=rpcs.height_off)
    return ScenePosition(CRS.from_epsg(4326), lambda x, y: _converted(transformer.xy(y, x, offset="ul")))


def _converted(values: Any) -> _Points:
    xs, ys = (np.asarray(one, np.float64) for one in values[:2])
    return xs, ys


def _box(west: float, south: float, east: float, north: float) -> Box:
    if east - west >= 360:
        return -180.0, float(south), 180.0, float(north)
    west, east = float(west), float(east)
    if not -180 <= west < 180:
        west = (west + 180) % 360 - 180
    if not -180 < east <= 180:
        east = 180 - (180 - east) % 360
    return west, float(south), east, float(north)


def _rounded(value: float) -> float:
    """Return a length without the noise of large coordinates."""
    return float(f"{value:.9g}")


def _earth_centred(longitudes: np.ndarray, latitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return metres from the Earth's centre (x, y, z) of points on the WGS84 ellipsoid."""
    semi_major, squared_eccentricity = 6378137.0, 0.00669437999014
    lon, lat = np.radians(longitudes), np.radians(latitudes)
    radius = semi_major / np.sqrt(1 - squared_eccentricity * np.sin(lat) ** 2)
    flat = radius * np.cos(lat)
    return flat * np.cos(lon), flat * np.sin(lon), radius * (1 - squared_eccentricity) * np.sin(lat)


def _area(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
    """Return the area of the parallelogram that three points begin."""
    points = np.stack([x, y, z], axis=1)
    return float(np.linalg.norm(np.cross(points[1] - points[0], points[2] - points[0])))
