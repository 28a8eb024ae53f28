"""Ranks and recall of a score matrix: pure functions of the scores and the positive pairs.

A matrix has N images and M texts. The rank of an image is the rank of its best positive text among all negative texts;
the rank of a text is the rank of its best positive image. A negative with the same score as the best positive is ranked
before it (pessimistic ties). Recall with ties in random order is counted too: equal captions of several images always
tie, and the programs behind published figures leave their order to a sort.

The two protocols differ in what counts as a text:

- `captions-5` (RSICD, RSITMD, UCM-captions, Sydney): each caption is a text, so an equal caption of another image is a
  miss. Recall at 1, 5 and 10, and their mean over both directions (mR).
- `unique-text` (SkyScript): each distinct caption is one text. If it belongs to several images, each of them is a hit.
  Recall at 1, 5, 10 and 100, and their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

RetrievalProtocol = Literal["captions-5", "unique-text"]
RECALL_AT: Mapping[RetrievalProtocol, tuple[int, ...]] = {"captions-5": (1, 5, 10), "unique-text": (1, 5, 10, 100)}
_DIRECTIONS = ("image_to_text", "text_to_image")

Blocks = Callable[[], Iterable[tuple[int, np.ndarray]]]
"""Returns a matrix as blocks of whole rows, each with the number of its first row; called twice."""


@dataclass(frozen=True)
class Positives:
    """The P positive pairs: text `texts[k]` belongs to image `images[k]`; sorted by image."""

    images: np.ndarray
    texts: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, texts: np.ndarray) -> Positives:
        """Sort pairs by image and drop duplicates."""
        pairs = np.unique(np.stack((images, texts), axis=1), axis=0)
        return cls(pairs[:, 0], pairs[:, 1])


@dataclass(frozen=True)
class Ranks:
    """Ranks, from 1, of the images and texts that have a positive; `images` and `texts` are their numbers.

    `image_ties (N, 2)` and `text_ties (N, 2)` count the negatives and the positives that tie with the best positive,
    the best positive included.
    """

    images: np.ndarray
    image_ranks: np.ndarray
    image_ties: np.ndarray
    texts: np.ndarray
    text_ranks: np.ndarray
    text_ties: np.ndarray


def rank(blocks: Blocks, shape: tuple[int, int], positives: Positives, *, tie: float = 0.0) -> Ranks:
    """Rank in both directions with one block of the matrix in memory at a time.

    Args:
        blocks: returns the matrix; called twice, and must return the same scores.
        shape: `(N, M)`.
        positives: the positive pairs.
        tie: largest difference of scores that tie. The scores of equal images can differ in their last bits, as they
            depend on the other images of the batch.

    Raises:
        ValueError: a score is not finite (NaN would compare as a perfect rank), or the shapes do not match.
    """
    best_text, best_image = np.full(shape[0], -np.inf), np.full(shape[1], -np.inf)
    seen = 0
    for start, scores in blocks():
        _check(scores, shape)
        own = slice(*np.searchsorted(positives.images, (start, start + len(scores))))
        rows, columns = positives.images[own], positives.texts[own]
        values = scores[rows - start, columns]
        np.maximum.at(best_text, rows, values)
        np.maximum.at(best_image, columns, values)
        seen += len(scores)
    if seen != shape[0]:
        raise ValueError(f"the blocks have {seen} rows, not {shape[0]}")
    # Columns: all with a higher score than the best positive, all that tie with it, and the positives among these.
    text_counts, image_counts = np.zeros((shape[0], 3), np.int64), np.zeros((shape[1], 3), np.int64)
    for start, scores in blocks():
        stop = start + len(scores)
        own = slice(*np.searchsorted(positives.images, (start, stop)))
        rows, columns = positives.images[own], positives.texts[own]
        values = scores[rows - start, columns]
        best = best_text[start:stop, None]
        text_counts[start:stop, :2] = _count(scores, best, tie, axis=1)
        image_counts[:, :2] += _count(scores, best_image[None], tie, axis=0)
        np.add.at(text_counts[:, 2], rows, values >= best_text[rows] - tie)
        np.add.at(image_counts[:, 2], columns, values >= best_image[columns] - tie)
    images, texts = np.flatnonzero(np.isfinite(best_text)), np.flatnonzero(np.isfinite(best_image))
    return Ranks(images, *_ranked(text_counts[images]), texts, *_ranked(image_counts[texts]))


def _ranked(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ranks `(N,)` and ties `(N, 2)` as in `Ranks`, given how many are higher, tie, and tie as positives."""
    higher, tied, right = counts.T
    return 1 + higher + tied - right, np.stack((tied - right, right), axis=1)


