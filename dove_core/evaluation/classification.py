"""Zero-shot classification: pure functions of the scores of images and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassificationScores:
    """Accuracy in percent.

    `per_class` is the share of each class's images that were recognised (recall), NaN for a class without images;
    `confusion[i, j]` counts images of class i that were taken for class j; `taken_for (N,)` has each image's class.
    """

    top_1: float
    top_5: float
    per_class: np.ndarray
    confusion: np.ndarray
    taken_for: np.ndarray

    @property
    def mean_per_class(self) -> float:
        """Return the mean over the classes that have images: each class counts alike."""
        return float(np.nanmean(self.per_class))

    def to_json(self) -> dict[str, float]:
        """Return `acc1`, `acc5` and `mean_per_class_recall`, as CLIP_benchmark calls them; in percent."""
        return {"acc1": self.top_1, "acc5": self.top_5, "mean_per_class_recall": self.mean_per_class}


def class_vectors(prompts: np.ndarray) -> np.ndarray:
    """Average the vectors of several prompts of each class `(C, P, D)`, each of length 1, to `(C, D)` of length 1."""
    mean = prompts.mean(axis=1)
    vectors: np.ndarray = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return vectors


def write_prompts(classes: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Return the prompts of each class: each template with the class's name in place of `{c}`."""
    return [[template.replace("{c}", name) for template in templates] for name in classes]


def classify(scores: np.ndarray, labels: np.ndarray, *, tie: float = 0.0) -> ClassificationScores:
    """Score images against classes.

    An image counts as recognised if its class alone scores highest: what ties with it, or is lower by no more than
    `tie`, ranks before it. It is taken for the best of the other classes then.

    Args:
        scores: `(N, C)`, finite.
        labels: `(N,)`, the number of each image's class.
        tie: see above.

    Raises:
        ValueError: shapes do not fit, a label is no class, or a score is not finite.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.size:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} do not fit")
    count = scores.shape[1]
    if labels.min() < 0 or labels.max() >= count:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, classes from 0 to {count - 1}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    rows = np.arange(len(labels))
    true = scores[rows, labels]
    ranks = (scores >= true[:, None] - tie).sum(axis=1)  # its own class counts as the 1
    others = scores.astype(np.float64)
    others[rows, labels] = -np.inf
    taken_for = np.where(ranks == 1, labels, others.argmax(axis=1))
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (labels, taken_for), 1)
    with np.errstate(invalid="ignore"):
        per_class = 100 * confusion.diagonal() / confusion.sum(axis=1)
    top_1, top_5 = (100 * float((ranks <= k).mean()) for k in (1, 5))
    return ClassificationScores(top_1, top_5, per_class, confusion, taken_for)
