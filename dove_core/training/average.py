"""An exponential moving average of a model's weights: steadier than the weights of any one step."""

from __future__ import annotations

import copy

import torch

from dove_core.model.dove import Dove


class WeightAverage:
    """Keeps `average <- d * average + (1 - d) * weights` after each step, d = min(decay, (1 + step) / (10 + step)).

    The decay grows from small values on, so that what a model was initialised with is soon forgotten. Buffers, such as
    batch-norm statistics, are taken over as they are.
    """

    def __init__(self, model: Dove, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: Dove, step: int) -> None:
        """Take in the weights after step number `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        torch._foreach_copy_(list(self.model.buffers()), list(model.buffers()))
