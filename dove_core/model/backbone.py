"""The image trunk of a backbone: a ResNet of torchvision, or a model of timm."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torchvision
from torch import Tensor, nn

from dove_core.model.normalisation import IMAGENET
from dove_core.model.timm_trunk import PREFIX, TimmTrunk
from dove_core.model.trunk import MapShape, Trunk

_STRIDES = (4, 8, 16, 32)


def make_trunk(backbone: str, size: int) -> Trunk:
    """Make the trunk of a `ModelConfig.backbone`, with random weights, for images of `size` pixels.

    Raises:
        UsageError: timm is not installed, does not know the model, or the model takes no images of this size.
    """
    return TimmTrunk(backbone, size) if backbone.startswith(PREFIX) else ResNetTrunk(backbone, size)


class ResNetTrunk(Trunk):
    """A ResNet of torchvision without its classifier; it returns the maps of its stages 2 to 5."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        resnet = getattr(torchvision.models, name)(weights=None)
        self.name, self.first_tensor, self.normalisation = name, "conv1.weight", IMAGENET
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.stages = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])
        widths = tuple(width * (1 if name in ("resnet18", "resnet34") else 4) for width in (64, 128, 256, 512))
        self.shapes = tuple(
            MapShape(width, stride, -(-size // stride)) for width, stride in zip(widths, _STRIDES, strict=True)
        )
        self.to(memory_format=torch.channels_last)  # faster convolutions on CPUs and GPUs

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of stages 2, 3, 4 and 5."""
        maps = [self.stem(pixels.contiguous(memory_format=torch.channels_last))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))  # each stage reads the map of the stage before
        return maps[1:]

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of torchvision's ResNet; `fc` is left out."""
        return {_own_name(key): value for key, value in state.items() if not key.startswith("fc.")}


def _own_name(key: str) -> str:
    head, _, rest = key.partition(".")
    if re.fullmatch("layer[1-4]", head):
        return f"stages.{int(head[5:]) - 1}.{rest}"
    return {"conv1": "stem.0.", "bn1": "stem.1."}.get(head, head + ".") + rest
