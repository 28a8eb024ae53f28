"""Rows whose footprints intersect a GeoJSON geometry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from shapely.geometry import shape

from dove_core.errors import UsageError
from dove_core.index.rows import BOX, RowTable

_HINT = "give a GeoJSON geometry in degrees, longitude first, such as a Polygon with a closed ring"


def rows_intersecting(table: RowTable, geometry: Mapping[str, Any]) -> np.ndarray:
    """Return which footprints `(N,)` bool intersect a GeoJSON geometry.

    Raises:
        UsageError: the geometry is not valid.
    """
    wanted = _parsed(geometry)
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
        found = shapely.make_valid(shape(geometry))
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise UsageError(f"the geometry is not valid: {error}", hint=_HINT) from error
    bounds = found.bounds if not found.is_empty else (np.nan,)
    if not np.isfinite(bounds).all():
        raise UsageError("the geometry is empty, or has coordinates that are not numbers", hint=_HINT)
    return found
