"""Where images have what a query describes, for models that have no attention of words over regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dove_core.encoding.text_side import WordAttention
from dove_core.errors import UsageError

if TYPE_CHECKING:
    from dove_core.encoding.embedder import Embedder


def attention_by_gradients(embedder: Embedder, text: str, images: Sequence[tuple[bytes, str]]) -> WordAttention:
    """Return where images, given as (bytes, name), have what a text and each of its words alone describe.

    Each map is that of the model's `Explainer`, divided by its sum. The map of a word is that of a text of this word
    only, so it does not know the other words. The weight of a word is the share by which the text's embedding turns
    when the word is left out: `1 - cos(t, t without the word)`, divided by the sum over all words.

    Raises:
        UsageError: the text has no words, or the model has no such maps.
        DataError: an image is invalid; the message has its name.
    """
    words = text.split()
    if not words:
        raise UsageError("the query has no words", hint="ask with words to see where they match")
    maps = embedder.relevance(images, [text, *words])
    maps /= np.maximum(maps.sum(axis=(2, 3), keepdims=True), 1e-12)
    return WordAttention(words, _weights(embedder, text, words), maps[:, 1:], maps[:, 0])


def _weights(embedder: Embedder, text: str, words: Sequence[str]) -> np.ndarray:
    """Return by how much the embedding of a text depends on each of its words `(T,)`, with sum 1."""
    without = [" ".join([*words[:k], *words[k + 1 :]]) for k in range(len(words))]
    whole, *others = embedder.embed_texts([text, *without]).float().cpu().numpy()
    turns = np.maximum(1 - np.stack(others) @ whole, 0) + 1e-6  # a text of one word may not turn at all
    weights: np.ndarray = turns / turns.sum()
    return weights
