"""What a training returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dove_core.places import Place


@dataclass(frozen=True)
class TrainResult:
    """Result of a training: `history` has one entry for each epoch, as `metrics.jsonl` does.

    >>> model = dove.ModelConfig(backbone="resnet18", image_size=32, embed_dim=32, heads=4)
    >>> training = dove.TrainConfig(weights="none", batch_size=16, max_steps=1)
    >>> dove.train("shards/shapes/train", "runs/one_step", model, training).steps
    1
    """

    run: Place
    steps: int
    best_mean_recall: float | None
    history: tuple[Mapping[str, float], ...]
