"""Recall of a score matrix: pure functions of the scores and of who belongs to whom.

The protocol of RSICD and RSITMD: `scores (N, M)` of N pictures and M captions, `owners (M,)` the picture of each. A
picture's rank is that of the best of its own captions among all captions; a caption's rank is that of its picture
among all pictures. An equal caption of another picture is a miss, and ties take the pessimistic rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

RECALL_AT = (1, 5, 10)


@dataclass(frozen=True)
class RetrievalScores:
    """Recall in percent at each K, both ways."""

    image_to_text: Mapping[int, float]
    text_to_image: Mapping[int, float]

    @property
    def mean_recall(self) -> float:
        """Return the mean of the six recalls (mR)."""
        return float(np.mean([*self.image_to_text.values(), *self.text_to_image.values()]))

    def to_json(self) -> dict[str, float]:
        """Return `image_to_text_recall@K`, `text_to_image_recall@K` and `mean_recall`."""
        found = {f"image_to_text_recall@{k}": value for k, value in self.image_to_text.items()}
        found |= {f"text_to_image_recall@{k}": value for k, value in self.text_to_image.items()}
        return {**found, "mean_recall": self.mean_recall}


def picture_ranks(scores: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return, for each picture that has captions, 1 + the foreign captions that score at least as high as its best."""
    _hold(scores, owners)
    own = owners[None, :] == np.arange(len(scores))[:, None]
    best = np.where(own, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    ranks: np.ndarray = (1 + ((scores >= best) & ~own).sum(axis=1))[own.any(axis=1)]
    return ranks


def caption_ranks(scores: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return, for each caption, 1 + the other pictures that score at least as high as its own."""
    _hold(scores, owners)
    columns = np.arange(len(owners))
    ranks: np.ndarray = (scores >= scores[owners, columns]).sum(axis=0)  # its own picture counts as the 1
    return ranks


def recall(scores: np.ndarray, owners: np.ndarray, *, by_column: np.ndarray | None = None) -> RetrievalScores:
    """Return recall both ways.

    Args:
        scores: `(N, M)`, finite.
        owners: `(M,)`, for each caption the number of its picture.
        by_column: scores that rank the pictures of a caption, where those differ (re-ranking); else `scores` does.

    Raises:
        ValueError: shapes do not fit, or a score is not finite (NaN would compare as a perfect rank).
    """
    pictures = picture_ranks(scores, owners)
    captions = caption_ranks(scores if by_column is None else by_column, owners)
    return RetrievalScores(_at(pictures), _at(captions))


def _at(ranks: np.ndarray) -> dict[int, float]:
    return {k: 100 * float(np.mean(ranks <= k)) for k in RECALL_AT}


def _hold(scores: np.ndarray, owners: np.ndarray) -> None:
    if scores.ndim != 2 or owners.shape != scores.shape[1:] or not scores.size:
        raise ValueError(f"scores {scores.shape} and owners {owners.shape} do not fit")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
