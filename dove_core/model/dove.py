"""The whole model: embeddings of images and captions, and scores of their pairs.

Letters: B images, C captions, R regions, T words, D embedding width, h heads, d = D / h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dove_core.config import ModelConfig
from dove_core.model.attention import InterModalGuidance, IntraModalFusion
from dove_core.model.backbone import make_trunk
from dove_core.model.textual import TextEncoder
from dove_core.model.visual import MultiScale, Pooling, Regions

_BLOCK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 25}
"""Elements of the attention map (pairs x heads x words x regions) in a tile: 8 MiB in half precision on a CPU, 64 MiB
on a GPU."""

_KEEP_ELEMENTS = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Elements kept for the backward pass, 2 bytes each in half precision. A larger matrix is computed again there, which
takes a third more time."""

_GROUPS = 8
"""Least number of groups of captions of similar length, where the tile size allows it."""


class ImageFeatures(NamedTuple):
    """The image side of all scores: `embedding (B, D)` and `fused (B, D)` of length 1, `key` and `value` of IGA."""

    embedding: Tensor
    fused: Tensor
    key: Tensor
    value: Tensor

    def rows(self, which: slice | Tensor | Sequence[int]) -> ImageFeatures:
        """Return the features of some images."""
        return ImageFeatures(*(part[which] for part in self))


class CaptionFeatures(NamedTuple):
    """The caption side of all scores: `embedding (C, D)` of length 1; `query`, `weight` and `pooled (C, D)` of IGA.

    `lengths (C,)`, the number of words, stays on the CPU.
    """

    embedding: Tensor
    query: Tensor
    weight: Tensor
    pooled: Tensor
    lengths: Tensor

    def rows(self, which: slice | Tensor | Sequence[int]) -> CaptionFeatures:
        """Return the features of some captions; does not wait for the GPU if `which` is on the CPU."""
        there = which.to(self.pooled.device, non_blocking=True) if isinstance(which, Tensor) else which
        lengths = self.lengths[which.cpu() if isinstance(which, Tensor) else which]
        embedding, query, weight, pooled = (part[there] for part in self[:4])
        return CaptionFeatures(embedding, query, weight, pooled, lengths)


class Dove(nn.Module):
    """The model of arXiv 2310.08276; docs/decisions.md says where we had to interpret the paper."""

    def __init__(self, config: ModelConfig, words: int) -> None:
        super().__init__()
        dim, heads, dropout = config.embed_dim, config.heads, config.dropout
        self.trunk = make_trunk(config.backbone, config.image_size)
        self.pooling = Pooling(
            self.trunk.shapes,
            size=config.image_size,
            grid=config.region_grid,
            center_frac=config.center_box_frac if config.center_box == "center" else None,
        )
        self.multiscale = MultiScale(self.trunk.widths, dim)
        self.regions = Regions(self.trunk.widths, dim)
        self.text = TextEncoder(words, config.word_dim, dim, heads, dropout)
        self.fusion = IntraModalFusion(dim, heads, dropout)
        self.guidance = InterModalGuidance(dim, heads, dropout)

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Encode `(B, 3, S, S)` normalised floats to global vectors `v_M (B, D)` of length 1."""
        means, _ = self.pooling(self.trunk(pixels))
        return _unit(self.multiscale(means)[1])

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """Encode `(B, 3, S, S)` normalised floats, independent of any caption."""
        return self.encode_regions(pixels)[0]

    def encode_regions(self, pixels: Tensor) -> tuple[ImageFeatures, Tensor]:
        """Encode images, and also return the regions `V_R (B, R, D)` from which keys and values are computed."""
        means, boxes = self.pooling(self.trunk(pixels))
        scales, global_vector = self.multiscale(means)
        regions = self.regions(boxes)
        fused = self.fusion(regions, scales)
        key, value = self.guidance.prepare_regions(regions)
        return ImageFeatures(_unit(global_vector), _unit(fused), key, value), regions

    def encode_captions(self, tokens: Tensor, lengths: Tensor) -> CaptionFeatures:
        """Encode tokens `(C, T)` with `lengths (C,)`, independent of any image."""
        words, pooled, mask = self.text(tokens, lengths)
        return CaptionFeatures(_unit(pooled), *self.guidance.prepare_words(words, mask), pooled, lengths.cpu())

    def score_pairs(self, images: ImageFeatures, captions: CaptionFeatures, *, block: int | None = None) -> Tensor:
        """Return `S (B, C)`: the cosine of `v_MR^i` and of caption j guided by image i.

        The matrix is computed in tiles of at most `block` elements of the attention map, so that memory is bounded for
        any B and C. With gradients, a large matrix is computed again in the backward pass instead of kept. A tile holds
        captions of similar length, so that little time is spent on padding.
        """
        elements = block or _BLOCK_ELEMENTS[images.key.device.type]
        order = captions.lengths.argsort(stable=True)
        captions = captions.rows(order)
        tiles = list(_tiles(images, captions.lengths.tolist(), elements))
        _, heads, regions, _ = images.key.shape
        whole = len(images.key) * int(captions.lengths.sum()) * heads * regions
        keep = whole <= _KEEP_ELEMENTS[images.key.device.type] or not torch.is_grad_enabled()
        rows: dict[int, list[Tensor]] = {}
        for i, j in tiles:
            _, fused, key, value = images.rows(i)
            _, query, weight, pooled, lengths = captions.rows(j)
            words = int(lengths[-1])
            parts = (fused, key, value, query[:, :, :words], weight[:, :, :words], pooled)
            tile = self._score_tile(*parts) if keep else checkpoint(self._score_tile, *parts, use_reentrant=False)
            rows.setdefault(i.start, []).append(tile)
        if not rows:
            return images.fused.new_zeros(len(images.fused), len(captions.pooled))
        scores = torch.cat([torch.cat(row, dim=1) for row in rows.values()])
        return scores[:, order.argsort().to(scores.device, non_blocking=True)]

    def _score_tile(
        self, fused: Tensor, key: Tensor, value: Tensor, query: Tensor, weight: Tensor, pooled: Tensor
    ) -> Tensor:
        guided: Tensor = self.guidance(key, value, query, weight, pooled).float()
        product = (fused[:, None] * guided).sum(dim=-1)  # float32 also under autocast, unlike a matrix product
        length: Tensor = torch.linalg.vector_norm(guided, dim=-1)
        return product / length.clamp(min=1e-12)

    def forward(
        self, pixels: Tensor, tokens: Tensor, lengths: Tensor, paired: int | None = None
    ) -> tuple[ImageFeatures, CaptionFeatures, Tensor]:
        """Return the features of both sides, and the scores of all pairs with the first `paired` captions."""
        images, captions = self.encode_images(pixels), self.encode_captions(tokens, lengths)
        return images, captions, self.score_pairs(images, captions.rows(slice(paired)))


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)


def _tiles(images: ImageFeatures, lengths: Sequence[int], elements: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of tiles of at most `elements`, at least one pair; `lengths` must ascend."""
    b, heads, regions, _ = images.key.shape
    mean = max(1.0, sum(lengths) / max(1, len(lengths)))
    pairs = max(1, int(elements / (heads * regions * mean)))
    height = max(1, min(b, max(int(pairs**0.5), pairs * _GROUPS // max(1, len(lengths)))))
    budget = elements // (height * heads * regions)  # words of all captions in a tile
    columns, start = list[slice](), 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - start) * lengths[end] > budget:
            columns.append(slice(start, end))
            start = end
    for first in range(0, b, height):
        for column in columns:
            yield slice(first, min(first + height, b)), column
