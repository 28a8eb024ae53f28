"""What the trainer needs of a model, of any family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from dove_core.encoding.encoder import Encoder

Gather = Callable[[Tensor, Sequence[int]], Tensor]
"""Joins a tensor of all processes along its first dimension, with gradient, given each process's length."""


class TextTokens(Protocol):
    """Turns a caption into tokens. It can be pickled, since loader processes call it."""

    def encode(self, text: str) -> Sequence[int]:
        """Return the tokens of a caption, at least one."""
        ...


class Trainable(Protocol):
    """A model in training, with its loss and the form of its checkpoints."""

    @property
    def model(self) -> nn.Module:
        """The model; it is `model` of the objective too."""
        ...

    @property
    def objective(self) -> nn.Module:
        """The loss of a batch over all processes.

        It maps a `Batch` and each process's number of images to a NamedTuple of scalars. The first is the loss.
        """
        ...

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the objective's scalars."""
        ...

    @property
    def image_size(self) -> int:
        """Side S of the model's input in pixels."""
        ...

    @property
    def tokenizer(self) -> TextTokens:
        """Turns captions into tokens."""
        ...

    def train(self) -> None:
        """Switch to training mode; the statistics of frozen batch norms stay as they are."""
        ...

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups for the optimizer; `share` is a group's share of the learning rate."""
        ...

    def after_step(self) -> None:
        """Keep parameters within their bounds, after each step of the optimizer."""
        ...

    def unfreeze_if_due(self, epoch: int) -> bool:
        """Unfreeze what is frozen until `epoch`; tell whether anything changed."""
        ...

    def compile(self) -> None:
        """Compile the image encoder."""
        ...

    def encoder(self, model: nn.Module) -> Encoder:
        """Return the encoder of `model`, or of another model of its shape, in evaluation mode."""
        ...

    def save(self, folder: Path, model: nn.Module) -> None:
        """Write a checkpoint of `model`, or of another model of its shape, into an existing folder."""
        ...
