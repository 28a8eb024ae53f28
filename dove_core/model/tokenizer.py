"""Words to token numbers: a vocabulary learned from the training captions.

A word outside the vocabulary is read as a word of it where a rule of `spelling.py` allows that: `airports` as
`airport`, `harbor` as `harbour`. `Tokenizer.readings` lists these words, so that a query can say them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dove_core.model.spelling import joined, stand_in, suggestions, variants

PADDING, UNKNOWN = 0, 1
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_HYPHEN = re.compile("[-\u2010-\u2013_]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
"""Characters that print nothing within a word, such as the soft hyphen."""


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, split at punctuation, underscores and spaces."""
    return _WORD.findall(_clean(text))


def _clean(text: str) -> str:
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).lower()


class Reading(NamedTuple):
    """A piece of a text, one word or two, and the known words that it is read as; none if it is unknown."""

    text: str
    words: tuple[str, ...]

    @property
    def is_other(self) -> bool:
        """Tell whether it is read as other words than its own."""
        return bool(self.words) and self.words != (self.text,)


class Tokenizer:
    """A vocabulary: `words[k]` has number `k + 2`; 0 is padding, 1 the unknown word."""

    def __init__(self, words: Sequence[str], max_tokens: int) -> None:
        self.words = tuple(words)
        self.max_tokens = max_tokens
        self._number = {word: number for number, word in enumerate(self.words, start=2)}
        self._stand_ins: dict[str, tuple[str, ...]] = {}

    @classmethod
    def learn(cls, captions: Iterable[str], *, min_count: int, max_tokens: int) -> Tokenizer:
        """Build the vocabulary of all words that occur at least `min_count` times, the most frequent first.

        Words that differ in number or spelling only, such as `airport` and `airports`, are one: the more frequent form.
        """
        counts: Counter[str] = Counter()
        for caption in captions:
            counts.update(split_words(caption))
        merged: Counter[str] = Counter()
        for count, word in sorted((-count, word) for word, count in counts.items()):
            form = next((form for form in variants(word) if form in merged), word)
            merged[form] -= count
        kept = [(-count, word) for word, count in merged.items() if count >= min_count]
        return cls([word for _, word in sorted(kept)], max_tokens)

    def __len__(self) -> int:
        """Return the number of tokens, with padding and the unknown word."""
        return len(self.words) + 2

    def encode(self, text: str) -> list[int]:
        """Return 1 to `max_tokens` token numbers; a text without words becomes one unknown word."""
        return [self._number.get(word, UNKNOWN) for word in self.read(text)] or [UNKNOWN]

    def read(self, text: str) -> list[str]:
        """Return the words that `encode` numbers: those of the vocabulary, and those that are unknown.

        Of a text that is too long, unknown words are left out first.
        """
        plain = split_words(text)
        if all(word in self._number for word in plain) and not _HYPHEN.search(text):
            return plain[: self.max_tokens]
        words = [(word, bool(piece.words)) for piece in self.readings(text) for word in piece.words or (piece.text,)]
        if len(words) > self.max_tokens and any(is_known for _, is_known in words):
            words = [(word, is_known) for word, is_known in words if is_known]
        return [word for word, _ in words[: self.max_tokens]]

    def readings(self, text: str) -> list[Reading]:
        """Return the pieces of a text in order, and what each is read as."""
        found, clean = list[Reading](), _clean(text)
        matches = list(_WORD.finditer(clean))
        at = 0
        while at < len(matches):
            word, end = matches[at][0], matches[at].end()
            after = matches[at + 1] if at + 1 < len(matches) else None
            between = "" if after is None else clean[end : after.start()]
            both = self._joined(word, after[0], between) if after else ""
            if both and after:
                found.append(Reading(f"{word}{between}{after[0]}", (both,)))
            else:
                found.append(Reading(word, (word,) if word in self._number else self._stand_in(word)))
            at += 2 if both else 1
        return found

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a text that are read as no word of the vocabulary, in order, each once."""
        return list(dict.fromkeys(piece.text for piece in self.readings(text) if not piece.words))

    def suggestions(self, word: str) -> list[str]:
        """Return words of the vocabulary that resemble an unknown one."""
        return suggestions(word, self._number)

    def _joined(self, first: str, second: str, between: str) -> str:
        """Return the known word to read for two neighbours: `air port`, unless both are known, or `air-port`.

        Two known words with a hyphen are joined only if the whole is more frequent than one of them.
        """
        if not between.isspace() and not _HYPHEN.fullmatch(between):
            return ""
        numbers = [self._number.get(word, len(self)) for word in (first, second)]
        if max(numbers) < len(self) and between.isspace():
            return ""
        both = joined(first, second, self._number)
        return both if both and self._number[both] < max(numbers) else ""

    def _stand_in(self, word: str) -> tuple[str, ...]:
        if word not in self._stand_ins:
            self._stand_ins[word] = stand_in(word, self._number)
        return self._stand_ins[word]
