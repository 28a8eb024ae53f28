"""Protocols of the text side of a model: what a query needs, stored in an index and usable without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class ScoreParts:
    """The terms of the scores of K images: `by_word (K, T)` of each word, and `image (K,)` of the whole image."""

    by_word: np.ndarray
    image: np.ndarray


@dataclass(frozen=True)
class WordAttention:
    """Attention of the words of a query to K images, over a grid of g x g regions.

    `weights (T,)` are the weights of the words, with sum 1. `by_word (K, T, g, g)` is the attention of each word, and
    `whole (K, g, g)` the weighted mean over all words; the sum of a map is at most 1. `parts` are there if the exact
    score of an image is a sum over words.
    """

    words: Sequence[str]
    weights: np.ndarray
    by_word: np.ndarray
    whole: np.ndarray
    parts: ScoreParts | None = None


class TextReranker(Protocol):
    """Exact scores of a text with images whose regions are stored in an index."""

    def score(self, text: str, regions: np.ndarray, fused: np.ndarray) -> np.ndarray:
        """Return the scores `(K,)` of a text with images, given `regions (K, R, D)` and `fused (K, D)` of them."""
        ...

    def attention(self, text: str, regions: np.ndarray, fused: np.ndarray) -> WordAttention:
        """Return the attention of each word of a text to images, given `regions (K, R, D)` and `fused (K, D)`."""
        ...


class TextSide(Protocol):
    """What turns queries into embeddings; `load.load_text_side` loads it from files of `Encoder.save_text_side`."""

    @property
    def reranker(self) -> TextReranker | None:
        """Exact scores of texts with stored regions; None if the family has none."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Return the embedding `(D,)` float32 of a text, of length 1.

        Raises:
            UsageError: the model knows no word of the text.
        """
        ...

    def notes(self, text: str) -> Sequence[str]:
        """Return messages about the words of a text that the model does not know or does not read."""
        ...

    def knows(self, text: str) -> bool:
        """Tell whether the model knows a word of a text; always true for a model of subwords, if there is a word."""
        ...

    def digest(self) -> str:
        """Return 16 hexadecimal digits over configuration, words and weights; equal for equal text sides."""
        ...
