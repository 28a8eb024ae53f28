"""Words to token numbers: a vocabulary learned from the training captions."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

PADDING, UNKNOWN = 0, 1
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, split at punctuation, underscores and spaces."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class Tokenizer:
    """A vocabulary: `words[k]` has number `k + 2`; 0 is padding, 1 the unknown word."""

    def __init__(self, words: Sequence[str], max_tokens: int) -> None:
        self.words = tuple(words)
        self.max_tokens = max_tokens
        self._number = {word: number for number, word in enumerate(self.words, start=2)}

    @classmethod
    def learn(cls, captions: Iterable[str], *, min_count: int, max_tokens: int) -> Tokenizer:
        """Build the vocabulary of all words that occur at least `min_count` times, the most frequent first."""
        counts: Counter[str] = Counter()
        for caption in captions:
            counts.update(split_words(caption))
        kept = [(-count, word) for word, count in counts.items() if count >= min_count]
        return cls([word for _, word in sorted(kept)], max_tokens)

    def __len__(self) -> int:
        """Return the number of tokens, with padding and the unknown word."""
        return len(self.words) + 2

    def encode(self, text: str) -> list[int]:
        """Return 1 to `max_tokens` token numbers; a text without words becomes one unknown word."""
        numbers = [self._number.get(word, UNKNOWN) for word in split_words(text)[: self.max_tokens]]
        return numbers or [UNKNOWN]

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a text that are not in the vocabulary, in order, each once."""
        return list(dict.fromkeys(word for word in split_words(text) if word not in self._number))
