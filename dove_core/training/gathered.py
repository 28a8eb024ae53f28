"""Scores of all images and captions of a step, over all processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dove_core.training.batches import Batch
from dove_core.training.losses import negative_pairs
from dove_core.training.trainable import Gather


def gathered_scores(
    images: Tensor, texts: Tensor, batch: Batch, counts: Sequence[int], gather: Gather
) -> tuple[Tensor, Tensor]:
    """Return the scores `(B, n * B)` of B images and their captions, of all processes, and which pairs are negatives.

    `gather` has a gradient, so every process computes the same loss, and the average of the parameters' gradients over
    processes is the gradient of one process with the whole batch.

    Args:
        images: embeddings `(B_k, D)` of this process's images.
        texts: embeddings `(U, D)` of its distinct captions.
        batch: its images and captions.
        counts: numbers of images B_k of all processes in this step.
        gather: joins tensors of all processes.
    """
    with torch.autocast(images.device.type, enabled=False):  # cosines are too close to each other for half precision
        captions = _gathered(texts[batch.rows], counts, gather).flatten(0, 1)
        scores = gather(images, counts) @ captions.T
    owners, words = gather(batch.images, counts), _gathered(batch.captions, counts, gather)
    return scores, negative_pairs(owners, words)


def _gathered(x: Tensor, counts: Sequence[int], gather: Gather) -> Tensor:
    """Join `(n, B_k, ...)` of all processes along the second dimension."""
    return gather(x.transpose(0, 1).contiguous(), counts).transpose(0, 1)
