"""The forms in which tables and JSON hold captions: texts, lists, printed lists, objects; and their columns."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

CAPTION_FIELD = "caption"
"""Caption field of the columns `caption`, `captions`, `caption_0`, `raw`, `raw_1`, `sentences`, `text` and the like."""

_PLAIN = ("caption", "raw", "sentence", "text", "description", "comment")
"""Columns of captions, best first; the best that a table has becomes `CAPTION_FIELD`."""

_NUMBERED = re.compile(rf"({'|'.join(_PLAIN)}|title)s?[_ -]?(\d*)")
_OWN = re.compile(r"(?:caption|title|text|sentence|description)s?_\w+|\w+_(?:captions?|descriptions?)")
_FACTS = re.compile(r".*_(?:id|ids|number|num|count|length|len|source|score|index|lang|language|url|file|path|split)")
_LABELS = re.compile(r"(?:label|class|class_?name|category|scene)(?:e?s)?(?:_\w+)?")

_PRINTED = re.compile(r"(?s)\s*(?:array\()?[\[({].*[\])}]\s*(?:,\s*dtype=\w+\))?\s*")
_STRING = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|None|nan)"""
_STRINGS = re.compile(rf"(?s)\s*(?:array\()?[\[(]\s*(?:{_STRING}[\s,]*)*[\])]\s*(?:,\s*dtype=\w+\))?\s*")
_ONE_STRING = re.compile(rf"(?s){_STRING}")
_DEEPEST = 8


def texts_of(value: Any, depth: int = 0) -> list[str]:
    """Return the captions in a value, not cleaned: of a text, a list, or an object with `raw`, `caption` or the like.

    A text that is a printed list, as pandas and numpy write lists into a CSV, is read as that list. A missing value is
    one empty caption, so that it is counted.

    >>> texts_of("['a lake', 'a pond']"), texts_of({"raw": "a lake", "tokens": ["a", "lake"]}), texts_of(None)
    (['a lake', 'a pond'], ['a lake'], [''])
    """
    if isinstance(value, str):
        listed = _listed(value) if depth < _DEEPEST else None
        return [encodable(value)] if listed is None else texts_of(listed, depth + 1)
    if isinstance(value, list | tuple):
        found = [text for one in value for text in texts_of(one, depth + 1)] if depth < _DEEPEST else []
        return found or [""]
    if isinstance(value, Mapping):
        columns = caption_columns(value).values()
        if columns and depth < _DEEPEST:
            return [text for names in columns for name in names for text in texts_of(value[name], depth + 1)]
        tokens = value.get("tokens")
        return [encodable(" ".join(map(str, tokens)))] if isinstance(tokens, list) else [""]
    if isinstance(value, bool) or value is None or (isinstance(value, float) and not math.isfinite(value)):
        return [""]
    return [str(value)]


def caption_columns(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the columns of each caption field among those of a table; empty if no name is one of captions.

    `caption_0`, `caption_1`, ... are one field, in the order of their numbers. `title`, and names such as
    `title_multi_objects`, `caption_en` and `image_caption`, are fields of their own.

    >>> caption_columns(["file_name", "caption_1", "caption_0", "title", "source"])
    {'caption': ('caption_0', 'caption_1'), 'title': ('title',)}
    """
    numbered: dict[str, list[tuple[int, str]]] = {}
    own: dict[str, tuple[str, ...]] = {}
    for name in names:
        plain = name.strip().lower()
        if match := _NUMBERED.fullmatch(plain):
            numbered.setdefault(match[1], []).append((int(match[2] or -1), name))
        elif _OWN.fullmatch(plain) and not _FACTS.fullmatch(plain):
            own[plain] = (name,)
    best = next((base for base in _PLAIN if base in numbered), "")
    fields = {
        CAPTION_FIELD if base == best else base: tuple(name for _, name in sorted(found))
        for base, found in sorted(numbered.items(), key=lambda item: item[0] != best)
    }
    return {**fields, **own}


def label_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of class labels among those of a table."""
    return [name for name in names if _LABELS.fullmatch(name.strip().lower())]


def is_printed(text: str) -> bool:
    """Tell whether a text has the brackets of a printed list, so that it may be one."""
    return _PRINTED.fullmatch(text) is not None


def _listed(text: str) -> Sequence[Any] | Mapping[str, Any] | None:
    """Return the list or object that a text prints; None if it is a plain text."""
    if not is_printed(text):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return _python(text)
    return values if isinstance(values, list | dict) else None


def _python(text: str) -> Sequence[Any] | Mapping[str, Any] | None:
    """Return the list that Python or numpy printed; numpy puts no commas between texts: `['a lake' 'a pond']`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a backslash before a letter
        try:
            if _STRINGS.fullmatch(text):
                return [None if one in ("None", "nan") else ast.literal_eval(one) for one in _ONE_STRING.findall(text)]
            values = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    is_list = isinstance(values, list | tuple) and any(isinstance(value, Mapping | list | tuple) for value in values)
    return values if is_list or isinstance(values, Mapping) else None


def encodable(text: str) -> str:
    r"""Replace lone surrogates, which JSON can spell (`\ud800`) and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
