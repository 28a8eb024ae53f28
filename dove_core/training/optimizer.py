"""AdamW with its parameter groups, and the learning rate of each step."""

from __future__ import annotations

import math

import torch
from torch import nn


def make_optimizer(module: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW over all parameters, with weight decay for tensors of two or more dimensions.

    Frozen parameters are included, since they may be unfrozen later; without a gradient, AdamW skips them.
    """
    every = list(module.parameters())
    groups = [
        {"params": [p for p in every if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate_at(progress: float, *, warmup: float, highest: float) -> float:
    """Return the rate after a share `progress` (0 to 1) of training: linear up to `warmup`, then half a cosine to zero.

    It depends on the samples seen, not on steps, so it stays continuous when the number of processes changes.
    """
    if progress < warmup:
        return highest * progress / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1e-9, 1 - warmup)))
