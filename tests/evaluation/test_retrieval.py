"""Recall against its naive definition, with several captions an image, ties and duplicates."""

from __future__ import annotations

import numpy as np
import pytest

from dove_core.evaluation.retrieval import RetrievalScores, recall


def naive(scores: np.ndarray, owners: np.ndarray) -> RetrievalScores:
    """Recall by sorting, the truth placed behind everything that ties with it."""
    ranks_of_pictures, ranks_of_captions = [], []
    for i in range(len(scores)):
        own = [j for j in range(len(owners)) if owners[j] == i]
        if own:
            best = max(scores[i, j] for j in own)
            ranks_of_pictures.append(1 + sum(1 for j in range(len(owners)) if owners[j] != i and scores[i, j] >= best))
    for j, i in enumerate(owners):
        others = [scores[k, j] for k in range(len(scores)) if k != i]
        ranks_of_captions.append(1 + sum(1 for other in others if other >= scores[i, j]))
    at = [
        {k: 100 * sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
        for ranks in (ranks_of_pictures, ranks_of_captions)
    ]
    return RetrievalScores(*at)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [3, 20, 10**6])
def test_recall_equals_the_naive_definition_with_five_captions_and_ties(seed, levels):
    random = np.random.default_rng(seed)
    owners = random.permutation(np.repeat(np.arange(14), 5))
    owners = np.delete(owners, random.integers(0, len(owners), 4))
    scores = random.integers(0, levels, (14, len(owners))) / levels
    found, expected = recall(scores, owners), naive(scores, owners)
    assert found.to_json() == pytest.approx(expected.to_json())


def test_duplicated_captions_of_other_pictures_are_misses():
    owners = np.array([0, 1, 2])
    column = np.array([[0.9], [0.2], [0.1]])
    scores = np.hstack([column, column, np.array([[0.0], [0.0], [0.8]])])  # captions 0 and 1 read the same
    found = recall(scores, owners)
    assert found.image_to_text[1] == pytest.approx(100 / 3)
    assert found.text_to_image[1] == pytest.approx(200 / 3)


def test_constant_scores_are_the_worst_not_the_best():
    owners = np.repeat(np.arange(20), 5)
    found = recall(np.zeros((20, 100)), owners)
    assert found.mean_recall == 0


def test_perfect_scores_are_perfect():
    owners = np.repeat(np.arange(20), 5)
    assert recall((owners[None] == np.arange(20)[:, None]).astype(float), owners).mean_recall == 100


def test_a_picture_without_captions_is_not_asked_for_but_can_be_found():
    scores = np.array([[0.5, 0.1], [0.1, 0.5], [0.9, 0.0]])
    found = recall(scores, np.array([0, 1]))
    assert found.image_to_text[1] == 100
    assert found.text_to_image[1] == 50


def test_pictures_and_captions_can_be_ranked_by_different_scores():
    good, bad = np.eye(12), 1 - np.eye(12)
    found = recall(good, np.arange(12), by_column=bad)
    assert found.image_to_text[10] == 100
    assert found.text_to_image[10] == 0


def test_scores_that_are_not_finite_are_refused():
    scores = np.eye(3)
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        recall(scores, np.arange(3))
    with pytest.raises(ValueError, match="do not fit"):
        recall(np.eye(3), np.arange(4))


def test_the_json_has_the_names_that_users_rely_on():
    names = set(recall(np.eye(3), np.arange(3)).to_json())
    ways = ("image_to_text", "text_to_image")
    assert names == {f"{way}_recall@{k}" for way in ways for k in (1, 5, 10)} | {"mean_recall"}
