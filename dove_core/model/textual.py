"""The text side: word embedding, bidirectional GRU, and DTGA, the digging of both directions by gated attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dove_core.model.attention import GatedSelfAttention
from dove_core.model.tokenizer import PADDING, UNKNOWN


class TextEncoder(nn.Module):
    """Words to `T_G (C, T, D)` and `t_G (C, D)`.

    With `H~` = gated self-attention over one direction's states: `T_fb = H~_f * softmax(H~_b)`,
    `T_bf = H~_b * softmax(H~_f)`, `T_G = MLP(norm(T_fb + T_bf))`. The softmax runs over the D channels, so both
    products are small; the norm before the MLP brings them back to one scale.
    """

    def __init__(self, words: int, word_dim: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_dim, padding_idx=PADDING)
        nn.init.zeros_(self.embedding.weight[UNKNOWN].detach())  # where every word is learned, it never is
        self.gru = nn.GRU(word_dim, dim, batch_first=True, bidirectional=True)
        self.forward_attention = GatedSelfAttention(dim, heads, dropout)
        self.backward_attention = GatedSelfAttention(dim, heads, dropout)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map tokens `(C, T)` and lengths `(C,)` to `T_G (C, T, D)`, `t_G (C, D)` and the mask `(C, T)`.

        Lengths may stay on the CPU, where packing wants them; then nothing waits for a GPU.
        """
        device, total = tokens.device, tokens.shape[1]
        counts = lengths.to(device, non_blocking=True)[:, None]
        mask = torch.arange(total, device=device) < counts
        here = lengths.cpu()
        order = here.argsort(descending=True, stable=True)
        embedded = self.dropout(self.embedding(tokens[order.to(device, non_blocking=True)]))
        packed = pack_padded_sequence(embedded, here[order], batch_first=True)
        with torch.autocast("cuda", enabled=False):  # which would take float16 here, for bfloat16 too: see decisions
            states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=total)
        states = states.index_select(0, order.argsort().to(device, non_blocking=True))
        ahead, back = states.chunk(2, dim=-1)
        ahead, back = self.forward_attention(ahead, mask), self.backward_attention(back, mask)
        words = self.mlp(ahead * back.softmax(dim=-1) + back * ahead.softmax(dim=-1))
        pooled = (words * mask[..., None]).sum(dim=1) / counts
        return words, pooled, mask
