"""What every image trunk is: a network that returns maps of an image, from fine to coarse or from shallow to deep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, Self

from torch import Tensor, nn

from dove_core.model.normalisation import Normalisation


class MapShape(NamedTuple):
    """A map `(B, width, side, side)`; one cell stands for `stride` x `stride` pixels."""

    width: int
    stride: int
    side: int


class Trunk(nn.Module, ABC):
    """Maps `(B, 3, S, S)` floats to maps of the shapes `shapes`, two or more; `normalisation` belongs to its weights.

    `name` is its `ModelConfig.backbone`; `first_tensor` is its library's name of the first tensor of its weights.
    """

    name: str
    first_tensor: str
    shapes: tuple[MapShape, ...]
    normalisation: Normalisation

    def __init__(self) -> None:
        super().__init__()
        self.frozen = False

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of the maps."""
        return tuple(shape.width for shape in self.shapes)

    @abstractmethod
    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps."""

    @abstractmethod
    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of a file, as its library names them, to this trunk's; leave out those of a classifier."""

    def freeze(self) -> None:
        """Freeze weights and batch-norm statistics."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def unfreeze(self) -> None:
        """Train weights and batch-norm statistics again."""
        self.frozen = False
        self.requires_grad_(True)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, unless frozen: the statistics of a frozen batch norm must not change."""
        return super().train(mode and not self.frozen)
