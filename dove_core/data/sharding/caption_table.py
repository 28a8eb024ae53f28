"""The captions of one split as Arrow columns, and how they are read from a CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.csv_tables import HINT, ROWS_AT_ONCE, path_column, read_columns, split_of
from dove_core.data.sample import MAX_KEY, key_of
from dove_core.errors import DataError, UsageError
from dove_core.files import sha256_of

_SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class CaptionTable:
    """Every input row of one split, in the file's order: the path of an image and its captions, not cleaned.

    The columns are Arrow arrays, because five million rows of Python strings would take gigabytes: `paths` holds
    strings, each of `fields` a list of strings a row. `content` is a SHA-256 of all of it, empty if `file` has nothing
    else.
    """

    file: Path
    split: str
    paths: Any
    fields: Mapping[str, Any]
    content: str = ""

    @classmethod
    def of(
        cls, file: Path, split: str, paths: Sequence[str], fields: Mapping[str, Sequence[Sequence[str]]]
    ) -> CaptionTable:
        """Build a table from Python lists."""
        lists = pa.large_list(pa.large_string())
        columns = {name: pa.array(rows, type=lists) for name, rows in fields.items()}
        return cls(file, split, pa.array(paths, type=pa.large_string()), columns)

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


def read_caption_csv(file: Path, split: str | None = None) -> CaptionTable:
    """Read a caption CSV: its path column, and every other column with a letter in it as a field of captions.

    Raises:
        DataError: the file is missing or damaged, or has no path column or no column of text.
        UsageError: `split` cannot be the name of a folder.
    """
    split = checked_split(split_of(file) if split is None else split)
    columns = read_columns(file)
    path = path_column(file, columns)
    paths = columns.pop(path)
    fields = {name: _as_lists(column) for name, column in columns.items() if _has_letters(column)}
    pa.default_memory_pool().release_unused()  # the memory of pandas' strings
    if not len(paths):
        raise DataError(f"{file} has a header but no rows", hint=HINT)
    if not fields:
        seen = ", ".join([path, *columns])
        raise DataError(f"{file} has no column of text beside {path}; columns: {seen}", hint=HINT)
    return CaptionTable(file, split, paths, fields)


def checked_split(split: str) -> str:
    """Return the name of a split.

    Raises:
        UsageError: it cannot be the name of a folder.
    """
    if not _SPLIT_NAME.fullmatch(split):
        raise UsageError(f"split {split!r} cannot be the name of a folder", hint="use letters, digits, - and _")
    return split


def _has_letters(column: Any) -> bool:
    pieces: Iterable[Any] = (column.slice(i, ROWS_AT_ONCE) for i in range(0, len(column), ROWS_AT_ONCE))
    return any(pc.any(pc.match_substring_regex(piece, r"\p{L}")).as_py() for piece in pieces)


def _as_lists(column: Any) -> Any:
    """Turn a column of strings into one of lists with one string each, without touching the text."""
    return pa.LargeListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int64)), column)


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
