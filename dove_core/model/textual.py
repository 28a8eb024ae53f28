"""The text encoder: word embedding, bidirectional GRU, and DTGA (gated attention over both directions)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dove_core.model.attention import GatedSelfAttention
from dove_core.model.tokenizer import PADDING, UNKNOWN


class TextEncoder(nn.Module):
    """Tokens to `T_G (C, T, D)` and `t_G (C, D)`.

    `H~` is gated self-attention over the states of one direction: `T_fb = H~_f * softmax(H~_b)`,
    `T_bf = H~_b * softmax(H~_f)`, `T_G = MLP(norm(T_fb + T_bf))`. The softmax is over the D channels, so both products
    are small; the norm before the MLP rescales them.
    """

    def __init__(self, words: int, word_dim: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_dim, padding_idx=PADDING)
        nn.init.zeros_(self.embedding.weight[UNKNOWN].detach())  # never trained if the vocabulary has all words
        self.gru = nn.GRU(word_dim, dim, batch_first=True, bidirectional=True)
        self.forward_attention = GatedSelfAttention(dim, heads, dropout)
        self.backward_attention = GatedSelfAttention(dim, heads, dropout)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map tokens `(C, T)` and lengths `(C,)` to `T_G (C, T, D)`, `t_G (C, D)` and the mask `(C, T)`.

        Keep `lengths` on the CPU, where packing needs them; then nothing waits for a GPU.
        """
        device, total = tokens.device, tokens.shape[1]
        counts = lengths.to(device, non_blocking=True)[:, None]
        mask = torch.arange(total, device=device) < counts
        here = lengths.cpu()
        order = here.argsort(descending=True, stable=True)
        embedded = self.dropout(self.embedding(tokens[order.to(device, non_blocking=True)]))
        packed = pack_padded_sequence(embedded, here[order], batch_first=True)
        # Autocast would run the GRU in float16: see docs/decisions/0037-outside-of-autocast.md
        with torch.autocast("cuda", enabled=False):
            states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=total)
        states = states.index_select(0, order.argsort().to(device, non_blocking=True))
        ahead, back = states.chunk(2, dim=-1)
        ahead, back = self.forward_attention(ahead, mask), self.backward_attention(back, mask)
        words = self.mlp(ahead * back.softmax(dim=-1) + back * ahead.softmax(dim=-1))
        pooled = (words * mask[..., None]).sum(dim=1) / counts
        return words, pooled, mask
