"""The text tower of a CLIP model on texts without their padding: most captions fill a quarter of its 77 tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def ignores_padding(model: Any) -> bool:
    """Tell whether tokens after the end of a text have no effect: each token sees those before it, and the end counts.

    So it is in CLIP, and not in SigLIP. A text tower that is a module of its own, `text`, takes its whole length only.
    """
    is_causal = not hasattr(model, "text") and model.attn_mask is not None
    return is_causal and model.text_pool_type in ("argmax", "eos")


def encode_short_texts(model: Any, tokens: Tensor) -> Tensor:
    """Return what `encode_text` of open_clip returns `(C, D)` for tokens `(C, T)`, where T may be less than its length.

    A model that does not ignore padding needs its whole length.
    """
    length = tokens.shape[1]
    if hasattr(model, "text") or length == model.context_length:
        encoded: Tensor = model.encode_text(tokens)
        return encoded
    from open_clip.transformer import text_global_pool  # noqa: PLC0415  # of an extra

    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    pooled: Tensor = text_global_pool(x, tokens, model.text_pool_type, eos_token_id=model.text_eos_id)
    projection = model.text_projection
    if projection is None:
        return pooled
    projected: Tensor = projection(pooled) if callable(projection) else pooled @ projection
    return projected