def _count(scores: np.ndarray, best: np.ndarray, tie: float, *, axis: int) -> np.ndarray:
    """Return `(N, 2)`: how many scores are higher than the best positive, and how many tie with it."""
    higher = (scores > best + tie).sum(axis=axis)
    return np.stack((higher, (scores >= best - tie).sum(axis=axis) - higher), axis=1)


def hits_in_random_order(ranks: np.ndarray, ties: np.ndarray, k: int) -> np.ndarray:
    """Return the probability `(N,)` of a positive among the first k if all orders of the ties are equally probable.

    Args:
        ranks: `(N,)`, pessimistic, as in `Ranks`.
        ties: `(N, 2)`, as in `Ranks`.
        k: number of hits.

    >>> import numpy as np
    >>> hits_in_random_order(np.array([4]), np.array([[3, 1]]), 2)  # one of four that tie is right; two places
    array([0.5])
    """
    negatives, positives = ties.T
    places = k - (ranks - 1 - negatives)  # what is left for those that tie
    missed = np.ones(len(ranks))
    for taken in range(k):
        left = np.maximum(negatives - taken, 0) / np.maximum(negatives + positives - taken, 1)
        missed *= np.where(taken < places, left, 1)
    return 1 - missed


@dataclass(frozen=True)
class RetrievalScores:
    """Recall at each K in percent, and median and mean rank, in both directions.

    Keys of `median_rank` and `mean_rank` are `image_to_text` and `text_to_image`. `interval` has the 2.5th and 97.5th
    percentiles of the mean recall over bootstrap samples of the images, None without bootstrap. In all of them ties
    count as misses; `mean_recall_random_ties` is the mean recall to expect if ties come in random order.

    >>> scores = dove.evaluate("runs/shapes/best", "shards/shapes/test").rows["global"]
    >>> list(scores.text_to_image)
    [1, 5, 10]
    """

    image_to_text: Mapping[int, float]
    text_to_image: Mapping[int, float]
    median_rank: Mapping[str, float]
    mean_rank: Mapping[str, float]
    mean_recall_random_ties: float
    interval: tuple[float, float] | None = None

    @property
    def mean_recall(self) -> float:
        """Mean of all recalls (mR, the mean of six, in `captions-5`)."""
        return float(np.mean([*self.image_to_text.values(), *self.text_to_image.values()]))

    def to_json(self) -> dict[str, float]:
        """Return `image_to_text_recall@K` and so on, both mean recalls and, if there is one, the interval."""
        found: dict[str, float] = {}
        for direction in _DIRECTIONS:
            recalls: Mapping[int, float] = getattr(self, direction)
            found |= {f"{direction}_recall@{k}": value for k, value in recalls.items()}
            found[f"{direction}_mean_recall"] = float(np.mean([*recalls.values()]))
            found[f"{direction}_median_rank"] = self.median_rank[direction]
            found[f"{direction}_mean_rank"] = self.mean_rank[direction]
        found["mean_recall"] = self.mean_recall
        found["mean_recall_random_ties"] = self.mean_recall_random_ties
        if self.interval is not None:
            found["mean_recall_low"], found["mean_recall_high"] = self.interval
        return found


