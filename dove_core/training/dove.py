"""DOVE in training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from dove_core.config import TrainConfig
from dove_core.encoding.dove import Checkpoint, DoveEncoder, save_checkpoint
from dove_core.training.objective import Losses, Objective
from dove_core.training.optimizer import decayed_by_shape
from dove_core.training.trainable import Gather


class DoveTrainable:
    """A `Trainable`: DOVE with the losses of its pairwise and global scores."""

    figures = Losses._fields

    def __init__(self, checkpoint: Checkpoint, training: TrainConfig, gather: Gather) -> None:
        self._checkpoint, self._unfreeze_after = checkpoint, training.unfreeze_after
        self._backbone_rate = training.backbone_rate
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.image_size = checkpoint.config.image_size
        self.objective = Objective(self.model, training, gather)
        if training.freeze_backbone:
            self.model.trunk.freeze()
        self.train()

    def train(self) -> None:
        """Switch to training mode; a frozen trunk keeps its batch-norm statistics."""
        self.model.train()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return groups with and without weight decay; those of the trunk have a learning rate of their own."""
        trunk = set(self.model.trunk.parameters())
        others = (parameter for parameter in self.objective.parameters() if parameter not in trunk)
        own = decayed_by_shape(self.model.trunk.parameters(), weight_decay, share=self._backbone_rate)
        return decayed_by_shape(others, weight_decay) + own

    def after_step(self) -> None:
        """Do nothing: DOVE's parameters have no bounds."""

    def unfreeze_if_due(self, epoch: int) -> bool:
        """Unfreeze the trunk after `unfreeze_after` epochs."""
        trunk = self.model.trunk
        is_due = trunk.frozen and 0 < self._unfreeze_after <= epoch
        if is_due:
            trunk.unfreeze()
        return is_due

    def compile(self) -> None:
        """Compile the trunk."""
        self.model.trunk.compile()

    def encoder(self, model: nn.Module) -> DoveEncoder:
        """Return the encoder of a model, in evaluation mode."""
        return DoveEncoder(self._with(model.eval()))

    def save(self, folder: Path, model: nn.Module) -> None:
        """Write weights, configuration and vocabulary."""
        save_checkpoint(folder, self._with(model))

    def _with(self, model: Any) -> Checkpoint:
        return dataclasses.replace(self._checkpoint, model=model)
