"""Losses of a score matrix, as functions of the scores and of a mask of negatives.

`scores (B, C)` are those of B images and C = n * B captions, n of each image: caption c belongs to image c mod B.
`negative (B, C)` is True where a pair may serve as a negative.
"""

from __future__ import annotations

import torch
from torch import Tensor


def negative_pairs(images: Tensor, captions: Tensor) -> Tensor:
    """Return `(B, n * B)`: True where a caption belongs to another image and differs from the image's own n captions.

    Args:
        images: `(B,)` identity of each image.
        captions: `(n, B)` identity of each caption: equal captions, equal numbers.
    """
    foreign = images[:, None] != images.repeat(len(captions))
    equal = (captions[:, :, None] == captions.flatten()).any(dim=0)
    return foreign & ~equal


def triplet(scores: Tensor, negative: Tensor, *, margin: float, hardest: bool) -> Tensor:
    """Return the bidirectional hinge `max(0, margin + s_ij - s_ii) + max(0, margin + s_ij - s_jj)`.

    Averaged over all negatives, or over the hardest negative of each caption; zero for a batch without negatives.
    """
    owner, true = _true_scores(scores)
    by_row = (margin + scores[owner] - true[:, None]).clamp(min=0) * negative[owner]
    by_column = (margin + scores - true[None, :]).clamp(min=0) * negative
    if hardest:
        return by_row.amax(dim=1).mean() + by_column.amax(dim=0).mean()
    count = negative.sum().clamp(min=1)
    return by_row.sum() / (count * (scores.shape[1] // scores.shape[0])) + by_column.sum() / count


def infonce(scores: Tensor, negative: Tensor, *, temperature: Tensor) -> Tensor:
    """Return the mean cross-entropy of each true pair among its negatives, over rows and over columns.

    Other captions of the same image are not in the denominator.
    """
    owner, true = _true_scores(scores / temperature)
    negatives = (scores / temperature).masked_fill(~negative, float("-inf"))
    own = torch.eye(len(owner), dtype=torch.bool, device=scores.device)
    by_row = torch.where(own, true[:, None], negatives[owner]).logsumexp(dim=1)
    by_column = torch.cat((negatives, true[None])).logsumexp(dim=0)
    return ((by_row - true) + (by_column - true)).mean() / 2


def _true_scores(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the image of each caption `(C,)`, and their scores `(C,)`."""
    images, captions = scores.shape
    caption = torch.arange(captions, device=scores.device)
    return caption % images, scores[caption % images, caption]
