"""Attention of DOVE: gated self-attention (GSA), and the two parts of ROAM, IFA and IGA.

Letters: B images, C captions, M scales, R regions, T words, D embedding width, h heads, d = D / h.
Source: arXiv 2310.08276. The paper's code is not public; the formulas below are our reading of the paper.
"""

from __future__ import annotations

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


class InterModalGuidance(nn.Module):
    """IGA: the words of a caption attend to the regions of the image that the caption is scored against.

    `A_ij = MHA(q = T_G^j, k = v = V_R^i)`. The attention map is pooled over words, with weights that do not depend on
    the image, before values, output projection and norm. So a pair needs one softmax and a few small products; keys
    and values are computed once per image, queries once per caption.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.word_weight = nn.Linear(dim, heads)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim))

    def prepare_regions(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Map `V_R (B, R, D)` to keys and values `(B, h, R, d)`."""
        key, value = self.key_value(regions).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def prepare_words(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map `T_G (C, T, D)` and its mask to queries `(C, h, T, d)` and word weights `(C, h, T)` with sum 1."""
        query = split_heads(self.query(words), self.heads)
        logits = self.word_weight(words).float().masked_fill(~mask[..., None], float("-inf"))
        return query * query.shape[-1] ** -0.5, logits.softmax(dim=1).transpose(1, 2)

    def forward(self, key: Tensor, value: Tensor, query: Tensor, weight: Tensor, pooled: Tensor) -> Tensor:
        """Return `t_RG (B, C, D)`, each caption guided by each image, not normalised.

        Args:
            key: `(B, h, R, d)`.
            value: `(B, h, R, d)`.
            query: `(C, h, T, d)`.
            weight: `(C, h, T)`, zero at padding.
            pooled: `(C, D)`, the pooled words `pool(T_G)`.
        """
        (b, h, r, d), (c, _, t, _) = key.shape, query.shape
        flat_query = query.transpose(0, 1).reshape(h, c * t, d)
        flat_key = key.permute(1, 3, 0, 2).reshape(h, d, b * r)
        scores = (flat_query @ flat_key).view(h, c, t, b, r)
        attention = scores.softmax(dim=-1, dtype=scores.dtype)  # GPU autocast would use float32
        words = weight.to(attention.dtype).transpose(0, 1).reshape(h * c, 1, t)
        over_regions = (words @ attention.view(h * c, t, b * r)).view(h, c, b, r)
        guided = torch.einsum("hcbr,bhrd->bchd", over_regions, value).flatten(2)
        base = self.norm(pooled + self.out(guided))
        result: Tensor = base + self.mlp(base)
        return result
