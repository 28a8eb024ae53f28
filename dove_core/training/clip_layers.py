"""The layers of both towers of a CLIP model, from the input on: for freezing, and for a learning rate of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from dove_core.config import FineTuneConfig
from dove_core.errors import UsageError

_BLOCK = re.compile(r"(?:^|\.)(?:resblocks|blocks?|layers?|stages|h)[._]?(\d+)\.")
_FIRST = re.compile(r"emb|(^|\.)(conv|bn)\d|ln_pre|norm_pre|stem|(cls|reg)_token")


@dataclass(frozen=True)
class Tower:
    """A tower's parameters by depth: 0 is before its blocks, 1 to `count` are the blocks, `count` + 1 is after them."""

    name: str
    depths: dict[str, int]
    count: int

    def frozen(self, blocks: int) -> set[str]:
        """Return the names of the parameters in the first `blocks` blocks and before them; -1: of the whole tower.

        Raises:
            UsageError: the tower has fewer blocks.
        """
        if blocks > self.count:
            message = f"--freeze-{self.name}-blocks {blocks}: the {self.name} tower has {self.count} blocks"
            raise UsageError(message, hint="give that many or fewer, or -1 for the whole tower")
        last = self.count + 1 if blocks == -1 else blocks
        return {name for name, depth in self.depths.items() if blocks and depth <= last}


def towers(model: nn.Module) -> tuple[Tower, Tower]:
    """Return the image tower and the text tower of a model of open_clip, without its scale and bias of the scores."""
    names = [name for name, _ in model.named_parameters() if name not in ("logit_scale", "logit_bias")]
    images = [name for name in names if name.startswith("visual.")]
    return _tower("image", images), _tower("text", (name for name in names if not name.startswith("visual.")))


def freeze(model: nn.Module, tuning: FineTuneConfig) -> None:
    """Freeze the first blocks of both towers, and the bias of a sigmoid loss, which this loss has no use for.

    Raises:
        UsageError: a tower has fewer blocks, or both towers are frozen as a whole.
    """
    if tuning.freeze_image_blocks == tuning.freeze_text_blocks == -1:
        message = "--freeze-image-blocks -1 and --freeze-text-blocks -1 leave nothing to train"
        raise UsageError(message, hint="freeze one tower, or the first blocks of both")
    images, texts = towers(model)
    still = images.frozen(tuning.freeze_image_blocks) | texts.frozen(tuning.freeze_text_blocks) | {"logit_bias"}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in still)


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Return groups of the trained parameters, with their `share` of the learning rate.

    What is after a tower's blocks has the whole rate, each block `layer_decay` times that of the one after it. Weight
    decay is for tensors of two or more dimensions, as in open_clip.
    """
    shares = {"logit_scale": 1.0}
    for tower in towers(model):
        shares |= {name: layer_decay ** (tower.count + 1 - depth) for name, depth in tower.depths.items()}
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = shares[name], weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault(key, {"params": [], "share": key[0], "weight_decay": key[1]})["params"].append(parameter)
    return list(groups.values())


def _tower(name: str, parameters: Iterable[str]) -> Tower:
    blocks = {parameter: _BLOCK.search(parameter) for parameter in parameters}
    numbers = sorted({int(found[1]) for found in blocks.values() if found})
    depths = {
        parameter: numbers.index(int(found[1])) + 1 if found else _outside(parameter, len(numbers))
        for parameter, found in blocks.items()
    }
    return Tower(name, depths, len(numbers))


def _outside(parameter: str, count: int) -> int:
    """Return the depth of a parameter outside the blocks: pooling has embeddings of its own, after the blocks."""
    return 0 if _FIRST.search(parameter) and "pool" not in parameter else count + 1
