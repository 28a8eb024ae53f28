"""The image encoder: scales (MSV) and regions (RoI) from the maps of one trunk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from dove_core.model.trunk import MapShape


class Pooling(nn.Module):
    """Pools each map of the trunk by one matrix product: to its mean and, from the second on, to regions (RoIAlign).

    Regions are sampled at the resolution of the map before the last: of a ResNet, one cell for 16 x 16 pixels.

    The gradient of a matrix product is channels-last, as the trunk's own gradient; another layout makes the trunk's
    backward pass much slower on a CPU. For the mean of n cells, they are summed with a weight of about the square root
    of 1 / n: the plain sum is too large for float16, and 1 / n is too small. The weight is a power of two, exact in any
    precision.
    """

    def __init__(self, shapes: Sequence[MapShape], *, size: int, grid: int, center_frac: float | None) -> None:
        super().__init__()
        boxes = region_boxes(size, grid, center_frac=center_frac)
        for k, shape in enumerate(shapes):
            weights = torch.full((1, shape.side**2), _share(shape.side))
            if k:
                weights = torch.cat((weights, region_weights(boxes, shape.side, sampled=shapes[-2])))
            self.register_buffer(f"weights_{k}", weights, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map the trunk's maps to means `(B, width)` of all and regions `(B, R, width)` of all but the first."""
        means, regions = list[Tensor](), list[Tensor]()
        for k, m in enumerate(maps):
            cells, side = m.flatten(2).transpose(1, 2), m.shape[-1]
            pooled = self.get_buffer(f"weights_{k}").to(m.dtype) @ cells
            means.append(pooled[:, 0] / (_share(side) * side * side))
            regions.append(pooled[:, 1:])
        return means, regions[1:]


def _share(side: int) -> float:
    """Return the power of two between 1 / side and 2 / side."""
    return 0.5 ** (side.bit_length() - 1)


class MultiScale(nn.Module):
    """MSV encoder: projects the mean of each map; a learned gate weights the scales."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([nn.Sequential(nn.Linear(width, dim), nn.LayerNorm(dim)) for width in widths])
        self.gate = nn.Linear(dim, 1)
        self.out = nn.Linear(dim, dim)

    def forward(self, means: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map the means of the maps to `V_M (B, M, D)` and the global vector `v_M (B, D)`."""
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


def region_weights(boxes: Tensor, n: int, *, sampled: MapShape) -> Tensor:
    """Return "resample a map to the resolution of `sampled`, then RoIAlign" as a matrix `(R, n * n)`.

    n is the side of the map.

    The boxes are the same for every image, and both operations are linear in the map. Applied to all unit maps they
    give a matrix that does the same in one product, on any device, in bf16, with a deterministic gradient.
    """
    cells, columns = sampled.side, []
    for first in range(0, n * n, 1024):
        cell = torch.arange(first, min(first + 1024, n * n))
        units = F.one_hot(cell, n * n).float().view(-1, 1, n, n)
        if n > cells:
            same = F.adaptive_avg_pool2d(units, (cells, cells))
        else:
            same = F.interpolate(units, size=(cells, cells), mode="bilinear", align_corners=False)
        boxed = roi_align(same.transpose(0, 1), [boxes], 1, 1 / sampled.stride, sampling_ratio=4, aligned=True)
        columns.append(boxed.flatten(1))
    return torch.cat(columns, dim=1)


class Regions(nn.Module):
    """RoI encoder: projects the regions of all maps but the first and sums them.

    Maps are pooled before they are projected: both operations are linear, and there are fewer regions than cells.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([nn.Linear(width, dim) for width in widths[1:]])
        self.norm = nn.LayerNorm(dim)

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Map the regions of all maps but the first, each `(B, R, width)`, to `V_R (B, R, D)`."""
        projected = (project(regions) for project, regions in zip(self.project, pooled, strict=True))
        result: Tensor = self.norm(F.gelu(reduce(torch.add, projected)))
        return result
