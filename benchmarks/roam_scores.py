"""Forms of ROAM's scores, and its earlier inter-modal guidance; for `benchmarks.roam_forms`.

Letters: B images, C captions, R regions, T words, D embedding width, h heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dove_core.model.attention import unit
from dove_core.model.dove import Dove


class Earlier(nn.Module):
    """IGA as it was: dot products in several heads; the caption is guided by the image and compared with `v_MR`."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.word_weight = (
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, heads),
        )
        self.out, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim))

    def prepare_regions(self, regions: Tensor) -> tuple[Tensor, ...]:
        return self.key_value(regions).chunk(2, dim=-1)

    def prepare_words(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.word_weight(words).float().masked_fill(~mask[..., None], float("-inf"))
        weight = logits.softmax(dim=1)
        pooled = torch.einsum("ct,ctd->cd", weight.mean(dim=-1).to(words.dtype), words)
        return self.query(words), weight, pooled

    def over_regions(self, key: Tensor, query: Tensor, weight: Tensor) -> Tensor:
        """Return the attention of all words `(C, h, B, R)`."""
        query, key = (x.unflatten(-1, (self.heads, -1)) for x in (query, key))
        attention = torch.einsum("cthd,brhd->chtbr", query * query.shape[-1] ** -0.5, key).softmax(dim=-1)
        return torch.einsum("chtbr,cth->chbr", attention, weight.to(attention.dtype))

    def guided(self, key: Tensor, value: Tensor, query: Tensor, weight: Tensor, pooled: Tensor) -> Tensor:
        mixed = torch.einsum(
            "chbr,brhd->bchd", self.over_regions(key, query, weight), value.unflatten(-1, (self.heads, -1))
        )
        base = self.norm(pooled + self.out(mixed.flatten(2)))
        result: Tensor = base + self.mlp(base)
        return result


class Parts(NamedTuple):
    """What `Dove` scores pairs from: `v_MR` and IGA's parts of images and captions."""

    fused: Tensor
    key: Tensor
    value: Tensor
    query: Tensor
    weight: Tensor
    pooled: Tensor

    def cosines(self) -> Tensor:
        """Return the cosines of words and regions `(C, T, B, R)`."""
        return torch.einsum("ctd,brd->ctbr", self.query, self.key)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (unit(a) * unit(b)).sum(dim=-1)


def now(model: Dove, parts: Parts) -> Tensor:
    return SCORE(model, *parts)


def unit_image(model: Dove, parts: Parts) -> Tensor:
    return SCORE(model, *parts._replace(fused=unit(parts.fused)))


def earlier(model: Dove, parts: Parts) -> Tensor:
    guide: Any = model.guidance
    return cosine(parts.fused[:, None], guide.guided(*parts[1:]))


def local(model: Dove, parts: Parts) -> Tensor:
    found: Tensor = model.guidance(*parts[:5]).local
    return found


def guided(model: Dove, parts: Parts) -> Tensor:
    return cosine(model.guidance(*parts[:5]).guided, parts.pooled)


def not_guided(model: Dove, parts: Parts) -> Tensor:
    return 0.5 * (unit(parts.fused) @ parts.pooled.T + local(model, parts))


def soft_maximum(model: Dove, parts: Parts) -> Tensor:
    sharp, cosines = model.guidance.log_sharpness.exp(), parts.cosines()
    best = ((sharp * cosines).logsumexp(dim=-1) - np.log(cosines.shape[-1])) / sharp
    return 0.5 * (guided(model, parts) + torch.einsum("ctb,ct->bc", best.float(), parts.weight))


def maximum(model: Dove, parts: Parts) -> Tensor:
    best = parts.cosines().amax(dim=-1)
    return 0.5 * (guided(model, parts) + torch.einsum("ctb,ct->bc", best.float(), parts.weight))


def no_pairs(model: Dove, parts: Parts) -> Tensor:
    return parts.fused.new_zeros(len(parts.fused), len(parts.pooled))


SCORE = Dove._score_tile
FORMS: dict[str, Callable[[Dove, Parts], Tensor]] = {
    "now": now,
    "earlier": earlier,  # dot products in several heads
    "unit-image": unit_image,  # v_MR has length 1 before it is guided
    "local": local,  # the term of words and regions alone
    "guided": guided,  # the guided image alone
    "not-guided": not_guided,  # v_MR stays as it is
    "soft-maximum": soft_maximum,  # of each word's cosines, in the local term
    "maximum": maximum,
    "plain": no_pairs,  # a plain dual encoder: last stage, mean of the GRU's states, no regions
}
