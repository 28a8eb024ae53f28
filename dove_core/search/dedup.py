"""Which of several hits show the same: nearly equal vectors, or footprints that overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dove_core.index.rows import Row

ALIKE = 0.98
"""Cosine from which two images count as nearly equal."""

OVERLAP = 0.5
"""Share of the smaller footprint from which two images count as of the same place."""


def distinct(rows: Sequence[Row], vectors: np.ndarray, count: int) -> list[int]:
    """Return the places of the first `count` rows of which none shows what an earlier one shows.

    Args:
        rows: hits, best first.
        vectors: `(N, D)`, theirs, of length 1.
        count: how many are wanted.
    """
    vectors = vectors.astype(np.float32)
    chosen: list[int] = []
    for place, row in enumerate(rows):
        if len(chosen) == count:
            break
        is_alike = bool(chosen) and float((vectors[chosen] @ vectors[place]).max()) >= ALIKE
        if not is_alike and not any(overlap(row, rows[other]) >= OVERLAP for other in chosen):
            chosen.append(place)
    return chosen


def overlap(one: Row, other: Row) -> float:
    """Return the share of the smaller of two footprints, in degrees, that lies in the other."""
    if one.box is None or other.box is None:
        return 0.0
    (west, south, east, north), (left, bottom, right, top) = one.box, other.box
    east, right = east + 360 * (west > east), right + 360 * (left > right)
    height = min(north, top) - max(south, bottom)
    width = max(min(east, right + turn) - max(west, left + turn) for turn in (-360, 0, 360))
    smaller = min((east - west) * (north - south), (right - left) * (top - bottom))
    if width <= 0 or height <= 0 or smaller <= 0:
        return 0.0
    return width * height / smaller
