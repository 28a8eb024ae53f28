"""The map of a page: the part of the globe that it shows, and the positions of hits, markers and grid lines on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dove_core.answers.geo import bounds_of
from dove_core.index.rows import Box
from dove_core.search.query import Hit

NARROW, WIDE = 330, 1000
"""Widths of the map in pixels, on a phone and on a desktop, for which markers are laid out."""

_APART = (30.0, 21.0)
"""Least distance of two markers in pixels, across and down."""

_MARGIN = 0.15
_LEAST_MARGIN = 0.007
_FLATTEST, _STEEPEST = 2.5, 1.9
_WORLD_SOUTH, _WORLD_NORTH = -60.0, 80.0
_CUTS = (-180.0, -170.0, -30.0)
_FREE = 6.0
_WORLD_FROM = 180.0
_LAND_FROM = 30.0
_STEPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 45.0)
_MOST_MERIDIANS, _MOST_PARALLELS = 8, 6
_KM_A_DEGREE = 111.2


@dataclass(frozen=True)
class Line:
    """A line of the graticule: its position in percent of the map from west or from north, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Frame:
    """A rectangle on the map, in percent from its west and north."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Spot:
    """One hit on the map: its centre in percent from west and north, and its footprint."""

    rank: int
    x: float
    y: float
    frames: list[Frame]


@dataclass(frozen=True)
class Marker:
    """One marker for hits that are close together on the map; the first of `ranks` is the best."""

    x: float
    y: float
    ranks: list[int]

    @property
    def label(self) -> str:
        """Return `3`, or `3 +2` if the marker stands for two more hits."""
        return str(self.ranks[0]) + (f" +{len(self.ranks) - 1}" if len(self.ranks) > 1 else "")


@dataclass(frozen=True)
class View:
    """The part of the globe that a map shows, in degrees; `east` is over 180 if it crosses the 180th meridian.

    `aspect` is the map's width divided by its height.
    """

    west: float
    south: float
    east: float
    north: float
    aspect: float

    @property
    def shows_land(self) -> bool:
        """Return whether the map is wide enough for the simplified coastlines."""
        return self.east - self.west >= _LAND_FROM

    @property
    def is_world(self) -> bool:
        """Return whether the map shows all longitudes."""
        return self.east - self.west >= 360

    @property
    def width_km(self) -> float:
        """Return the width in kilometres at the latitude of the centre."""
        return _KM_A_DEGREE * (self.north - self.south) * self.aspect

    def frames(self, box: Box) -> list[Frame]:
        """Return the rectangles of a box: one, or two if it crosses the edge of a world map."""
        west, south, east, north = box
        east += 360 if west > east else 0
        return [
            Frame(self._x(west + turn), self._y(north), self._x(east) - self._x(west), self._y(south) - self._y(north))
            for turn in (-360, 0, 360)
            if west + turn < self.east and east + turn > self.west
        ]

    def spot(self, hit: Hit) -> Spot:
        """Return the position of a hit that has a place."""
        assert hit.row.place is not None
        longitude, latitude = hit.row.place
        x = self._x(self.west + (longitude - self.west) % 360)
        return Spot(hit.rank, x, self._y(latitude), self.frames(hit.row.box) if hit.row.box else [])

    def meridians(self) -> list[Line]:
        """Return the lines of longitude."""
        return [
            Line(self._x(at), _label((at + 180) % 360 - 180, "WE", digits))
            for at, digits in _multiples(self.west, self.east, _MOST_MERIDIANS)
        ]

    def parallels(self) -> list[Line]:
        """Return the lines of latitude."""
        return [
            Line(self._y(at), _label(at, "SN", digits))
            for at, digits in _multiples(self.south, self.north, _MOST_PARALLELS)
        ]

    def _x(self, longitude: float) -> float:
        return 100 * (longitude - self.west) / (self.east - self.west)

    def _y(self, latitude: float) -> float:
        return 100 * (self.north - latitude) / (self.north - self.south)


def view_of(hits: Sequence[Hit]) -> View | None:
    """Return the part of the globe around all hits that have a place, with a margin; None if no hit has one."""
    boxes = [hit.row.box or (*hit.row.place, *hit.row.place) for hit in hits if hit.row.place]
    if not boxes:
        return None
    west, south, east, north = bounds_of(boxes)
    east += 360 if west > east else 0
    middle = ((west + east) / 2, (south + north) / 2)
    squeeze = max(0.01, math.cos(math.radians(middle[1])))
    wide, tall = (east - west) * squeeze, north - south
    margin = max(_MARGIN * max(wide, tall), _LEAST_MARGIN)
    wide = max(wide + 2 * margin, _STEEPEST * (tall + 2 * margin))
    tall = min(180.0, max(tall + 2 * margin, wide / _FLATTEST))
    if wide / squeeze > _WORLD_FROM:
        return _world(boxes, south, north)
    bottom = min(max(-90.0, middle[1] - tall / 2), 90 - tall)
    half = wide / squeeze / 2
    return View(middle[0] - half, bottom, middle[0] + half, bottom + tall, wide / tall)


def _world(boxes: Sequence[Box], south: float, north: float) -> View:
    """Return a view of all longitudes that begins where no box is: at 180, at 170 W, or in the Atlantic at 30 W."""
    south, north = max(-90.0, min(_WORLD_SOUTH, south - 5)), min(90.0, max(_WORLD_NORTH, north + 5))
    spans = [(west, east + (360 if west > east else 0) - west) for west, _, east, _ in boxes]
    free = [cut for cut in _CUTS if all((cut - west + _FREE) % 360 > width + 2 * _FREE for west, width in spans)]
    left = free[0] if free else _CUTS[0]
    return View(left, south, left + 360, north, 360 / (north - south))


def markers_of(spots: Sequence[Spot], view: View, width: int) -> list[Marker]:
    """Return markers that do not cover each other on a map `width` pixels wide; markers of the best hits come first."""
    markers: list[Marker] = []
    for spot in spots:
        near = [(_distance(spot, marker, view, width), k) for k, marker in enumerate(markers)]
        distance, nearest = min(near, default=(math.inf, 0))
        if distance < 1:
            markers[nearest].ranks.append(spot.rank)
        else:
            markers.append(Marker(spot.x, spot.y, [spot.rank]))
    return markers


def _distance(spot: Spot, marker: Marker, view: View, width: int) -> float:
    """Return the distance of a spot from a marker's centre; below 1, their markers would cover each other."""
    x, y = width / 100 * (spot.x - marker.x), width / view.aspect / 100 * (spot.y - marker.y)
    return math.hypot(x / _APART[0], y / _APART[1])


def _multiples(low: float, high: float, most: int) -> Iterator[tuple[float, int]]:
    """Yield about `most` round numbers or fewer between two, each with its number of decimals."""
    step = next((step for step in _STEPS if (high - low) / step <= most), 60.0)
    digits = max(0, -math.floor(math.log10(step)))
    for k in range(math.ceil(low / step), math.floor(high / step) + 1):
        yield k * step, digits


def _label(degrees: float, signs: str, digits: int) -> str:
    number = f"{abs(degrees):.{digits}f}°"
    return number if round(abs(degrees), digits) in (0, 180) else f"{number} {signs[degrees > 0]}"
