"""Rows whose footprints intersect a GeoJSON geometry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
import shapely.affinity
from shapely.geometry import shape

from dove_core.errors import UsageError
from dove_core.index.rows import BOX, RowTable

_HINT = "give a GeoJSON geometry in degrees, longitude first, such as a Polygon with a closed ring"
_CROSSING = 200
"""Largest number of points of a polygon that crosses itself: to correct one takes time of at least their square."""

_WORLD = (-540.0, -90.0, 540.0, 90.0)
"""The box of coordinates: a polygon on a map may reach over the 180th meridian."""

_NOT_GEOJSON = (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


def rows_intersecting(table: RowTable, geometry: Mapping[str, Any]) -> np.ndarray:
    """Return which footprints `(N,)` bool intersect a GeoJSON geometry.

    Raises:
        UsageError: the geometry is not valid.
    """
    wanted, found = _parsed(geometry), np.zeros(len(table), bool)
    west, _, east, _ = wanted.bounds
    for turn in (-360.0, 0.0, 360.0):
        if west - turn <= 180 and east - turn >= -180:
            found |= _intersecting(table, shapely.affinity.translate(wanted, -turn))
    return found


def _intersecting(table: RowTable, wanted: Any) -> np.ndarray:
    """Return which footprints intersect a geometry, of which only what is between 180 west and 180 east counts."""
    west, south, east, north = wanted.bounds
    xmin, ymin, xmax, ymax = (table.numbers(name) for name in BOX)
    crossing = xmin > xmax
    near = (ymin <= north) & (ymax >= south) & (crossing | ((xmin <= east) & (xmax >= west)))
    found = np.zeros(len(table), bool)
    numbers = np.flatnonzero(near)
    shapely.prepare(wanted)
    for left, right in (  # a footprint across the 180th meridian has a part on each side of it
        (xmin[numbers], np.where(crossing[numbers], 180.0, xmax[numbers])),
        (np.where(crossing[numbers], -180.0, xmin[numbers]), xmax[numbers]),
    ):
        boxes = shapely.box(left, ymin[numbers], right, ymax[numbers])
        found[numbers] |= shapely.intersects(wanted, boxes)
    return found


def _parsed(geometry: Mapping[str, Any]) -> Any:
    try:
        found = shape(geometry)
        bounds = np.array((np.nan,) * 4 if found.is_empty else found.bounds)
    except (*_NOT_GEOJSON, RecursionError) as error:
        raise UsageError(f"the geometry is not valid: {error}", hint=_HINT) from error
    if not ((bounds[:2] >= _WORLD[:2]) & (bounds[2:] <= _WORLD[2:])).all():
        raise UsageError("the geometry is empty, or has coordinates that are not degrees", hint=_HINT)
    if shapely.is_valid(found):
        return found
    if shapely.get_num_coordinates(found) > _CROSSING:
        hint = f"give one that does not, or one of at most {_CROSSING} points"
        raise UsageError("the geometry has lines that cross each other", hint=hint)
    return shapely.make_valid(found, method="structure")
