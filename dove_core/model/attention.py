"""Attention of DOVE: gated self-attention (GSA), and the two parts of ROAM, IFA and IGA.

Letters: B images, C captions, M scales, R regions, T words, D embedding width, h heads, d = D / h.
Source: arXiv 2310.08276. The paper's code is not public; the formulas below are our reading of the paper.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Reshape `(N, L, D)` to `(N, h, L, d)`."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def attend_to(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Return `softmax(Q K^T / sqrt(d)) V` of `(N, h, L, d)`; `mask` is True at elements to attend to.

    The backward pass of torch's fused attention is up to 14 times slower than the three steps below in half precision
    on a CPU. With a mask on newer GPUs it builds a new plan for every shape, and the shape of a caption batch is new at
    nearly every step.
    """
    on_cpu = query.device.type == "cpu"
    if (on_cpu and query.dtype == torch.float32) or (not on_cpu and mask is None):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    result: Tensor = scores.softmax(dim=-1) @ value
    return result


class GatedSelfAttention(nn.Module):
    """Self-attention with gates on queries and keys, computed from their product.

    `G = (Q W_a) * (K W_b)`, `[M_q | M_k] = sigmoid(G W_g)`, `A = softmax((Q * M_q)(K * M_k)^T / sqrt(d))`; the output
    is `norm(x + A V W_o)`.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 3 * dim)
        self.gate_query = nn.Linear(dim // heads, dim // heads)
        self.gate_key = nn.Linear(dim // heads, dim // heads)
        self.gate = nn.Linear(dim // heads, 2 * (dim // heads))
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map `(N, L, D)` to `(N, L, D)`; `mask (N, L)` is True where an element exists."""
        query, key, value = (split_heads(part, self.heads) for part in self.project(x).chunk(3, dim=-1))
        gates = torch.sigmoid(self.gate(self.gate_query(query) * self.gate_key(key)))
        query_gate, key_gate = gates.chunk(2, dim=-1)
        attend = None if mask is None else mask[:, None, None, :]
        mixed = attend_to(query * query_gate, key * key_gate, value, attend)
        result: Tensor = self.norm(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        return result


class IntraModalFusion(nn.Module):
    """IFA: regions and scales of an image attend to each other. Captions are not used."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = GatedSelfAttention(dim, heads, dropout)
        self.out = nn.Linear(dim, dim)

    def forward(self, regions: Tensor, scales: Tensor) -> Tensor:
        """Map `V_R (B, R, D)` and `V_M (B, M, D)` to `v_MR (B, D)`."""
        attended = self.attention(torch.cat((regions, scales), dim=1))
        fused: Tensor = self.out(attended.mean(dim=1))
        return fused


class Pairs(NamedTuple):
    """What IGA finds for pairs: `guided (B, C, D)` and `local (B, C)`, see `InterModalGuidance`."""

    guided: Tensor
    local: Tensor


class InterModalGuidance(nn.Module):
    """IGA: the words of a caption attend to the regions of the image that the caption is scored against.

    Words and regions are projected to one space, in which `c_tr` is the cosine of word t and region r. Each word
    attends to the regions that it fits, `a_tr = softmax_r(s c_tr)` with a learned sharpness s, as in SCAN (Lee et al.
    2018, arXiv 1803.08024). With word weights `w_t`, whose sum is 1, a pair gets

        local  = sum_t w_t sum_r a_tr c_tr
        guided = v_MR + sum_r (sum_t w_t a_tr) W_v V_R^r

    The first term rewards a word for the region it attends to; without such a reward attention stays uniform. The
    second guides the image's vector by the words. Keys and values are computed once per image, queries once a caption.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        space = max(1, dim // 4)
        self.query = nn.Linear(dim, space)
        self.key = nn.Linear(dim, space)
        self.value = nn.Linear(dim, dim)
        self.word_weight = nn.Linear(dim, 1)
        self.out = nn.Linear(dim, dim)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    def prepare_regions(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Map `V_R (B, R, D)` to keys `(B, R, d)` of length 1 and values `(B, R, D)`."""
        key = self.key(regions)
        return unit(key).to(key.dtype), self.value(regions)

    def prepare_words(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map `T_G (C, T, D)` and its mask to queries `(C, T, d)`, weights `(C, T)` and the pooled words `(C, D)`.

        Queries and pooled words have length 1. Weights have the sum 1; they do not depend on the image.
        """
        logits = self.word_weight(words)[..., 0].float().masked_fill(~mask, float("-inf"))
        weight = logits.softmax(dim=1)
        pooled = (weight[:, None].to(words.dtype) @ words)[:, 0]
        query = self.query(words)
        return unit(query).to(query.dtype), weight, unit(self.out(pooled))

    def forward(self, fused: Tensor, key: Tensor, value: Tensor, query: Tensor, weight: Tensor) -> Pairs:
        """Return the guided images and local scores of all pairs.

        Args:
            fused: `v_MR (B, D)`.
            key: `(B, R, d)` of length 1.
            value: `(B, R, D)`.
            query: `(C, T, d)` of length 1.
            weight: `(C, T)`, zero at padding.
        """
        (b, r, _), (c, t, _) = key.shape, query.shape
        cosines = (query.flatten(0, 1) @ key.flatten(0, 1).T).view(c, t, b, r)
        sharpness = self.log_sharpness.exp().to(cosines.dtype)
        attention = (sharpness * cosines).softmax(dim=-1, dtype=cosines.dtype)  # GPU autocast would use float32
        by_word = (attention * cosines).sum(dim=-1, dtype=torch.float32)
        local = (weight[..., None] * by_word).sum(dim=1)  # float32 also under autocast, unlike a matrix product
        words = weight.to(attention.dtype)[:, None]
        over_regions = (words @ attention.view(c, t, b * r)).view(c, b, r)
        mixed = torch.einsum("cbr,brd->bcd", over_regions, value.to(attention.dtype))
        return Pairs(fused[:, None] + mixed.float(), local.T)


def unit(x: Tensor) -> Tensor:
    """Return vectors of length 1 in float32, given vectors in the last dimension."""
    return F.normalize(x.float(), dim=-1)
