"""The whole model: embeddings of images and captions, and scores of their pairs.

Letters: B images, C captions, R regions, T words, D embedding width, d width of the space of words and regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dove_core.config import ModelConfig
from dove_core.model.attention import InterModalGuidance, IntraModalFusion, unit
from dove_core.model.backbone import make_trunk
from dove_core.model.textual import TextEncoder
from dove_core.model.visual import MultiScale, Pooling, Regions

_BLOCK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 25}
"""Elements in a tile: of the attention map (pairs x words x regions) and of the guided images (pairs x D)."""

_KEEP_ELEMENTS = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Elements kept for the backward pass, 2 bytes each in half precision. A larger matrix is computed again there, which
takes a third more time."""

_GROUPS = 8
"""Least number of groups of captions of similar length, where the tile size allows it."""


class ImageFeatures(NamedTuple):
    """The image side of all scores: `embedding (B, D)` of length 1, `fused (B, D)`, and `key` and `value` of IGA."""

    embedding: Tensor
    fused: Tensor
    key: Tensor
    value: Tensor

    def rows(self, which: slice | Tensor | Sequence[int]) -> ImageFeatures:
        """Return the features of some images."""
        return ImageFeatures(*(part[which] for part in self))


class CaptionFeatures(NamedTuple):
    """The caption side of all scores: `embedding (C, D)` of length 1; `query`, `weight` and `pooled` of IGA.

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
    """The model of arXiv 2310.08276; docs/decisions/0003-roam.md says where we had to interpret the paper."""

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
        self.guidance = InterModalGuidance(dim)

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Encode `(B, 3, S, S)` normalised floats to global vectors `v_M (B, D)` of length 1."""
        means, _ = self.pooling(self.trunk(pixels))
        return unit(self.multiscale(means)[1])

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
        return ImageFeatures(unit(global_vector), fused.float(), key, value), regions

    def encode_captions(self, tokens: Tensor, lengths: Tensor) -> CaptionFeatures:
        """Encode tokens `(C, T)` with `lengths (C,)`, independent of any image."""
        words, pooled, mask = self.text(tokens, lengths)
        return CaptionFeatures(unit(pooled), *self.guidance.prepare_words(words, mask), lengths.cpu())

    def score_pairs(self, images: ImageFeatures, captions: CaptionFeatures, *, block: int | None = None) -> Tensor:
        """Return `S (B, C)` from -1 to 1, the mean of two cosines: of image i guided by caption j with the caption, and
        of the words with the regions that they attend to.

        The matrix is computed in tiles of at most `block` elements of the attention map, so that memory is bounded for
        any B and C. With gradients, a large matrix is computed again in the backward pass instead of kept. A tile holds
        captions of similar length, so that little time is spent on padding.
        """
        elements = block or _BLOCK_ELEMENTS[images.key.device.type]
        order = captions.lengths.argsort(stable=True)
        captions = captions.rows(order)
        tiles = list(_tiles(images, captions.lengths.tolist(), elements))
        whole = len(images.key) * sum(_elements(images, length) for length in captions.lengths.tolist())
        keep = whole <= _KEEP_ELEMENTS[images.key.device.type] or not torch.is_grad_enabled()
        rows: dict[int, list[Tensor]] = {}
        for i, j in tiles:
            _, fused, key, value = images.rows(i)
            _, query, weight, pooled, lengths = captions.rows(j)
            words = int(lengths[-1])
            parts = (fused, key, value, query[:, :words], weight[:, :words], pooled)
            tile = self._score_tile(*parts) if keep else checkpoint(self._score_tile, *parts, use_reentrant=False)
            rows.setdefault(i.start, []).append(tile)
        if not rows:
            return images.fused.new_zeros(len(images.fused), len(captions.pooled))
        scores = torch.cat([torch.cat(row, dim=1) for row in rows.values()])
        return scores[:, order.argsort().to(scores.device, non_blocking=True)]

    def _score_tile(
        self, fused: Tensor, key: Tensor, value: Tensor, query: Tensor, weight: Tensor, pooled: Tensor
    ) -> Tensor:
        guided, local = self.guidance(fused, key, value, query, weight)
        product = (guided * pooled).sum(dim=-1)  # float32 also under autocast, unlike a matrix product
        length: Tensor = torch.linalg.vector_norm(guided, dim=-1)
        scores: Tensor = 0.5 * (product / length.clamp(min=1e-12) + local)
        return scores

    def forward(
        self, pixels: Tensor, tokens: Tensor, lengths: Tensor, paired: int | None = None
    ) -> tuple[ImageFeatures, CaptionFeatures, Tensor]:
        """Return the features of both sides, and the scores of all pairs with the first `paired` captions."""
        images, captions = self.encode_images(pixels), self.encode_captions(tokens, lengths)
        return images, captions, self.score_pairs(images, captions.rows(slice(paired)))


def _elements(images: ImageFeatures, words: float) -> float:
    """Return the elements of the largest tensors for one pair."""
    _, regions, dim = images.value.shape
    return words * regions + dim


def _tiles(images: ImageFeatures, lengths: Sequence[int], elements: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of tiles of at most `elements`, at least one pair; `lengths` must ascend."""
    b = len(images.key)
    pairs = max(1, int(elements / _elements(images, max(1.0, sum(lengths) / max(1, len(lengths))))))
    height = max(1, min(b, max(int(pairs**0.5), pairs * _GROUPS // max(1, len(lengths)))))
    columns, start = list[slice](), 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - start) * _elements(images, lengths[end]) > elements // height:
            columns.append(slice(start, end))
            start = end
    for first in range(0, b, height):
        for column in columns:
            yield slice(first, min(first + height, b)), column
