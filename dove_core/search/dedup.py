"""Duplicates among hits: nearly equal embeddings, or overlapping footprints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dove_core.index.rows import Row

ALIKE = 0.98
"""Least cosine of two images that count as nearly equal."""

OVERLAP = 0.5
"""Least share of the smaller footprint that the other covers, for two images of one place."""


def distinct(rows: Sequence[Row], vectors: np.ndarray, count: int) -> list[int]:
    """Return the positions of the first `count` rows that do not duplicate a row chosen before.

    Args:
        rows: the rows, best first.
        vectors: `(N, D)`, their embeddings of length 1.
        count: number of rows to choose.
    """
    vectors = vectors.astype(np.float32)
    chosen: list[int] = []
    for position, row in enumerate(rows):
        if len(chosen) == count:
            break
        is_alike = bool(chosen) and float((vectors[chosen] @ vectors[position]).max()) >= ALIKE
        if not is_alike and not any(overlap(row, rows[other]) >= OVERLAP for other in chosen):
            chosen.append(position)
    return chosen


def overlap(one: Row, other: Row) -> float:
    """Return the share of the smaller of two footprints that the other covers, measured in degrees."""
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
