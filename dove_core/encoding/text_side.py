"""What a query needs of a model: its text side, which an index keeps, usable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class WordAttention:
    """Where the words of a query attend on K images, over a grid of g x g regions.

    `weights (T,)` are the words' shares in the query, which sum to one. `by_word (K, T, g, g)` is each word's attention
    and `whole (K, g, g)` that of all words, weighted; each map sums to one at most.
    """

    words: Sequence[str]
    weights: np.ndarray
    by_word: np.ndarray
    whole: np.ndarray


class TextReranker(Protocol):
    """Exact scores of a text with images whose regions an index has stored."""

    def score(self, text: str, regions: np.ndarray, fused: np.ndarray) -> np.ndarray:
        """Return the scores `(K,)` of a text with images, from what `Reranker.describe_regions` gave for them."""
        ...

    def attention(self, text: str, regions: np.ndarray) -> WordAttention:
        """Return where each word of a text attends on images with these regions `(K, R, D)`."""
        ...


class TextSide(Protocol):
    """Turns queries into embeddings; loaded by `load.load_text_side` from what `Encoder.save_text_side` wrote."""

    @property
    def reranker(self) -> TextReranker | None:
        """Scores of texts with stored regions; None if the family has none."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Return the embedding `(D,)` float32 of a text, of length 1.

        Raises:
            UsageError: the text has no word that the model knows.
        """
        ...

    def unknown_words(self, text: str) -> Sequence[str]:
        """Return the words of a text that the model does not know, each once; none for a model of subwords."""
        ...

    def digest(self) -> str:
        """Return 16 hexadecimal digits that are equal for equal text sides, wherever they were loaded from."""
        ...
