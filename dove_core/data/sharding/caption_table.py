"""The captions of one split as Arrow columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.sample import MAX_KEY, key_of
from dove_core.errors import UsageError
from dove_core.files import sha256_of

_SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class CaptionTable:
    """Every input row of one split, in the file's order: the path of an image and its captions, not cleaned.

    The columns are Arrow arrays, because five million rows of Python strings would take gigabytes: `paths` holds
    strings, each of `fields` a list of strings a row. `content` is a SHA-256 of all of it, empty if `file` has nothing
    else. `names` has the images' names alone, if the file has them apart from their folders.
    """

    file: Path
    split: str
    paths: Any
    fields: Mapping[str, Any]
    content: str = ""
    names: Any = None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.paths)

    def digest(self) -> str:
        """Return a SHA-256 of the captions."""
        return self.content or sha256_of(self.file)

    def keys(self) -> Any:
        """Return the key of every row as an Arrow array of strings."""
        stems = stems_of(self.paths)
        keys = pc.replace_substring_regex(stems, "[^A-Za-z0-9_-]", "_")
        is_plain = pc.and_(pc.string_is_ascii(stems), pc.less_equal(pc.binary_length(stems), MAX_KEY))
        return replace_where(keys, pc.invert(is_plain), key_of, self.paths)


def checked_split(split: str) -> str:
    """Return the name of a split.

    Raises:
        UsageError: it cannot be the name of a folder.
    """
    if not _SPLIT_NAME.fullmatch(split):
        raise UsageError(f"split {split!r} cannot be the name of a folder", hint="use letters, digits, - and _")
    return split


def stems_of(paths: Any) -> Any:
    """Return the last component of each path without its ending, all as Arrow arrays of strings."""
    slashed = pc.replace_substring(paths, "\\", "/")
    return pc.replace_substring_regex(pc.replace_substring_regex(slashed, "(?s)^.*/", ""), r"(?s)\.[^.]*$", "")


def replace_where(texts: Any, mask: Any, function: Callable[[str], str], origins: Any) -> Any:
    """Return `texts` with `function(origin)` where `mask` is true, which should be rare; the rest stays in Arrow."""
    rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    if not len(rows):
        return texts
    values = pa.array([function(origins[int(i)].as_py()) for i in rows], pa.large_string())
    return pc.replace_with_mask(texts, mask, values)
