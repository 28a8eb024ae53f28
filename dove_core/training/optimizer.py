"""AdamW with its parameter groups, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def decayed_by_shape(
    parameters: Iterable[nn.Parameter], weight_decay: float, *, share: float = 1.0
) -> list[dict[str, Any]]:
    """Return two groups of parameters: weight decay is for tensors of two or more dimensions.

    Frozen parameters are included, since they may be unfrozen later; without a gradient, AdamW skips them.
    """
    every = list(parameters)
    return [
        {"params": [p for p in every if p.ndim >= 2], "weight_decay": weight_decay, "share": share},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0, "share": share},
    ]


def make_optimizer(groups: list[dict[str, Any]], *, learning_rate: float) -> torch.optim.AdamW:
    """Return AdamW over groups of parameters."""
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]


def learning_rate_at(progress: float, *, warmup: float, highest: float) -> float:
    """Return the rate after a share `progress` (0 to 1) of training: linear up to `warmup`, then half a cosine to zero.

    It depends on the samples seen, not on steps, so it stays continuous when the number of processes changes.
    """
    if progress < warmup:
        return highest * progress / warmup
    return highest * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / max(1e-9, 1 - warmup)))