def score(
    by_row: Ranks, by_column: Ranks, positives: Positives, at: tuple[int, ...], *, samples: int = 0, seed: int = 0
) -> RetrievalScores:
    """Return recall at each K: of the images by one ranking, of the texts by another or the same.

    Args:
        by_row: has the ranks of the images.
        by_column: has the ranks of the texts.
        positives: the positive pairs.
        at: the Ks.
        samples: number of bootstrap samples for the interval; 0: no interval.
        seed: seed of the bootstrap.
    """
    ranks = {"image_to_text": by_row.image_ranks, "text_to_image": by_column.text_ranks}
    recalls = {direction: {k: 100 * float(np.mean(found <= k)) for k in at} for direction, found in ranks.items()}
    drawn = [
        hits_in_random_order(found, ties, k).mean()
        for found, ties in ((by_row.image_ranks, by_row.image_ties), (by_column.text_ranks, by_column.text_ties))
        for k in at
    ]
    return RetrievalScores(
        **recalls,
        median_rank={direction: float(np.median(found)) for direction, found in ranks.items()},
        mean_rank={direction: float(np.mean(found)) for direction, found in ranks.items()},
        mean_recall_random_ties=100 * float(np.mean(drawn)),
        interval=_interval(by_row, by_column, positives, at, samples, seed) if samples else None,
    )


def _interval(
    by_row: Ranks, by_column: Ranks, positives: Positives, at: tuple[int, ...], samples: int, seed: int
) -> tuple[float, float]:
    """Draw images with replacement, each with its texts; the gallery stays the same."""
    place = np.searchsorted(by_row.images, positives.images)  # each image with a text is ranked
    text_place = np.searchsorted(by_column.texts, positives.texts)
    share = 1 / np.bincount(text_place)[text_place]  # a text of n images counts 1 / n with each
    image_hits = (by_row.image_ranks[:, None] <= np.array(at)).astype(np.float64)
    text_hits, text_counts = np.zeros_like(image_hits), np.zeros(len(image_hits))
    np.add.at(text_hits, place, (by_column.text_ranks[text_place, None] <= np.array(at)) * share[:, None])
    np.add.at(text_counts, place, share)
    random, count = np.random.default_rng(seed), len(image_hits)
    means = np.empty(samples)
    for k in range(samples):
        times = np.bincount(random.integers(count, size=count), minlength=count).astype(np.float64)
        images, texts = times @ image_hits / count, times @ text_hits / (times @ text_counts)
        means[k] = 100 * np.mean([images.mean(), texts.mean()])
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def recall(scores: np.ndarray, owners: np.ndarray, *, by_column: np.ndarray | None = None) -> RetrievalScores:
    """Return the recall of a whole matrix by `captions-5`.

    Args:
        scores: `(N, M)`, finite.
        owners: `(M,)`, the number of each caption's image.
        by_column: scores to rank the images of a caption with, if not `scores` (re-ranking).

    Raises:
        ValueError: the shapes do not match, or a score is not finite.

    >>> import numpy as np
    >>> scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.7]])  # two images, three captions
    >>> dove.recall(scores, np.array([0, 0, 1])).mean_recall
    100.0
    """
    if scores.ndim != 2 or owners.shape != scores.shape[1:] or not scores.size:
        raise ValueError(f"scores {scores.shape} and owners {owners.shape} do not match")
    positives = Positives.of(owners, np.arange(len(owners)))
    ranks = [
        rank(lambda whole=whole: [(0, whole)], scores.shape, positives)  # type: ignore[misc]
        for whole in (scores, scores if by_column is None else by_column)
    ]
    return score(ranks[0], ranks[1], positives, RECALL_AT["captions-5"])


def _check(scores: np.ndarray, shape: tuple[int, int]) -> None:
    if scores.ndim != 2 or scores.shape[1] != shape[1]:
        raise ValueError(f"scores {scores.shape} do not match {shape}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
