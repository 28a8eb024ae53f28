"""Zero-shot classification: pure functions of the scores of images and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassificationScores:
    """Accuracy in percent.

    `per_class` is the recall of each class, NaN for a class without images. `confusion[i, j]` counts the images of
    class i that were classified as class j. `predicted (N,)` is the class number found for each image.
    """

    top_1: float
    top_5: float
    per_class: np.ndarray
    confusion: np.ndarray
    predicted: np.ndarray

    @property
    def mean_per_class(self) -> float:
        """Mean recall over the classes that have images, each class with equal weight."""
        return float(np.nanmean(self.per_class))

    def to_json(self) -> dict[str, float]:
        """Return `acc1`, `acc5` and `mean_per_class_recall`, the names of CLIP_benchmark, in percent."""
        return {"acc1": self.top_1, "acc5": self.top_5, "mean_per_class_recall": self.mean_per_class}


def class_vectors(prompts: np.ndarray) -> np.ndarray:
    """Average the P prompt vectors of each class, `(C, P, D)` of length 1, to `(C, D)` of length 1."""
    mean = prompts.mean(axis=1)
    vectors: np.ndarray = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return vectors


def write_prompts(classes: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Return the prompts of each class: every template with `{c}` replaced by the class name."""
    return [[template.replace("{c}", name) for template in templates] for name in classes]


def classify(scores: np.ndarray, labels: np.ndarray, *, tie: float = 0.0) -> ClassificationScores:
    """Return the accuracy of class scores.

    An image is classified correctly only if no other class ties with its own class. If one does, the image counts as
    classified as the best of the other classes.

    Args:
        scores: `(N, C)`, finite.
        labels: `(N,)`, the class number of each image.
        tie: largest difference of scores that tie.

    Raises:
        ValueError: the shapes do not match, a label is not a class number, or a score is not finite.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.size:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} do not match")
    count = scores.shape[1]
    if labels.min() < 0 or labels.max() >= count:
        raise ValueError(f"labels are from {labels.min()} to {labels.max()}, classes from 0 to {count - 1}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    rows = np.arange(len(labels))
    true = scores[rows, labels]
    ranks = (scores >= true[:, None] - tie).sum(axis=1)  # the image's own class adds 1
    others = scores.astype(np.float64)
    others[rows, labels] = -np.inf
    predicted = np.where(ranks == 1, labels, others.argmax(axis=1))
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    with np.errstate(invalid="ignore"):
        per_class = 100 * confusion.diagonal() / confusion.sum(axis=1)
    top_1, top_5 = (100 * float((ranks <= k).mean()) for k in (1, 5))
    return ClassificationScores(top_1, top_5, per_class, confusion, predicted)
