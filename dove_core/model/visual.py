"""The image encoder: scales (MSV) and regions (RoI) from the maps of one trunk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from dove_core.model.backbone import STRIDES

_REGION_STRIDE = 16
"""Regions are sampled at the resolution of stage 4 of the ResNet: one cell for 16 x 16 pixels."""


class Pooling(nn.Module):
    """Pools the map of each stage by one matrix product: to its mean and, from stage 3 on, to regions (RoIAlign).

    The gradient of a matrix product is channels-last, as the trunk's own gradient; another layout makes the trunk's
    backward pass much slower on a CPU. For the mean of n cells, they are summed with a weight of about the square root
    of 1 / n: the plain sum is too large for float16, and 1 / n is too small. The weight is a power of two, exact in any
    precision.
    """

    def __init__(self, *, size: int, grid: int, center_frac: float | None) -> None:
        super().__init__()
        boxes = region_boxes(size, grid, center_frac=center_frac)
        for stride in STRIDES:
            side = -(-size // stride)
            weights = torch.full((1, side * side), _share(side))
            if stride > STRIDES[0]:
                weights = torch.cat((weights, region_weights(boxes, size, stride)))
            self.register_buffer(f"weights_{stride}", weights, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map the trunk's maps to the means `(B, width)` of all stages and regions `(B, R, width)` of stages 3 to 5."""
        means, regions = list[Tensor](), list[Tensor]()
        for m, stride in zip(maps, STRIDES, strict=True):
            cells, side = m.flatten(2).transpose(1, 2), m.shape[-1]
            pooled = self.get_buffer(f"weights_{stride}").to(m.dtype) @ cells
            means.append(pooled[:, 0] / (_share(side) * side * side))
            regions.append(pooled[:, 1:])
        return means, regions[1:]


def _share(side: int) -> float:
    """Return the power of two between 1 / side and 2 / side."""
    return 0.5 ** (side.bit_length() - 1)


class MultiScale(nn.Module):
    """MSV encoder: projects the mean of each stage; a learned gate weights the scales."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim)) for width in widths])
        self.gate = nn.Linear(dim, 1)
        self.out = nn.Linear(dim, dim)

    def forward(self, means: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map the means of the stages to `V_M (B, M, D)` and the global vector `v_M (B, D)`."""
        scales = torch.stack([project(mean) for project, mean in zip(self.project, means, strict=True)], dim=1)
        weight = self.gate(torch.tanh(scales)).softmax(dim=1)
        return scales, self.out((weight * scales).sum(dim=1))


def region_boxes(size: int, grid: int, *, center_frac: float | None) -> Tensor:
    """Return boxes `(R, 4)` as x1, y1, x2, y2 in pixels: grid cells row by row, then the centre box unless None."""
    edges = torch.linspace(0, size, grid + 1)
    y, x = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    x, y = x.flatten(), y.flatten()
    boxes = torch.stack((edges[x], edges[y], edges[x + 1], edges[y + 1]), dim=1)
    if center_frac is None:
        return boxes
    low, high = size * (1 - center_frac) / 2, size * (1 + center_frac) / 2
    return torch.cat((boxes, torch.tensor([[low, low, high, high]])))


def region_weights(boxes: Tensor, size: int, stride: int) -> Tensor:
    """Return "resample a stage's map to one resolution, then RoIAlign" as a matrix `(R, n * n)`; n is the map's side.

    The boxes are the same for every image, and both operations are linear in the map. Applied to all unit maps they
    give a matrix that does the same in one product, on any device, in bf16, with a deterministic gradient.
    """
    n, cells = -(-size // stride), -(-size // _REGION_STRIDE)
    columns = []
    for first in range(0, n * n, 1024):
        cell = torch.arange(first, min(first + 1024, n * n))
        units = F.one_hot(cell, n * n).float().view(-1, 1, n, n)
        if n > cells:
            same = F.adaptive_avg_pool2d(units, (cells, cells))
        else:
            same = F.interpolate(units, size=(cells, cells), mode="bilinear", align_corners=False)
        boxed = roi_align(same.transpose(0, 1), [boxes], 1, 1 / _REGION_STRIDE, sampling_ratio=4, aligned=True)
        columns.append(boxed.flatten(1))
    return torch.cat(columns, dim=1)


class Regions(nn.Module):
    """RoI encoder: projects the regions of stages 3 to 5 and sums them.

    Maps are pooled before they are projected: both operations are linear, and there are fewer regions than cells.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([nn.Linear(width, dim) for width in widths[1:]])
        self.norm = nn.LayerNorm(dim)

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Map the regions of stages 3 to 5, each `(B, R, width)`, to `V_R (B, R, D)`."""
        first, second, third = (project(regions) for project, regions in zip(self.project, pooled, strict=True))
        result: Tensor = self.norm(F.gelu(first + second + third))
        return result
