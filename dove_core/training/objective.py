"""One training step as a module: a batch to its loss, over all processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dove_core.config import TrainConfig
from dove_core.encoding.preprocess import jitter, normalise
from dove_core.model.dove import Dove
from dove_core.training.batches import Batch
from dove_core.training.losses import infonce, negative_pairs, triplet

Gather = Callable[[Tensor, Sequence[int]], Tensor]


class Losses(NamedTuple):
    """`total = pair + lambda_g * global_`, each a scalar."""

    total: Tensor
    pair: Tensor
    global_: Tensor


class Objective(nn.Module):
    """`L = L_rank(S) + lambda_g * L_rank(G)`: ROAM's scores of this process's pairs, global scores of everyone's.

    Of the n captions that an image brings, ROAM's term takes the first `paired_captions`; the global takes all.

    `gather` joins a tensor of all processes along its first dimension, with gradient, given how long each one's is;
    every process then computes the same global term, and averaging the parameters' gradients over processes gives that
    of one process with the whole batch.
    """

    def __init__(self, model: Dove, training: TrainConfig, gather: Gather) -> None:
        super().__init__()
        self.model = model
        self._training, self._gather = training, gather
        if training.objective == "infonce":
            self.log_temperature = nn.Parameter(torch.full((2,), math.log(training.temperature)))

    def forward(self, batch: Batch, counts: Sequence[int]) -> Losses:
        """Return the losses of a batch; `counts` says how many images each process has in this step."""
        pixels = jitter(batch.pixels, self._training.jitter) if self._training.jitter else batch.pixels
        images, captions, pairs = self.model(normalise(pixels), batch.tokens, batch.lengths, batch.paired)
        count = self._training.paired_captions
        own = negative_pairs(batch.images, batch.captions[:count])
        pair = self._rank(pairs[:, batch.rows[:count].flatten()], own, 0)
        with torch.autocast(pairs.device.type, enabled=False):  # cosines lie too close together for half precision
            words = self._gather_captions(captions.embedding[batch.rows], counts).flatten(0, 1)
            everyone = self._gather(images.embedding, counts) @ words.T
        owners, texts = self._gather(batch.images, counts), self._gather_captions(batch.captions, counts)
        foreign = negative_pairs(owners, texts)
        whole = self._rank(everyone, foreign, 1)
        return Losses(pair + self._training.lambda_g * whole, pair, whole)

    def _gather_captions(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Join `(n, B_k, ...)` of all processes along the second dimension."""
        return self._gather(x.transpose(0, 1).contiguous(), counts).transpose(0, 1)

    def _rank(self, scores: Tensor, negative: Tensor, term: int) -> Tensor:
        if self._training.objective == "infonce":
            return infonce(scores, negative, temperature=self.log_temperature[term].exp().clamp(min=0.01))
        return triplet(scores, negative, margin=self._training.margin, hardest=self._training.negatives == "hardest")
