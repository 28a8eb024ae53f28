"""Losses of a score matrix: pure functions of the scores and of which pairs are negatives.

`scores (N, N)` has the true pairs on its diagonal; `negative (N, N)` is True where a pair may serve as a negative.
"""

from __future__ import annotations

import torch
from torch import Tensor


def negative_pairs(pictures: Tensor, captions: Tensor) -> Tensor:
    """Return `(N, N)`: True where picture i and caption j share neither the picture nor the caption's words.

    Args:
        pictures: `(N,)` identity of each pair's picture.
        captions: `(N,)` identity of each pair's caption: equal captions, equal numbers.
    """
    return (pictures[:, None] != pictures[None, :]) & (captions[:, None] != captions[None, :])


def triplet(scores: Tensor, negative: Tensor, *, margin: float, hardest: bool) -> Tensor:
    """Return the bidirectional hinge `max(0, margin + s_ij - s_ii) + max(0, margin + s_ij - s_jj)`.

    The mean over all negatives, or over rows and columns of the hardest one; a batch without negatives gives zero.
    """
    true = scores.diagonal()
    by_row = (margin + scores - true[:, None]).clamp(min=0) * negative
    by_column = (margin + scores - true[None, :]).clamp(min=0) * negative
    if hardest:
        return by_row.amax(dim=1).mean() + by_column.amax(dim=0).mean()
    return (by_row.sum() + by_column.sum()) / negative.sum().clamp(min=1)


def infonce(scores: Tensor, negative: Tensor, *, temperature: Tensor) -> Tensor:
    """Return the mean cross-entropy of the true pair among its negatives, over rows and columns."""
    keep = negative | torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    logits = (scores / temperature).masked_fill(~keep, float("-inf"))
    true = logits.diagonal()
    return ((logits.logsumexp(dim=1) - true) + (logits.logsumexp(dim=0) - true)).mean() / 2
