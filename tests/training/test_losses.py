"""Losses compared with their definitions, written as loops."""

from __future__ import annotations

import math

import pytest
import torch

from dove_core.training.losses import infonce, negative_pairs, triplet

SCORES = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.4], [0.6, 0.55, 0.3]])
ALL = ~torch.eye(3, dtype=torch.bool)


def test_captions_that_are_equal_or_of_the_same_image_are_not_negatives():
    images, captions = torch.tensor([1, 2, 1, 3]), torch.tensor([[10, 11, 12, 11]])
    negative = negative_pairs(images, captions)
    for i in range(4):
        for j in range(4):
            assert negative[i, j] == (images[i] != images[j] and captions[0, i] != captions[0, j])


def test_a_caption_equal_to_one_of_the_images_own_is_not_a_negative():
    images, captions = torch.tensor([1, 2, 3]), torch.tensor([[10, 11, 12], [13, 10, 14]])
    negative = negative_pairs(images, captions)
    owners, words = [0, 1, 2, 0, 1, 2], [10, 11, 12, 13, 10, 14]
    own = [{10, 13}, {11, 10}, {12, 14}]
    expected = [[owner != i and word not in own[i] for owner, word in zip(owners, words)] for i in range(3)]  # noqa: B905
    assert negative.tolist() == expected


def test_captions_of_the_same_image_are_not_negatives_of_each_other():
    """Both losses of two captions per image, as loops over true pairs and their negatives."""
    random = torch.Generator().manual_seed(2)
    scores = torch.rand(3, 6, generator=random)
    negative = torch.tensor([[k % 3 != i for k in range(6)] for i in range(3)])
    negative[0, 4] = False
    hinge, entropy, count = 0.0, 0.0, 0
    hardest_row, hardest_column = 0.0, 0.0
    for c in range(6):
        i, true = c % 3, float(scores[c % 3, c])
        rows = [float(scores[i, j]) for j in range(6) if negative[i, j]]
        columns = [float(scores[k, c]) for k in range(3) if negative[k, c]]
        hinge += sum(max(0.0, 0.2 + s - true) for s in rows) / 2 + sum(max(0.0, 0.2 + s - true) for s in columns)
        hardest_row += max(0.0, 0.2 + max(rows) - true) / 6
        hardest_column += max(0.0, 0.2 + max(columns) - true) / 6
        for rivals in (rows, columns):
            entropy -= math.log(math.exp(true / 0.1) / sum(math.exp(s / 0.1) for s in [*rivals, true])) / 12
        count += len(columns)
    assert triplet(scores, negative, margin=0.2, hardest=False).item() == pytest.approx(hinge / count, rel=1e-4)
    hardest = hardest_row + hardest_column
    assert triplet(scores, negative, margin=0.2, hardest=True).item() == pytest.approx(hardest, rel=1e-4)
    assert infonce(scores, negative, temperature=torch.tensor(0.1)).item() == pytest.approx(entropy, rel=1e-4)


def test_the_triplet_loss_is_the_mean_hinge_over_all_negatives_in_both_directions():
    expected = 0.0
    for i in range(3):
        for j in range(3):
            if i != j:
                expected += max(0.0, 0.2 + SCORES[i, j] - SCORES[i, i]) + max(0.0, 0.2 + SCORES[i, j] - SCORES[j, j])
    assert torch.isclose(triplet(SCORES, ALL, margin=0.2, hardest=False), torch.as_tensor(expected / 6))


def test_with_hardest_only_the_hardest_negative_counts():
    rows = [max(0.0, *(0.2 + SCORES[i, j] - SCORES[i, i] for j in range(3) if j != i)) for i in range(3)]
    columns = [max(0.0, *(0.2 + SCORES[i, j] - SCORES[j, j] for i in range(3) if i != j)) for j in range(3)]
    expected = sum(rows) / 3 + sum(columns) / 3
    assert torch.isclose(triplet(SCORES, ALL, margin=0.2, hardest=True), torch.as_tensor(expected))


def test_infonce_is_the_mean_cross_entropy_in_both_directions():
    t, expected = 0.07, 0.0
    for i in range(3):
        expected -= math.log(math.exp(SCORES[i, i] / t) / sum(math.exp(SCORES[i, j] / t) for j in range(3)))
        expected -= math.log(math.exp(SCORES[i, i] / t) / sum(math.exp(SCORES[j, i] / t) for j in range(3)))
    assert torch.isclose(infonce(SCORES, ALL, temperature=torch.tensor(t)), torch.tensor(expected / 6))


def test_pairs_that_are_not_negatives_have_no_influence():
    negative = ALL.clone()
    negative[0, 1] = False
    for loss in (
        lambda s: triplet(s, negative, margin=0.2, hardest=False),
        lambda s: triplet(s, negative, margin=0.2, hardest=True),
        lambda s: infonce(s, negative, temperature=torch.tensor(0.1)),
    ):
        changed = SCORES.clone()
        changed[0, 1] = 5.0
        assert torch.equal(loss(SCORES), loss(changed))
        changed[1, 0] = 5.0
        assert not torch.equal(loss(SCORES), loss(changed))


def test_a_batch_without_negatives_has_no_loss():
    none = torch.zeros(3, 3, dtype=torch.bool)
    assert triplet(SCORES, none, margin=0.2, hardest=False) == 0
    assert infonce(SCORES, none, temperature=torch.tensor(0.1)).abs() < 1e-6
