"""Accuracy of class scores against its naive definition."""

from __future__ import annotations

import numpy as np
import pytest

from dove_core.evaluation.classification import class_vectors, classify, write_prompts


@pytest.mark.parametrize("levels", [4, 10**6])
def test_accuracy_and_confusion_equal_counting_one_by_one(levels):
    random = np.random.default_rng(levels)
    scores, labels = random.integers(0, levels, (60, 7)) / levels, random.integers(0, 6, 60)  # class 6 has no image
    found = classify(scores, labels)
    first = fifth = 0
    right, of_class = [0] * 7, [0] * 7
    for row, label in zip(scores, labels, strict=True):
        before = sum(1 for j in range(7) if j != label and row[j] >= row[label])
        first, fifth = first + (before == 0), fifth + (before < 5)
        right[label] += before == 0
        of_class[label] += 1
    assert found.top_1 == pytest.approx(100 * first / 60)
    assert found.top_5 == pytest.approx(100 * fifth / 60)
    assert np.isnan(found.per_class[6])
    assert found.per_class[:6] == pytest.approx([100 * right[c] / of_class[c] for c in range(6)])
    assert found.mean_per_class == pytest.approx(np.mean([100 * right[c] / of_class[c] for c in range(6)]))
    assert found.confusion.sum(axis=1).tolist() == of_class
    assert found.confusion.diagonal().tolist() == right


def test_a_tie_is_not_a_correct_classification():
    found = classify(np.zeros((10, 3)), np.zeros(10, int))
    assert (found.top_1, found.top_5) == (0, 100)
    almost = np.array([[0.5, 0.5 - 1e-9]])
    assert classify(almost, np.array([0])).top_1 == 100
    assert classify(almost, np.array([0]), tie=1e-6).top_1 == 0


def test_a_class_vector_is_the_mean_of_its_prompts():
    vectors = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, -1.0], [0.0, -1.0]]])
    assert class_vectors(vectors) == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0.0, -1.0]]))
    assert write_prompts(["port"], ["a satellite photo of {c}.", "{c}"]) == [["a satellite photo of port.", "port"]]


def test_shapes_and_labels_that_do_not_match_are_errors():
    with pytest.raises(ValueError, match="do not match"):
        classify(np.eye(3), np.arange(4))
    with pytest.raises(ValueError, match="do not match"):
        classify(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(ValueError, match="labels are from 0 to 3, classes from 0 to 2"):
        classify(np.eye(3), np.array([0, 1, 3]))
    with pytest.raises(ValueError, match="not finite"):
        classify(np.array([[np.nan, 1.0]]), np.array([0]))
