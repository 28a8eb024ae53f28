"""The rows nearest to a query: by codes first where there are many, exactly where there are few or it is wanted.

Codes only estimate a cosine. How far they can be trusted is seen in every query: the estimates of the candidates differ
from their exact cosines by some spread. Candidates are taken until the last estimate lies below the worst exact cosine
found by several spreads, so that hardly any row behind it can belong to the answer. How many that takes is foretold
from the first ones; where it is too many (queries far from all data), everything is compared at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dove_core.index.codes import Codes

FIRST = 512
"""Candidates at first."""

_GROWTH, _STEPS, _SHARE = 4, 3, 32
"""About so many times the candidates bring one spread more (measured); so often more are taken, up to such a share."""

SURE = 3.0
"""Spreads between the last candidate's estimate and the worst of the answer: measured in docs/results.md."""

FEW = 1 << 15
"""So many rows are compared exactly at once: that takes no longer than scanning codes."""

_DENSE = 2
"""Where a filter leaves less than this share of the rows, reading those is no slower than scanning all codes."""

_BLOCK = 1 << 8
"""Rows turned into float32 at once: they stay in a core's cache."""

TIES = 64
"""Rows more than wanted, so that of those that equal the last the first are known."""


def nearest(
    vectors: np.ndarray,
    query: np.ndarray,
    count: int,
    codes: Callable[[], Codes] | None,
    keep: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and cosines of the `count` vectors nearest to a query, best first; equal ones by row.

    Args:
        vectors: `(N, D)` float16, which may be mapped from a file.
        query: `(D,)` float32, of length 1.
        count: how many; fewer come back where there are fewer.
        codes: opens the codes; None compares everything exactly.
        keep: `(N,)` bool, which rows may be found; None for all.
    """
    kept = len(vectors) if keep is None else int(keep.sum())
    count = min(count, kept)
    if not count:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    if kept > FEW and codes is not None and (keep is None or kept > len(vectors) // _DENSE):
        found = _by_codes(vectors, query, count, codes(), keep, kept)
        if found is not None:
            return found
    if kept > FEW:
        return _scanned(vectors, query[None], count, keep)[0]
    rows = np.arange(kept) if keep is None else np.flatnonzero(keep)
    return best(rows, exactly(vectors, rows, query), count)


def nearest_many(
    vectors: np.ndarray,
    queries: np.ndarray,
    count: int,
    codes: Callable[[], Codes] | None,
    keep: np.ndarray | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each of several queries `(Q, D)` what `nearest` does: all are scanned for at once."""
    kept = len(vectors) if keep is None else int(keep.sum())
    if kept > FEW and (codes is None or kept <= len(vectors) // _DENSE):
        return _scanned(vectors, queries, min(count, kept), keep)
    if codes is None or keep is not None or kept <= FEW:
        return [nearest(vectors, query, count, codes, keep) for query in queries]
    candidates = zip(*codes().nearest(queries, _candidates(count)), strict=True)
    found, unsure = [], []
    for place, (query, (rows, estimates)) in enumerate(zip(queries, candidates, strict=True)):
        answer, margin = _compared(vectors, query, count, rows, estimates, float(estimates[-1]))
        found.append(answer)
        if margin < SURE:
            unsure.append(place)
    if unsure:
        for place, answer in zip(unsure, _scanned(vectors, queries[unsure], count, None), strict=True):
            found[place] = answer
    return found


def exactly(vectors: np.ndarray, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the cosines `(R,)` float32 of some rows, in ascending order, with a query `(D,)`."""
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        scores[part] = vectors[rows[part]].astype(np.float32) @ query
    return scores


def best(rows: np.ndarray, scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` best rows and their scores, equal ones (to a millionth) by row."""
    exact, scores = scores, np.rint(scores.astype(np.float64) * 1e6)  # equal vectors differ in their last bits
    near = np.argpartition(-scores, count - 1)[:count] if count < len(scores) else np.arange(len(scores))
    if count < len(scores):  # of those that equal the last, the first rows
        near = np.flatnonzero(scores >= scores[near].min())
    order = near[np.lexsort((rows[near], -scores[near]))][:count]
    return rows[order], exact[order]


def _scanned(
    vectors: np.ndarray, queries: np.ndarray, count: int, keep: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the answer of each query `(Q, D)`, everything compared exactly."""
    from dove_core.index.codes import scan  # faiss is imported where it is used

    ordered = [np.sort(rows) for rows in scan(vectors, queries, count + TIES, keep)]
    return [best(rows, exactly(vectors, rows, query), count) for rows, query in zip(ordered, queries, strict=True)]


def _by_codes(
    vectors: np.ndarray, query: np.ndarray, count: int, codes: Codes, keep: np.ndarray | None, kept: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the answer, or None where the codes cannot tell it with few candidates."""
    wanted, most = _candidates(count) * len(vectors) // kept, len(vectors) // _SHARE
    for _ in range(_STEPS):
        if wanted > most:
            return None
        rows, estimates = (part[0] for part in codes.nearest(query[None], wanted))
        last = float(estimates[-1])
        if keep is not None:
            allowed = keep[rows]
            rows, estimates = rows[allowed], estimates[allowed]
        found, margin = _compared(vectors, query, count, rows, estimates, last)
        if margin >= SURE:
            return found
        wanted = int(min(1.5 * wanted * _GROWTH ** min(SURE - margin, 9.0), 2 * most))
    return None


def _candidates(count: int) -> int:
    return max(FIRST, 4 * count)


def _compared(
    vectors: np.ndarray, query: np.ndarray, count: int, rows: np.ndarray, estimates: np.ndarray, last: float
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Return the best of some candidates, and by how many spreads the last estimate lies below the worst of them."""
    order = np.argsort(rows)  # files are read in one direction
    rows, estimates = rows[order], estimates[order]
    scores = exactly(vectors, rows, query)
    found = best(rows, scores, min(count, len(rows)))
    if len(rows) < count:
        return found, 0.0
    return found, (float(found[1][-1]) - last) / max(float((estimates - scores).std()), 1e-12)
