"""The image trunk: a ResNet of torchvision that returns the feature maps of its stages 2 to 5."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)


class Trunk(nn.Module):
    """A ResNet without its classifier.

    It maps `(B, 3, S, S)` floats to four maps `(B, widths[k], S / STRIDES[k], S / STRIDES[k])`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        resnet = getattr(torchvision.models, name)(weights=None)
        self.name = name
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.stages = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])
        self.widths = tuple(width * (1 if name in ("resnet18", "resnet34") else 4) for width in (64, 128, 256, 512))
        self.frozen = False
        self.to(memory_format=torch.channels_last)  # faster convolutions on CPUs and GPUs

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of stages 2, 3, 4 and 5."""
        maps = [self.stem(pixels.contiguous(memory_format=torch.channels_last))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))  # each stage reads the map of the stage before
        return maps[1:]

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

    def train(self, mode: bool = True) -> Trunk:
        """Switch to training mode, unless frozen: the statistics of a frozen batch norm must not change."""
        return super().train(mode and not self.frozen)
