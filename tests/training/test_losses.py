"""Losses against their definitions, written out."""

from __future__ import annotations

import math

import torch

from dove_core.training.losses import infonce, negative_pairs, triplet

SCORES = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.4], [0.6, 0.55, 0.3]])
ALL = ~torch.eye(3, dtype=torch.bool)


def test_captions_that_are_equal_or_of_the_same_picture_are_no_negatives():
    pictures, captions = torch.tensor([1, 2, 1, 3]), torch.tensor([10, 11, 12, 11])
    negative = negative_pairs(pictures, captions)
    for i in range(4):
        for j in range(4):
            assert negative[i, j] == (pictures[i] != pictures[j] and captions[i] != captions[j])


def test_the_triplet_loss_is_the_mean_hinge_over_all_negatives_both_ways():
    expected = 0.0
    for i in range(3):
        for j in range(3):
            if i != j:
                expected += max(0.0, 0.2 + SCORES[i, j] - SCORES[i, i]) + max(0.0, 0.2 + SCORES[i, j] - SCORES[j, j])
    assert torch.isclose(triplet(SCORES, ALL, margin=0.2, hardest=False), torch.as_tensor(expected / 6))


def test_the_hardest_negative_alone_counts_when_asked_for():
    rows = [max(0.0, *(0.2 + SCORES[i, j] - SCORES[i, i] for j in range(3) if j != i)) for i in range(3)]
    columns = [max(0.0, *(0.2 + SCORES[i, j] - SCORES[j, j] for i in range(3) if i != j)) for j in range(3)]
    expected = sum(rows) / 3 + sum(columns) / 3
    assert torch.isclose(triplet(SCORES, ALL, margin=0.2, hardest=True), torch.as_tensor(expected))


def test_infonce_is_the_mean_cross_entropy_both_ways():
    t, expected = 0.07, 0.0
    for i in range(3):
        expected -= math.log(math.exp(SCORES[i, i] / t) / sum(math.exp(SCORES[i, j] / t) for j in range(3)))
        expected -= math.log(math.exp(SCORES[i, i] / t) / sum(math.exp(SCORES[j, i] / t) for j in range(3)))
    assert torch.isclose(infonce(SCORES, ALL, temperature=torch.tensor(t)), torch.tensor(expected / 6))


def test_what_is_no_negative_has_no_influence():
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


def test_a_batch_without_negatives_costs_nothing():
    none = torch.zeros(3, 3, dtype=torch.bool)
    assert triplet(SCORES, none, margin=0.2, hardest=False) == 0
    assert infonce(SCORES, none, temperature=torch.tensor(0.1)).abs() < 1e-6
