"""Dove: images and captions to embeddings, and pairs of them to scores.

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
from dove_core.model.backbone import Trunk
from dove_core.model.textual import TextEncoder
from dove_core.model.visual import MultiScale, Pooling, Regions

_BLOCK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 25}
"""Elements of the attention map (pairs x heads x words x regions) computed at once: 8 MiB in half precision on a CPU,
64 MiB on a GPU."""

_KEEP_ELEMENTS = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Elements kept for the way back, 2 bytes each in half precision; above this, tiles are computed again, at a third more
time."""

_GROUPS = 8
"""So many groups of captions of like length, where tiles are large enough for a choice."""


class ImageFeatures(NamedTuple):
    """What an image brings to any caption: `embedding (B, D)` and `fused (B, D)` of length 1, IGA's `key`, `value`."""

    embedding: Tensor
    fused: Tensor
    key: Tensor
    value: Tensor

    def rows(self, which: slice | Tensor | Sequence[int]) -> ImageFeatures:
        """Return the features of some images."""
        return ImageFeatures(*(part[which] for part in self))

    def lean(self) -> ImageFeatures:
        """Return what the global score needs; the memory of keys and values can go."""
        return self._replace(key=self.key[:, :, :0].clone(), value=self.value[:, :, :0].clone())


class CaptionFeatures(NamedTuple):
    """What a caption brings to any image: `embedding (C, D)` of length 1, `query`, `weight`, `pooled (C, D)`.

    Its words' number, `lengths (C,)`, stays on the CPU.
    """

    embedding: Tensor
    query: Tensor
    weight: Tensor
    pooled: Tensor
    lengths: Tensor

    def rows(self, which: slice | Tensor | Sequence[int]) -> CaptionFeatures:
        """Return the features of some captions; a GPU need not be waited for if `which` is on the CPU."""
        there = which.to(self.pooled.device, non_blocking=True) if isinstance(which, Tensor) else which
        lengths = self.lengths[which.cpu() if isinstance(which, Tensor) else which]
        embedding, query, weight, pooled = (part[there] for part in self[:4])
        return CaptionFeatures(embedding, query, weight, pooled, lengths)

    def lean(self) -> CaptionFeatures:
        """Return what the global score needs; the memory of queries and weights can go."""
        return self._replace(query=self.query[:, :, :0].clone(), weight=self.weight[:, :, :0].clone())


class Dove(nn.Module):
    """The model of arXiv 2310.08276 as our docs/decisions.md reads it."""

    def __init__(self, config: ModelConfig, words: int) -> None:
        super().__init__()
        dim, heads, dropout = config.embed_dim, config.heads, config.dropout
        self.trunk = Trunk(config.backbone)
        self.pooling = Pooling(
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
        """Return the global vectors `v_M (B, D)`, of length 1, of `(B, 3, S, S)` normalised floats."""
        means, _ = self.pooling(self.trunk(pixels))
        return _unit(self.multiscale(means)[1])

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """Encode `(B, 3, S, S)` normalised floats; no caption is involved."""
        return self.encode_regions(pixels)[0]

    def encode_regions(self, pixels: Tensor) -> tuple[ImageFeatures, Tensor]:
        """Do the same, and return the regions `V_R (B, R, D)` that keys and values are made of, too."""
        means, boxes = self.pooling(self.trunk(pixels))
        scales, global_vector = self.multiscale(means)
        regions = self.regions(boxes)
        fused = self.fusion(regions, scales)
        key, value = self.guidance.prepare_regions(regions)
        return ImageFeatures(_unit(global_vector), _unit(fused), key, value), regions

    def encode_captions(self, tokens: Tensor, lengths: Tensor) -> CaptionFeatures:
        """Encode tokens `(C, T)` of `lengths (C,)`; no image is involved."""
        words, pooled, mask = self.text(tokens, lengths)
        return CaptionFeatures(_unit(pooled), *self.guidance.prepare_words(words, mask), pooled, lengths.cpu())

    def score_global(self, images: ImageFeatures, captions: CaptionFeatures) -> Tensor:
        """Return `G (B, C)`: the cosine of `v_M` and `t_G`. Can be indexed, since no pair is needed."""
        return images.embedding @ captions.embedding.T

    def score_pairs(self, images: ImageFeatures, captions: CaptionFeatures, *, block: int | None = None) -> Tensor:
        """Return `S (B, C)`: the cosine of `v_MR^i` and of caption j guided by image i.

        Computed in tiles of at most `block` elements of the attention map, so memory stays bounded at any B x C; with
        gradients, tiles of a large matrix are computed again on the way back instead of being kept. Captions of like
        length share a tile, so that padding costs next to nothing.
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
        product = (fused[:, None] * guided).sum(dim=-1)  # float32 under autocast too, unlike a product of matrices
        length: Tensor = torch.linalg.vector_norm(guided, dim=-1)
        return product / length.clamp(min=1e-12)

    def forward(
        self, pixels: Tensor, tokens: Tensor, lengths: Tensor, paired: int | None = None
    ) -> tuple[ImageFeatures, CaptionFeatures, Tensor]:
        """Return both sides' features and the scores of all pairs, or of those with the first `paired` captions."""
        images, captions = self.encode_images(pixels), self.encode_captions(tokens, lengths)
        return images, captions, self.score_pairs(images, captions.rows(slice(paired)))


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)


def _tiles(images: ImageFeatures, lengths: Sequence[int], elements: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of tiles of at most `elements`, one pair at least; `lengths` ascend."""
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
