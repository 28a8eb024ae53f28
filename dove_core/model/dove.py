"""Dove: pictures and captions to embeddings, and pairs of them to scores.

Letters: B pictures, C captions, R regions, T words, D embedding width, h heads, d = D / h.
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
from dove_core.model.backbone import Trunk
from dove_core.model.textual import TextEncoder
from dove_core.model.visual import MultiScale, Regions

_BLOCK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}
"""Elements of the attention map (pairs x heads x words x regions) computed at once: 16 MiB on a CPU, 1 GiB on a GPU."""


class ImageFeatures(NamedTuple):
    """What a picture brings to any caption: `embedding (B, D)` and `fused (B, D)` of length 1, IGA's `key`, `value`."""

    embedding: Tensor
    fused: Tensor
    key: Tensor
    value: Tensor

    def rows(self, which: slice | Tensor | Sequence[int]) -> ImageFeatures:
        """Return the features of some pictures."""
        return ImageFeatures(*(part[which] for part in self))


class CaptionFeatures(NamedTuple):
    """What a caption brings to any picture: `embedding (C, D)` of length 1, `query`, `weight`, `pooled (C, D)`."""

    embedding: Tensor
    query: Tensor
    weight: Tensor
    pooled: Tensor

    def rows(self, which: slice | Tensor | Sequence[int]) -> CaptionFeatures:
        """Return the features of some captions."""
        return CaptionFeatures(*(part[which] for part in self))


class Dove(nn.Module):
    """The model of arXiv 2310.08276 as our docs/decisions.md reads it."""

    def __init__(self, config: ModelConfig, words: int) -> None:
        super().__init__()
        dim, heads, dropout = config.embed_dim, config.heads, config.dropout
        self.trunk = Trunk(config.backbone)
        self.multiscale = MultiScale(self.trunk.widths, dim)
        self.regions = Regions(
            self.trunk.widths,
            dim,
            size=config.image_size,
            grid=config.region_grid,
            center_frac=config.center_box_frac if config.center_box == "center" else None,
        )
        self.text = TextEncoder(words, config.word_dim, dim, heads, dropout)
        self.fusion = IntraModalFusion(dim, heads, dropout)
        self.guidance = InterModalGuidance(dim, heads, dropout)

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """Encode `(B, 3, S, S)` normalised floats; no caption is involved."""
        maps = self.trunk(pixels)
        scales, global_vector = self.multiscale(maps)
        regions = self.regions(maps)
        fused = self.fusion(regions, scales)
        return ImageFeatures(_unit(global_vector), _unit(fused), *self.guidance.prepare_regions(regions))

    def encode_captions(self, tokens: Tensor, lengths: Tensor) -> CaptionFeatures:
        """Encode tokens `(C, T)` of `lengths (C,)`; no picture is involved."""
        words, pooled, mask = self.text(tokens, lengths)
        return CaptionFeatures(_unit(pooled), *self.guidance.prepare_words(words, mask), pooled)

    def score_global(self, images: ImageFeatures, captions: CaptionFeatures) -> Tensor:
        """Return `G (B, C)`: the cosine of `v_M` and `t_G`. Can be indexed, since no pair is needed."""
        return images.embedding @ captions.embedding.T

    def score_pairs(self, images: ImageFeatures, captions: CaptionFeatures, *, block: int | None = None) -> Tensor:
        """Return `S (B, C)`: the cosine of `v_MR^i` and of caption j guided by picture i.

        Computed in tiles of at most `block` elements of the attention map, so memory stays bounded at any B x C; with
        gradients, a tile is computed again on the way back instead of being kept.
        """
        elements = block or _BLOCK_ELEMENTS[images.key.device.type]
        tiles = list(_tiles(images, captions, elements))
        keep = len(tiles) == 1 or not torch.is_grad_enabled()
        rows: dict[int, list[Tensor]] = {}
        for i, j in tiles:
            parts = (*images.rows(i)[1:], *captions.rows(j)[1:])
            tile = self._score_tile(*parts) if keep else checkpoint(self._score_tile, *parts, use_reentrant=False)
            rows.setdefault(i.start, []).append(tile)
        if not rows:
            return images.fused.new_zeros(len(images.fused), len(captions.pooled))
        return torch.cat([torch.cat(row, dim=1) for row in rows.values()])

    def _score_tile(
        self, fused: Tensor, key: Tensor, value: Tensor, query: Tensor, weight: Tensor, pooled: Tensor
    ) -> Tensor:
        guided = _unit(self.guidance(key, value, query, weight, pooled))
        return (fused[:, None] * guided).sum(dim=-1)  # float32 under autocast too, unlike a product of matrices

    def forward(self, pixels: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[ImageFeatures, CaptionFeatures, Tensor]:
        """Return the features of both sides and the scores `(B, C)` of all pairs."""
        images, captions = self.encode_images(pixels), self.encode_captions(tokens, lengths)
        return images, captions, self.score_pairs(images, captions)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)


def _tiles(images: ImageFeatures, captions: CaptionFeatures, elements: int) -> Iterator[tuple[slice, slice]]:
    b, heads, regions, _ = images.key.shape
    c, _, words, _ = captions.query.shape
    pairs = max(1, elements // (heads * regions * words))
    height = max(1, min(b, int(pairs**0.5)))
    width = max(1, min(c, pairs // height))
    height = max(1, min(b, pairs // width))
    for i in range(0, b, height):
        for j in range(0, c, width):
            yield slice(i, i + height), slice(j, j + width)
