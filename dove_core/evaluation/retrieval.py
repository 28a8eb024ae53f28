"""Ranks and recall of score matrices: pure functions of the scores and of who belongs to whom.

A matrix has N images and M texts. An image's rank is that of the best of its own texts among all foreign ones, a
text's rank that of the best of its own images. What scores as high as the best of one's own counts as ranked before
it: ties take the pessimistic rank.

Two protocols, which differ in what the texts are:

- `captions-5` (RSICD, RSITMD, UCM-captions, Sydney): every caption is a text of its own, so an equal caption of another
  image is a miss. Recall at 1, 5 and 10, and their mean over both ways (mR).
- `unique-text` (SkyScript): every distinct caption is one text, which may belong to many images; any of them is a
  hit. Recall at 1, 5, 10 and 100, and their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Protocol = Literal["captions-5", "unique-text"]
RECALL_AT: Mapping[Protocol, tuple[int, ...]] = {"captions-5": (1, 5, 10), "unique-text": (1, 5, 10, 100)}
_WAYS = ("image_to_text", "text_to_image")

Blocks = Callable[[], Iterable[tuple[int, np.ndarray]]]
"""Gives a matrix in blocks of whole rows, each with the number of its first row; asked for twice."""


@dataclass(frozen=True)
class Belonging:
    """Who belongs to whom: text `texts[k] (P,)` to image `images[k] (P,)`, by image in ascending order."""

    images: np.ndarray
    texts: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, texts: np.ndarray) -> Belonging:
        """Order pairs by their image, each once."""
        pairs = np.unique(np.stack((images, texts), axis=1), axis=0)
        return cls(pairs[:, 0], pairs[:, 1])


@dataclass(frozen=True)
class Ranks:
    """Ranks from 1, of the images and of the texts that have somebody; `images`, `texts` say whose they are."""

    images: np.ndarray
    image_ranks: np.ndarray
    texts: np.ndarray
    text_ranks: np.ndarray


def rank(blocks: Blocks, shape: tuple[int, int], belonging: Belonging, *, tie: float = 0.0) -> Ranks:
    """Rank both ways by one matrix of which only a block is in memory.

    Args:
        blocks: gives the matrix; called twice, and must give the same numbers.
        shape: `(N, M)`.
        belonging: who belongs to whom.
        tie: scores that are lower by no more than this still tie. Equal images get scores that differ in the last
            bits, depending on what shared their batch.

    Raises:
        ValueError: a score is not finite (NaN would compare as a perfect rank), or shapes do not fit.
    """
    best_text, best_image = np.full(shape[0], -np.inf), np.full(shape[1], -np.inf)
    seen = 0
    for start, scores in blocks():
        _hold(scores, shape)
        own = slice(*np.searchsorted(belonging.images, (start, start + len(scores))))
        rows, columns = belonging.images[own], belonging.texts[own]
        values = scores[rows - start, columns]
        np.maximum.at(best_text, rows, values)
        np.maximum.at(best_image, columns, values)
        seen += len(scores)
    if seen != shape[0]:
        raise ValueError(f"the blocks have {seen} rows, not {shape[0]}")
    before_text, before_image = np.zeros(shape[0], np.int64), np.zeros(shape[1], np.int64)
    for start, scores in blocks():
        own = slice(*np.searchsorted(belonging.images, (start, start + len(scores))))
        foreign = np.ones(scores.shape, bool)
        foreign[belonging.images[own] - start, belonging.texts[own]] = False
        stop = start + len(scores)
        before_text[start:stop] = ((scores >= best_text[start:stop, None] - tie) & foreign).sum(axis=1)
        before_image += ((scores >= best_image[None] - tie) & foreign).sum(axis=0)
    images, texts = np.flatnonzero(np.isfinite(best_text)), np.flatnonzero(np.isfinite(best_image))
    return Ranks(images, 1 + before_text[images], texts, 1 + before_image[texts])


@dataclass(frozen=True)
class RetrievalScores:
    """Recall in percent at each K, both ways, with what else the ranks say.

    `median_rank` and `mean_rank` are by way (`image_to_text`, `text_to_image`); `interval` holds the 2.5th and 97.5th
    percentile of the mean recall over bootstrap samples of the images, None where none were drawn.

    >>> scores = dove.evaluate("runs/shapes/best", "shards/shapes/test").rows["global"]
    >>> list(scores.text_to_image)
    [1, 5, 10]
    """

    image_to_text: Mapping[int, float]
    text_to_image: Mapping[int, float]
    median_rank: Mapping[str, float]
    mean_rank: Mapping[str, float]
    interval: tuple[float, float] | None = None

    @property
    def mean_recall(self) -> float:
        """Return the mean of all recalls (mR of the six, in `captions-5`)."""
        return float(np.mean([*self.image_to_text.values(), *self.text_to_image.values()]))

    def to_json(self) -> dict[str, float]:
        """Return `image_to_text_recall@K` and so on, `mean_recall` and, if known, its interval."""
        found: dict[str, float] = {}
        for way in _WAYS:
            recalls: Mapping[int, float] = getattr(self, way)
            found |= {f"{way}_recall@{k}": value for k, value in recalls.items()}
            found[f"{way}_mean_recall"] = float(np.mean([*recalls.values()]))
            found |= {f"{way}_median_rank": self.median_rank[way], f"{way}_mean_rank": self.mean_rank[way]}
        found["mean_recall"] = self.mean_recall
        if self.interval is not None:
            found["mean_recall_low"], found["mean_recall_high"] = self.interval
        return found


def score(
    by_row: Ranks, by_column: Ranks, belonging: Belonging, at: tuple[int, ...], *, samples: int = 0, seed: int = 0
) -> RetrievalScores:
    """Return recall at each K of `at`: of the images by one ranking, of the texts by another or the same.

    Args:
        by_row: ranks of which the images' count.
        by_column: ranks of which the texts' count.
        belonging: who belongs to whom.
        at: the Ks.
        samples: bootstrap samples for the interval; 0 for none.
        seed: of the samples.
    """
    ranks = {"image_to_text": by_row.image_ranks, "text_to_image": by_column.text_ranks}
    recalls = {way: {k: 100 * float(np.mean(found <= k)) for k in at} for way, found in ranks.items()}
    return RetrievalScores(
        **recalls,
        median_rank={way: float(np.median(found)) for way, found in ranks.items()},
        mean_rank={way: float(np.mean(found)) for way, found in ranks.items()},
        interval=_interval(by_row, by_column, belonging, at, samples, seed) if samples else None,
    )


def _interval(
    by_row: Ranks, by_column: Ranks, belonging: Belonging, at: tuple[int, ...], samples: int, seed: int
) -> tuple[float, float]:
    """Draw images with replacement, each with its texts; who competes stays the same."""
    place = np.searchsorted(by_row.images, belonging.images)  # who has a text is ranked
    text_place = np.searchsorted(by_column.texts, belonging.texts)
    share = 1 / np.bincount(text_place)[text_place]  # a text of several images comes with each of them in part
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
    """Return recall by `captions-5` of a whole matrix.

    Args:
        scores: `(N, M)`, finite.
        owners: `(M,)`, for each caption the number of its image.
        by_column: scores that rank the images of a caption, where those differ (re-ranking); else `scores` does.

    Raises:
        ValueError: shapes do not fit, or a score is not finite.

    >>> import numpy as np
    >>> scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.7]])  # two images, three captions
    >>> dove.recall(scores, np.array([0, 0, 1])).mean_recall
    100.0
    """
    if scores.ndim != 2 or owners.shape != scores.shape[1:] or not scores.size:
        raise ValueError(f"scores {scores.shape} and owners {owners.shape} do not fit")
    belonging = Belonging.of(owners, np.arange(len(owners)))
    ranks = [
        rank(lambda whole=whole: [(0, whole)], scores.shape, belonging)  # type: ignore[misc]
        for whole in (scores, scores if by_column is None else by_column)
    ]
    return score(ranks[0], ranks[1], belonging, RECALL_AT["captions-5"])


def _hold(scores: np.ndarray, shape: tuple[int, int]) -> None:
    if scores.ndim != 2 or scores.shape[1] != shape[1]:
        raise ValueError(f"scores {scores.shape} do not fit {shape}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
