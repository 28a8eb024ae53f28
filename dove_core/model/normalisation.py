"""The mean and deviation with which pixels become the input of an image trunk; imports no torch."""

from __future__ import annotations

from typing import NamedTuple


class Normalisation(NamedTuple):
    """Mean and deviation of red, green and blue, for pixels between 0 and 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
