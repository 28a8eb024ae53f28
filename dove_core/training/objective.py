"""DOVE's loss of a batch, over all processes, as a module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dove_core.config import TrainConfig
from dove_core.encoding.preprocess import jitter, normalise
from dove_core.model.dove import Dove
from dove_core.training.batches import Batch
from dove_core.training.gathered import gathered_scores
from dove_core.training.losses import infonce, negative_pairs, triplet
from dove_core.training.trainable import Gather


class Losses(NamedTuple):
    """`loss = pair_loss + lambda_g * global_loss`, each a scalar."""

    loss: Tensor
    pair_loss: Tensor
    global_loss: Tensor


class Objective(nn.Module):
    """`L = L_rank(S) + lambda_g * L_rank(G)`, from ROAM's scores of this process's pairs and all global scores.

    Of the n captions of an image, ROAM's term uses the first `paired_captions`, the global term uses all.

    `gather` joins a tensor of all processes along its first dimension, with gradient, given each process's length. So
    every process computes the same global term, and the average of the parameters' gradients over processes is the
    gradient of one process with the whole batch.
    """

    def __init__(self, model: Dove, training: TrainConfig, gather: Gather) -> None:
        super().__init__()
        self.model = model
        self._training, self._gather = training, gather
        if training.objective == "infonce":
            self.log_temperature = nn.Parameter(torch.full((2,), math.log(training.temperature)))

    def forward(self, batch: Batch, counts: Sequence[int]) -> Losses:
        """Return the losses of a batch; `counts` are the numbers of images of all processes in this step."""
        pixels = jitter(batch.pixels, self._training.jitter) if self._training.jitter else batch.pixels
        normalised = normalise(pixels, *self.model.trunk.normalisation)
        images, captions, pairs = self.model(normalised, batch.tokens, batch.lengths, batch.paired)
        count = self._training.paired_captions
        own = negative_pairs(batch.images, batch.captions[:count])
        pair = self._rank(pairs[:, batch.rows[:count].flatten()], own, 0)
        scores, foreign = gathered_scores(images.embedding, captions.embedding, batch, counts, self._gather)
        whole = self._rank(scores, foreign, 1)
        return Losses(pair + self._training.lambda_g * whole, pair, whole)

    def _rank(self, scores: Tensor, negative: Tensor, term: int) -> Tensor:
        if self._training.objective == "infonce":
            return infonce(scores, negative, temperature=self.log_temperature[term].exp().clamp(min=0.01))
        return triplet(scores, negative, margin=self._training.margin, hardest=self._training.negatives == "hardest")
