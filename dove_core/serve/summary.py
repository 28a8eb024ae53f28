"""What a collection says of all its images: where and when they were taken, their resolution and sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from dove_core.index.disk import SearchIndex
from dove_core.index.rows import BOX, UNKNOWN_SECOND, Box
from dove_core.index.searchable import Searchable

_WORLD: Box = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True)
class Summary:
    """Extent and resolution of the images; None where it is not known. Times are seconds since 1970."""

    box: Box = _WORLD
    first_second: int | None = None
    last_second: int | None = None
    gsd: tuple[float, float] | None = None
    sources: Sequence[str] = ()
    located: bool = True
    """Whether any image has a footprint; True where it is not known."""


def summary_of(index: Searchable) -> Summary:
    """Return the summary of an index on disk; that of a collection in Milvus says nothing."""
    if not isinstance(index, SearchIndex):
        return Summary()
    table = index.table
    first, last = table.numbers("first_second"), table.numbers("last_second")
    dated = first != UNKNOWN_SECOND
    gsd = table.numbers("gsd")
    gsd = gsd[~np.isnan(gsd)]
    return Summary(
        _around(*(table.numbers(name) for name in BOX)),
        int(first[dated].min()) if dated.any() else None,
        int(last[dated].max()) if dated.any() else None,
        (float(gsd.min()), float(gsd.max())) if len(gsd) else None,
        sorted(filter(None, pc.unique(table.column("source")).to_pylist())),
        bool((~np.isnan(table.numbers(BOX[0]))).any()),
    )


def _around(xmin: np.ndarray, ymin: np.ndarray, xmax: np.ndarray, ymax: np.ndarray) -> Box:
    """Return the box around all footprints; around the whole globe if one crosses the 180th meridian."""
    known = ~np.isnan(xmin)
    if not known.any():
        return _WORLD
    west, east = float(xmin[known].min()), float(xmax[known].max())
    if (xmin[known] > xmax[known]).any():
        west, east = -180.0, 180.0
    return west, float(ymin[known].min()), east, float(ymax[known].max())
