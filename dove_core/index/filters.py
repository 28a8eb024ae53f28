"""Filters of rows by place, time, source, resolution and tags; every row is checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from dove_core.config import FilterConfig
from dove_core.errors import UsageError
from dove_core.index.rows import BOX, UNKNOWN_SECOND, Box, RowTable, as_bools, span_of

_EARTH = 6_371_008.8
"""Mean radius in metres (IUGG)."""

_UNITS = {"m": 1.0, "km": 1e3, "mi": 1609.344, "nmi": 1852.0}
_ENDLESS = ("..", "")


def kept_rows(table: RowTable, filters: FilterConfig) -> np.ndarray | None:
    """Return `(N,)` bool, the rows that pass every filter; None without filters.

    A row without a value, for example without a time, does not pass a filter of that value.

    Raises:
        UsageError: a filter is invalid.
    """
    masks = [
        mask(table, value)
        for mask, value in (
            (_in_box, filters.bbox),
            (_at_time, filters.datetime),
            (_of_source, filters.source),
            (_with_tags, filters.tag),
        )
        if value
    ]
    if filters.near or filters.within:
        circle = parse_circle(filters.near, filters.within)
        masks.append(circle.holds(*(table.numbers(name) for name in BOX)))
    if filters.max_gsd:
        masks.append(table.numbers("gsd") <= filters.max_gsd)  # false for NaN
    if not masks:
        return None
    kept: np.ndarray = np.logical_and.reduce(masks)
    return kept


def parse_box(text: str) -> Box:
    """Return west, south, east and north of `W,S,E,N` in degrees; west > east crosses the antimeridian.

    Raises:
        UsageError: the text is not a valid box.
    """
    hint = "give west,south,east,north in degrees, such as --bbox 5.9,45.8,10.5,47.8"
    west, south, east, north = _numbers("--bbox", text, 4, hint)
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise UsageError(f"--bbox {text} is out of range, or its south is greater than its north", hint=hint)
    return west, south, east, north


def parse_interval(text: str) -> tuple[int | None, int | None]:
    """Return the first and last second of a STAC interval: `2018-01-01/2020-12-31`, `../2019`, `2019-07`.

    Raises:
        UsageError: the text is not a valid interval.
    """
    hint = "give an interval such as 2018-01-01/2020-12-31, ../2019, 2019-07/.. or 2020"
    ends = text.strip().split("/")
    if len(ends) > 2 or all(end in _ENDLESS for end in ends):
        raise UsageError(f"--datetime {text!r} is not a valid interval", hint=hint)
    spans = [_span(end, text, hint) for end in ends]
    first, last = spans[0][0], spans[-1][1]
    if first is not None and last is not None and first > last:
        raise UsageError(f"--datetime {text} ends before it begins", hint=hint)
    return first, last


def parse_distance(text: str) -> float:
    """Return the metres of a distance such as `25km`, `500m`, `3mi` or `2nmi`.

    Raises:
        UsageError: the text is not a valid distance.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(m|km|mi|nmi)\s*", text)
    if not match or not float(match[1]):
        raise UsageError(f"--within {text!r} is not a valid distance", hint="use 25km, 500m, 3mi or 2nmi, for example")
    return float(match[1]) * _UNITS[match[2]]


def _in_box(table: RowTable, text: str) -> np.ndarray:
    """Return which footprints intersect a box."""
    west, south, east, north = parse_box(text)
    xmin, ymin, xmax, ymax = (table.numbers(name) for name in BOX)
    meets = np.zeros(len(table), bool)
    # Both may cross the antimeridian. The box is split into one or two intervals that do not.
    for left, right in ((west, east),) if west <= east else ((west, 180.0), (-180.0, east)):
        plain = (xmin <= right) & (xmax >= left)
        crossing = (xmin <= right) | (xmax >= left)
        meets |= np.where(xmin <= xmax, plain, crossing)
    inside: np.ndarray = meets & (ymin <= north) & (ymax >= south) & ~np.isnan(xmin)
    return inside


@dataclass(frozen=True)
class Circle:
    """The points within `metres` of a point on the sphere; latitude and longitude are in degrees."""

    latitude: float
    longitude: float
    metres: float

    def holds(self, xmin: np.ndarray, ymin: np.ndarray, xmax: np.ndarray, ymax: np.ndarray) -> np.ndarray:
        """Return which footprints `(N,)` have their centre in the circle (haversine); false if a corner is NaN."""
        across = np.where(xmin > xmax, 360.0, 0.0)
        latitudes, longitudes = np.radians((ymin + ymax) / 2), np.radians((xmin + xmax + across) / 2)
        latitude, longitude = math.radians(self.latitude), math.radians(self.longitude)
        haversine = (
            np.sin((latitudes - latitude) / 2) ** 2
            + math.cos(latitude) * np.cos(latitudes) * np.sin((longitudes - longitude) / 2) ** 2
        )
        metres = 2 * _EARTH * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))
        inside: np.ndarray = metres <= self.metres
        return inside

    @property
    def box(self) -> Box:
        """Return west, south, east and north of a slightly larger box that contains the circle."""
        angle = self.metres / _EARTH * (1 + 1e-6) + 1e-7
        south, north = self.latitude - math.degrees(angle), self.latitude + math.degrees(angle)
        if south <= -90 or north >= 90:  # the circle contains a pole
            return -180.0, south, 180.0, north
        across = math.degrees(math.asin(math.sin(angle) / math.cos(math.radians(self.latitude)))) + 1e-6
        west, east = self.longitude - across, self.longitude + across
        return west + 360 * (west < -180), south, east - 360 * (east > 180), north


