"""Exponential moving average of a model's weights, which varies less than the weights of single steps."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """Keeps `average <- d * average + (1 - d) * weights` after each step, d = min(decay, (1 + step) / (10 + step)).

    The decay starts small, so that the initial weights soon lose their influence. Buffers, such as batch-norm
    statistics, are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after step number `step`, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        if buffers := list(self.model.buffers()):  # SigLIP has none
            torch._foreach_copy_(buffers, list(model.buffers()))
