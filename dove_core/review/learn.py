"""A search direction learned from marks.

Logistic regression tells confirmed images from rejected ones. Its weights are a direction in the space of embeddings,
as a query is, so a search along the sum of both ranks every image of the index, with filters and codes. Both are
divided by the standard deviation of their scores over a sample of the index; the learned one has the weight
`sqrt(marks / 10)`, so a few marks correct the query and many outweigh it. Images of the sample that nobody marked count
as weak rejections: without them, ten confirmed images would say nothing about all others. See docs/results.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dove_core.errors import UsageError
from dove_core.events import Noted, Report, silent
from dove_core.index.searchable import Searchable
from dove_core.review.marks import Mark, current_marks, decided, folded
from dove_core.search.question import Refined

_SAMPLE = 500
"""Images of the index that stand for all of it."""

_BACKGROUND = 5.0
"""Weight of the whole sample as rejections; a mark has weight 1."""

_INVERSE_PENALTY = 10.0
"""`C` of scikit-learn, for embeddings of mean square length 1."""

_EQUAL = 10
"""Marks that count as much as the query."""

_SHOWN = 10
"""Queries that have marks, in a message."""

_INSTALL = "install it with `pip install 'dove-eo[review]'`"


@dataclass(frozen=True)
class LearnedSearch:
    """A `Refine` for a Searcher: ranks by the marks of the query that is asked; other queries stay as they are.

    `report` receives what was not used: marks of images that are not in the index or that analysts disagree on.
    Rejected images are left out of the hits.

    >>> searcher = dove.Searcher.open("index/shapes")
    >>> marks = [dove.Mark("test_1", "a circle", "confirm"), dove.Mark("test_2", "a circle", "reject")]
    >>> hits = searcher.answer(dove.Question("a circle"), refine=dove.LearnedSearch(searcher.index, marks))
    >>> "test_2" in [hit.row.key for hit in hits]
    False
    """

    index: Searchable
    marks: Sequence[Mark]
    report: Report = field(default=silent)

    def __call__(self, query: str, direction: np.ndarray) -> Refined:
        """Return the direction learned from the marks of a query, and the rows that were rejected.

        Raises:
            UsageError: scikit-learn is not installed.
        """
        own = [mark for mark in current_marks(self.marks) if folded(mark.query) == folded(query)]
        if not own:
            known = ", ".join(sorted({folded(mark.query) for mark in self.marks})[:_SHOWN])
            self.report(Noted(f"no marks for {query!r}; there are marks for: {known or 'no query'}"))
            return Refined(direction)
        verdicts = decided(own)
        if disputed := len({mark.key for mark in own}) - len(verdicts):
            self.report(Noted(f"{disputed} marked images are not used: as many confirm as reject them"))
        numbers = self.index.find(list(verdicts)) if verdicts else {}
        if gone := len(verdicts) - len(numbers):
            self.report(Noted(f"{gone} marked images are not in the index; their marks are kept"))
        rejected = frozenset(number for key, number in numbers.items() if not verdicts[key])
        if len(rejected) == len(numbers):
            self.report(Noted(f"no image is confirmed for {query!r}: ranked by the query, without rejected images"))
            return Refined(direction, rejected)
        rows = np.array(sorted(numbers.values()), np.int64)
        confirmed = np.array([row not in rejected for row in rows.tolist()])
        self.report(Noted(f"ranked by {int(confirmed.sum())} confirmed and {len(rejected)} rejected images"))
        return Refined(learn(self.index, direction, rows, confirmed), rejected)


def learn(index: Searchable, direction: np.ndarray, rows: np.ndarray, confirmed: np.ndarray) -> np.ndarray:
    """Return the search direction `(D,)` of length 1 that marks make of a query's.

    Args:
        index: where the rows are.
        direction: `(D,)`, that of the query.
        rows: `(M,)`, numbers of the marked rows, ascending.
        confirmed: `(M,)` bool, whether each is confirmed; one at least is.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    sample = _sample(len(index), rows)
    if not len(sample):
        return direction
    marked, others = (index.vectors_of(part.tolist()).astype(np.float32) for part in (rows, sample))
    mean = others.mean(axis=0)
    scale = max(float(np.sqrt(np.square(others - mean).sum(axis=1).mean())), 1e-12)
    weights = np.concatenate([np.ones(len(rows)), np.full(len(sample), _BACKGROUND / len(sample))])
    learned = _fit(
        (np.concatenate([marked, others]) - mean) / scale,
        np.concatenate([confirmed, np.zeros(len(sample), bool)]),
        weights,
    )
    total = _of_unit_spread(direction, others) + np.sqrt(len(rows) / _EQUAL) * _of_unit_spread(learned, others)
    found: np.ndarray = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
    return found


def _sample(size: int, marked: np.ndarray) -> np.ndarray:
    """Return the numbers of some rows that are not marked, ascending; always the same ones."""
    drawn = np.random.default_rng(0).choice(size, min(size, _SAMPLE + len(marked)), replace=False)
    return np.sort(drawn[~np.isin(drawn, marked)][:_SAMPLE])


def _of_unit_spread(direction: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return a direction scaled so that its scores have a standard deviation of 1."""
    scaled: np.ndarray = direction / max(float((vectors @ direction).std()), 1e-12)
    return scaled


def _fit(vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the direction `(D,)` that tells vectors `(N, D)` with labels `(N,)` and weights `(N,)` apart."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        message = "ranking by marks needs scikit-learn, which is not installed"
        raise UsageError(message, hint=_INSTALL) from error
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000)
    found: np.ndarray = model.fit(vectors, labels, weights).coef_[0]
    return found