def parse_circle(near: str, within: str) -> Circle:
    """Return the circle of `LAT,LON` and a distance.

    Raises:
        UsageError: one of them is missing or invalid.
    """
    hint = "give both in degrees, latitude first: --near LAT,LON --within 25km"
    if not (near and within):
        raise UsageError("--near and --within need each other", hint=hint)
    latitude, longitude = _numbers("--near", near, 2, hint)
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise UsageError(f"--near {near} is out of range", hint=hint)
    return Circle(latitude, longitude, parse_distance(within))


def parse_sources(text: str) -> list[str]:
    """Return the names in a list such as `CH,US`.

    Raises:
        UsageError: the list is empty.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--source {text!r} has no source code", hint="use --source CH,US, for example")
    return names


def parse_tags(text: str) -> list[tuple[str, str | None]]:
    """Return the keys and values of `highway=motorway,bridge`; a key without a value has None.

    Raises:
        UsageError: a key is missing.
    """
    tags = []
    for tag in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = tag.partition("=")
        if not key:
            raise UsageError(f"--tag {text!r}: {tag!r} has no key", hint="use highway=motorway or highway, for example")
        tags.append((key, value if equals else None))
    return tags


def no_such_source(text: str, existing: Iterable[str]) -> UsageError:
    """Return the error for a source that no image has; its hint lists the existing ones."""
    names = sorted(filter(None, existing))
    hint = (
        f"it has images from {', '.join(names[:20])}" if names else "remove --source: its images have no source codes"
    )
    return UsageError(f"--source {text}: the index has no image from it", hint=hint)


def _at_time(table: RowTable, text: str) -> np.ndarray:
    """Return which images were taken in an interval, or may have been if their time is not precise."""
    first, last = parse_interval(text)
    starts, stops = table.numbers("first_second"), table.numbers("last_second")
    found: np.ndarray = starts != UNKNOWN_SECOND
    if first is not None:
        found = found & (stops >= first)
    if last is not None:
        found = found & (starts <= last)
    return found


def _of_source(table: RowTable, text: str) -> np.ndarray:
    pattern = f"^(?:{'|'.join(map(re.escape, parse_sources(text)))})$"
    found = as_bools(pc.match_substring_regex(table.column("source"), pattern))
    if not found.any():
        raise no_such_source(text, pc.unique(table.column("source")).to_pylist())
    return found


def _with_tags(table: RowTable, text: str) -> np.ndarray:
    """Return which images have every tag of `highway=motorway,bridge`; a key matches with any value."""
    found = np.ones(len(table), bool)
    for key, value in parse_tags(text):
        found &= tagged(table, key, value)
    return found


def tagged(table: RowTable, key: str, value: str | None = None) -> np.ndarray:
    """Return which images `(N,)` bool have a tag; without a value, with any value."""
    # Tags are stored as JSON, in which a string has only one form. A key is preceded by "{" or ", ".
    tag = f"{_quoted(key)}: " + (_quoted(value) if value is not None else '"')
    first, later = (as_bools(pc.match_substring(table.column("tags"), before + tag)) for before in ("{", ", "))
    found: np.ndarray = first | later
    return found


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _numbers(option: str, text: str, count: int, hint: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise UsageError(f"{option} {text!r} is not {count} numbers", hint=hint)
    return values


def _span(end: str, text: str, hint: str) -> tuple[int | None, int | None]:
    if end in _ENDLESS:
        return None, None
    plain = end.strip().upper()  # RFC 3339 allows lower case
    zone = re.fullmatch(r"(.{10}[T ].*?)(\.\d+)?(Z|[+-]\d\d(?::?\d\d)?)?", plain)
    span = span_of(plain if zone is None else zone[1].replace(" ", "T")) if plain.isascii() else None
    shift = _seconds_of_zone(zone[3] or "Z") if zone else 0
    if span is None or shift is None:
        raise UsageError(f"--datetime {text!r}: {end!r} is not a valid time", hint=hint)
    return span[0] - shift, span[1] - shift


def _seconds_of_zone(zone: str) -> int | None:
    """Return by how many seconds the clocks of a zone such as `Z`, `+02:00` or `-0330` are ahead; None if invalid."""
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].removeprefix(":") or 0)
    if hours > 23 or minutes > 59:
        return None
    return (-1 if zone[0] == "-" else 1) * (3600 * hours + 60 * minutes)
