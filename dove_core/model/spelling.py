"""Words of a vocabulary that stand for a word outside it: other number, other spelling, other hyphens, a typing error.

The rules are those of English. A word of the vocabulary always stands for itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache

_IRREGULAR = (
    ("man", "men"), ("woman", "women"), ("child", "children"), ("person", "people"), ("foot", "feet"),
    ("tooth", "teeth"), ("mouse", "mice"), ("goose", "geese"),
)  # fmt: skip
_NUMBERS = (
    ("(?<=[^aeiou])y$", "ies"), ("(?<=[^aeiou])ies$", "y"), ("s$", ""), ("$", "s"), ("(?<=[sxzoh])es$", ""),
    ("(?<=[sxzoh])$", "es"), ("fe?$", "ves"), ("ves$", "f"), ("ves$", "fe"), ("sis$", "ses"), ("ses$", "sis"),
    ("ium$", "ia"), ("ia$", "ium"),
    *((f"{first}$", second) for pair in _IRREGULAR for first, second in (pair, pair[::-1])),
)  # fmt: skip
"""Plural of a singular, and singular of a plural: a pattern and what takes its place."""

_TWO_BEFORE = "(?<=..)"
_SPELLINGS = (
    (f"{_TWO_BEFORE}our", f"{_TWO_BEFORE}or"), ("tre", "ter"), ("grey", "gray"), ("ise", "ize"),
    ("isation", "ization"), ("ising", "izing"),
    ("yse", "yze"), ("ogue", "og"), ("ll", "l"), ("aluminium", "aluminum"), ("plough", "plow"), ("tyre", "tire"),
    ("aeroplane", "airplane"), ("storey", "story"), ("programme", "program"), ("mould", "mold"), ("kerb", "curb"),
    ("nce", "nse"), ("ae", "e"),
)  # fmt: skip
"""British and American spellings; each is tried in both directions. `four` is not `for`."""

_FOR_TYPING_ERROR = 6
"""Letters of a word from which a word with one letter more, less, exchanged or transposed is taken for it."""

_SHORTEST_PART, _LONGEST = 3, 40
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@lru_cache(maxsize=4096)
def variants(word: str) -> tuple[str, ...]:
    """Return a word in other spellings and in the other number, the closest first.

    >>> variants("harbours")[0], "harbors" in variants("harbours")
    ('harbour', True)
    """
    letters = unicodedata.normalize("NFD", re.sub("['\u2019]s$", "", word))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))  # without accents
    spelled = [plain, *(_replaced(plain, _SPELLINGS))]
    found = [*spelled, *(form for other in spelled for form in _in_other_number(other))]
    found.sort(key=lambda form: form not in (plain, *_in_other_number(plain)))
    return tuple(dict.fromkeys(form for form in found if len(form) > 1 and form != word))


def stand_in(word: str, known: Mapping[str, int]) -> tuple[str, ...]:
    """Return the known words to read for a word: one, or the two that it is made of, or none.

    `known` has the vocabulary; of several words a typing error away, the one with the smallest number is taken.
    """
    if len(word) > _LONGEST:
        return ()
    for form in variants(word):
        if form in known:
            return (form,)
    for cut in range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1):
        second = _known_form(word[cut:], known)
        if word[:cut] in known and second:
            return word[:cut], second
    if len(word) >= _FOR_TYPING_ERROR:
        near = [form for form in _one_error_away(word) if form in known and form[0] == word[0]]
        if near:
            return (min(near, key=known.__getitem__),)
    return ()


def joined(first: str, second: str, known: Mapping[str, int]) -> str:
    """Return the known word that two words make together, as `air port` does; "" if there is none."""
    is_word = min(len(first), len(second)) > 1 and len(first + second) <= _LONGEST
    return _known_form(first + second, known) if is_word else ""


def suggestions(word: str, known: Mapping[str, int], count: int = 3) -> list[str]:
    """Return known words that resemble a word, for a question such as "did you mean"."""
    if len(word) > _LONGEST:
        return []
    near = _one_error_away(word) if len(word) > _SHORTEST_PART else ()
    one = {form for form in near if form in known and len(form) > 2}
    start = word[: max(4, len(word) - 3)]
    same_start = (other for other in known if len(start) > 3 and other.startswith(start))
    return list(dict.fromkeys([*sorted(one, key=known.__getitem__), *same_start]))[:count]


def _known_form(word: str, known: Mapping[str, int]) -> str:
    return next((form for form in (word, *variants(word)) if form in known), "")


def _in_other_number(word: str) -> list[str]:
    """Return what may be the plural of a singular word, and the singular of a plural one."""
    return [re.sub(pattern, other, word) for pattern, other in _NUMBERS if re.search(pattern, word)]


def _replaced(word: str, pairs: tuple[tuple[str, str], ...]) -> list[str]:
    """Return a word with each part of a pair replaced by the other."""
    both = (way for pair in pairs for way in (pair, pair[::-1]))
    return [re.sub(part, other.removeprefix(_TWO_BEFORE), word) for part, other in both if re.search(part, word)]


def _one_error_away(word: str) -> Iterator[str]:
    """Yield the words with one letter less, transposed, exchanged or more (Damerau 1964)."""
    for at in range(len(word) + 1):
        before, after = word[:at], word[at:]
        if after:
            yield before + after[1:]
            yield from (before + letter + after[1:] for letter in _LETTERS)
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]
        yield from (before + letter + after for letter in _LETTERS)
