"""Recall against its naive definition, with several captions an image, ties and duplicates."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from dove_core.evaluation.retrieval import RECALL_AT, Positives, hits_in_random_order, rank, recall, score


def naive(scores: np.ndarray, owners: np.ndarray) -> list[dict[int, float]]:
    """Recall by counting, with the positive ranked after all negatives that tie with it."""
    ranks_of_images, ranks_of_captions = [], []
    for i in range(len(scores)):
        own = [j for j in range(len(owners)) if owners[j] == i]
        if own:
            best = max(scores[i, j] for j in own)
            ranks_of_images.append(1 + sum(1 for j in range(len(owners)) if owners[j] != i and scores[i, j] >= best))
    for j, i in enumerate(owners):
        others = [scores[k, j] for k in range(len(scores)) if k != i]
        ranks_of_captions.append(1 + sum(1 for other in others if other >= scores[i, j]))
    return [
        {k: 100 * sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
        for ranks in (ranks_of_images, ranks_of_captions)
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [3, 20, 10**6])
def test_recall_equals_the_naive_definition_with_five_captions_and_ties(seed, levels):
    random = np.random.default_rng(seed)
    owners = random.permutation(np.repeat(np.arange(14), 5))
    owners = np.delete(owners, random.integers(0, len(owners), 4))
    scores = random.integers(0, levels, (14, len(owners))) / levels
    found, (image_to_text, text_to_image) = recall(scores, owners), naive(scores, owners)
    assert found.image_to_text == pytest.approx(image_to_text)
    assert found.text_to_image == pytest.approx(text_to_image)


def test_duplicated_captions_of_other_images_are_misses():
    owners = np.array([0, 1, 2])
    column = np.array([[0.9], [0.2], [0.1]])
    scores = np.hstack([column, column, np.array([[0.0], [0.0], [0.8]])])  # captions 0 and 1 read the same
    found = recall(scores, owners)
    assert found.image_to_text[1] == pytest.approx(100 / 3)
    assert found.text_to_image[1] == pytest.approx(200 / 3)


def test_constant_scores_have_recall_zero():
    owners = np.repeat(np.arange(20), 5)
    found = recall(np.zeros((20, 100)), owners)
    assert found.mean_recall == 0


def test_perfect_scores_have_recall_100():
    owners = np.repeat(np.arange(20), 5)
    assert recall((owners[None] == np.arange(20)[:, None]).astype(float), owners).mean_recall == 100


def test_an_image_without_captions_is_in_the_gallery_but_not_a_query():
    scores = np.array([[0.5, 0.1], [0.1, 0.5], [0.9, 0.0]])
    found = recall(scores, np.array([0, 1]))
    assert found.image_to_text[1] == 100
    assert found.text_to_image[1] == 50


def test_images_and_captions_can_be_ranked_by_different_scores():
    good, bad = np.eye(12), 1 - np.eye(12)
    found = recall(good, np.arange(12), by_column=bad)
    assert found.image_to_text[10] == 100
    assert found.text_to_image[10] == 0


def test_scores_that_are_not_finite_or_do_not_match_are_errors():
    scores = np.eye(3)
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        recall(scores, np.arange(3))
    with pytest.raises(ValueError, match="do not match"):
        recall(np.eye(3), np.arange(4))


def test_the_json_has_the_documented_names():
    names = set(recall(np.eye(3), np.arange(3)).to_json())
    metrics = ("recall@1", "recall@5", "recall@10", "mean_recall", "median_rank", "mean_rank")
    by_direction = {f"{direction}_{name}" for direction in ("image_to_text", "text_to_image") for name in metrics}
    assert names == by_direction | {"mean_recall", "mean_recall_random_ties"}


def naive_multi(scores: np.ndarray, own: np.ndarray) -> tuple[list[int], list[int]]:
    """Ranks by counting, where a text may belong to several images."""
    rows = [
        1 + sum(1 for j in range(scores.shape[1]) if not own[i, j] and scores[i, j] >= max(scores[i][own[i]]))
        for i in range(len(scores)) if own[i].any()
    ]  # fmt: skip
    columns = [
        1 + sum(1 for i in range(len(scores)) if not own[i, j] and scores[i, j] >= max(scores[:, j][own[:, j]]))
        for j in range(scores.shape[1]) if own[:, j].any()
    ]  # fmt: skip
    return rows, columns


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [1, 4, 100])
def test_ranks_with_several_positives_in_blocks_of_any_size_equal_counting(seed, step):
    random = np.random.default_rng(seed)
    own = random.random((13, 9)) < 0.2
    scores = (random.integers(0, 12, (13, 9)) / 12).astype(np.float32)
    positives = Positives.of(*np.nonzero(own))
    blocks = [(k, scores[k : k + step]) for k in range(0, 13, step)]
    found = rank(lambda: blocks, scores.shape, positives)
    assert (found.image_ranks.tolist(), found.text_ranks.tolist()) == naive_multi(scores, own)
    assert found.images.tolist() == np.flatnonzero(own.any(axis=1)).tolist()
    assert found.texts.tolist() == np.flatnonzero(own.any(axis=0)).tolist()


def test_scores_that_differ_in_their_last_bits_tie():
    scores = np.array([[0.5, 0.5 - 1e-8], [0.5 - 1e-8, 0.5]])
    positives = Positives.of(np.arange(2), np.arange(2))
    assert rank(lambda: [(0, scores)], (2, 2), positives).image_ranks.tolist() == [1, 1]
    assert rank(lambda: [(0, scores)], (2, 2), positives, tie=1e-6).image_ranks.tolist() == [2, 2]


def test_the_interval_contains_the_mean_and_narrows_with_the_number_of_images():
    random, widths = np.random.default_rng(0), []
    for count in (50, 800):
        scores = random.random((count, count)) + 0.6 * np.eye(count)
        positives = Positives.of(np.arange(count), np.arange(count))
        ranks = rank(lambda whole=scores: [(0, whole)], scores.shape, positives)
        found = score(ranks, ranks, positives, RECALL_AT["unique-text"], samples=500)
        assert found.interval is not None
        low, high = found.interval
        assert low < found.mean_recall < high
        assert found == score(ranks, ranks, positives, RECALL_AT["unique-text"], samples=500)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_median_and_mean_rank_are_those_of_the_ranks():
    scores = np.array([[0.1, 0.9, 0.8], [0.2, 0.5, 0.1], [0.3, 0.2, 0.9]])
    found = recall(scores, np.arange(3))
    assert found.median_rank == {"image_to_text": 1.0, "text_to_image": 2.0}
    assert found.mean_rank == {"image_to_text": pytest.approx(5 / 3), "text_to_image": 2.0}


def test_missing_rows_are_an_error():
    with pytest.raises(ValueError, match="2 rows, not 3"):
        rank(lambda: [(0, np.eye(3)[:2])], (3, 3), Positives.of(np.arange(3), np.arange(3)))


def in_all_orders(scores: np.ndarray, own: np.ndarray, k: int) -> float:
    """The share of all orders of the candidates that agree with the scores and have a positive among the first k."""
    orders = [p for p in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(p))]
    return float(np.mean([any(own[candidate] for candidate in order[:k]) for order in orders]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("step", [1, 3, 100])
def test_hits_in_random_order_equal_the_share_of_all_orders_of_the_ties(seed, step):
    random = np.random.default_rng(seed)
    own = random.random((7, 6)) < 0.3
    scores = (random.integers(0, 3, (7, 6)) / 3).astype(np.float32)
    blocks = [(k, scores[k : k + step]) for k in range(0, 7, step)]
    found = rank(lambda: blocks, scores.shape, Positives.of(*np.nonzero(own)))
    for k in (1, 2, 3, 5):
        of_images = [in_all_orders(scores[i], own[i], k) for i in found.images]
        of_texts = [in_all_orders(scores[:, j], own[:, j], k) for j in found.texts]
        assert hits_in_random_order(found.image_ranks, found.image_ties, k) == pytest.approx(of_images)
        assert hits_in_random_order(found.text_ranks, found.text_ties, k) == pytest.approx(of_texts)


def test_without_ties_both_mean_recalls_are_equal():
    random = np.random.default_rng(0)
    owners = np.repeat(np.arange(30), 2)
    found = recall(random.random((30, 60)) + 0.5 * (owners == np.arange(30)[:, None]), owners)
    assert 0 < found.mean_recall < 100
    assert found.mean_recall_random_ties == pytest.approx(found.mean_recall)


def test_equal_captions_of_two_images_share_the_first_place():
    column = np.array([[0.9], [0.2], [0.1]])
    scores = np.hstack([column, column, np.array([[0.0], [0.0], [0.8]])])  # captions 0 and 1 read the same
    found = recall(scores, np.array([0, 1, 2]))
    # Image 0 finds its caption first in half of the orders, at 5 and 10 in all; image 1 never first; image 2 always.
    # Captions do not tie among images.
    assert found.mean_recall == pytest.approx((100 / 3 + 100 + 100 + 200 / 3 + 100 + 100) / 6)
    assert found.mean_recall_random_ties == pytest.approx((100 * (0.5 + 0.5 + 1) / 3 + 400 + 200 / 3) / 6)


def test_constant_scores_have_the_recall_of_chance_if_ties_come_in_random_order():
    found = recall(np.zeros((20, 20)), np.arange(20))
    assert found.mean_recall == 0
    assert found.mean_recall_random_ties == pytest.approx(100 * (1 + 5 + 10) / 20 / 3)
