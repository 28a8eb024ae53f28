"""The rows nearest to a query: preselected by codes if there are many rows, and compared exactly.

Codes only estimate cosines. For each query, the standard deviation of the errors is measured on the candidates, whose
exact cosines are computed. More candidates are taken until the last estimate is `SURE` standard deviations below the
worst exact cosine of the answer: then hardly any other row belongs to the answer. The number of candidates is
extrapolated from the first ones. If it is too large (queries far from all data), all rows are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dove_core.index.codes import Codes

FIRST = 512
"""Smallest number of candidates."""

_GROWTH, _STEPS, _SHARE = 4, 3, 32
"""Factor of candidates for one more standard deviation (measured); number of attempts; largest share of rows, 1/32."""

SURE = 3.0
"""Standard deviations between the last estimate and the worst cosine of the answer: see docs/results.md."""

FEW = 1 << 15
"""Up to this many rows are compared exactly, which is as fast as scanning codes."""

_DENSE = 2
"""If a filter keeps at most 1 of this many rows, comparing them is as fast as scanning all codes."""

_BLOCK = 1 << 8
"""Rows converted to float32 at once, which stay in a core's cache."""

TIES = 64
"""Additional rows, so that rows with equal scores at the end are returned in order of their numbers."""


def nearest(
    vectors: np.ndarray,
    query: np.ndarray,
    count: int,
    codes: Callable[[], Codes] | None,
    keep: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the `count` vectors nearest to a query and their cosines, best first; equal ones by row.

    Args:
        vectors: `(N, D)` float16, which may be mapped from a file.
        query: `(D,)` float32 of length 1.
        count: number of rows; fewer are returned if there are fewer.
        codes: opens the codes; None compares all rows exactly.
        keep: `(N,)` bool, the rows that may be returned; None for all.
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
    """Return the result of `nearest` for each of several queries `(Q, D)`; vectors are read once for all of them."""
    kept = len(vectors) if keep is None else int(keep.sum())
    if kept > FEW and (codes is None or kept <= len(vectors) // _DENSE):
        return _scanned(vectors, queries, min(count, kept), keep)
    if codes is None or keep is not None or kept <= FEW:
        return [nearest(vectors, query, count, codes, keep) for query in queries]
    candidates = zip(*codes().nearest(queries, _candidates(count)), strict=True)
    answers, unsure = [], []
    for number, (query, (rows, estimates)) in enumerate(zip(queries, candidates, strict=True)):
        answer, margin = _compared(vectors, query, count, rows, estimates, float(estimates[-1]))
        answers.append(answer)
        if margin < SURE:
            unsure.append(number)
    if unsure:
        for number, answer in zip(unsure, _scanned(vectors, queries[unsure], count, None), strict=True):
            answers[number] = answer
    return answers


def exactly(vectors: np.ndarray, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the cosines `(R,)` float32 of some rows, in ascending order, with a query `(D,)`."""
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        scores[block] = vectors[rows[block]].astype(np.float32) @ query
    return scores


def best(rows: np.ndarray, scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` best rows and their scores; scores equal to a millionth are sorted by row."""
    exact, scores = scores, np.rint(scores.astype(np.float64) * 1e6)  # equal vectors differ in their last bits
    near = np.argpartition(-scores, count - 1)[:count] if count < len(scores) else np.arange(len(scores))
    if count < len(scores):  # all rows with the last score
        near = np.flatnonzero(scores >= scores[near].min())
    order = near[np.lexsort((rows[near], -scores[near]))][:count]
    return rows[order], exact[order]


def _scanned(
    vectors: np.ndarray, queries: np.ndarray, count: int, keep: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the answer of each query `(Q, D)` after comparing all rows exactly."""
    from dove_core.index.codes import scan  # faiss

    ordered = [np.sort(rows) for rows in scan(vectors, queries, count + TIES, keep)]
    return [best(rows, exactly(vectors, rows, query), count) for rows, query in zip(ordered, queries, strict=True)]


def _by_codes(
    vectors: np.ndarray, query: np.ndarray, count: int, codes: Codes, keep: np.ndarray | None, kept: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the answer from codes; None if they would need too many candidates."""
    wanted, most = _candidates(count) * len(vectors) // kept, len(vectors) // _SHARE
    for _ in range(_STEPS):
        if wanted > most:
            return None
        rows, estimates = (found[0] for found in codes.nearest(query[None], wanted))
        last = float(estimates[-1])
        if keep is not None:
            allowed = keep[rows]
            rows, estimates = rows[allowed], estimates[allowed]
        answer, margin = _compared(vectors, query, count, rows, estimates, last)
        if margin >= SURE:
            return answer
        wanted = int(min(1.5 * wanted * _GROWTH ** min(SURE - margin, 9.0), 2 * most))
    return None


def _candidates(count: int) -> int:
    return max(FIRST, 4 * count)


def _compared(
    vectors: np.ndarray, query: np.ndarray, count: int, rows: np.ndarray, estimates: np.ndarray, last: float
) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Return the best candidates, and how many standard deviations the last estimate is below the worst of them."""
    order = np.argsort(rows)  # reads the file in order
    rows, estimates = rows[order], estimates[order]
    scores = exactly(vectors, rows, query)
    found = best(rows, scores, min(count, len(rows)))
    if len(rows) < count:
        return found, 0.0
    return found, (float(found[1][-1]) - last) / max(float((estimates - scores).std()), 1e-12)
