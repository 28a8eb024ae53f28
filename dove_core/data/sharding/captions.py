"""The rows of a caption table, whatever file they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.sample import MAX_KEY, key_of


@dataclass(frozen=True)
class CaptionTable:
    """Every input row of one split, in the file's order: an image's path and its captions as they came.

    The columns are Arrow arrays, because five million rows of Python strings would take gigabytes: `paths` holds
    strings, each of `fields` a list of strings a row.
    """

    file: Path
    split: str
    paths: Any
    fields: Mapping[str, Any]

    @classmethod
    def of(
        cls, file: Path, split: str, paths: Sequence[str], fields: Mapping[str, Sequence[Sequence[str]]]
    ) -> CaptionTable:
        """Build a table from Python lists."""
        lists = pa.large_list(pa.large_string())
        columns = {name: pa.array(rows, type=lists) for name, rows in fields.items()}
        return cls(file, split, pa.array(paths, type=pa.large_string()), columns)

    def __len__(self) -> int:
        return len(self.paths)

    def rows(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> list[tuple[str, dict[str, list[str]]]]:
        """Return path and captions of the rows with these numbers, in their order."""
        taken = pa.array(numbers)
        columns = {name: column.take(taken).to_pylist() for name, column in self.fields.items()}
        paths = self.paths.take(taken).to_pylist()
        return [(path, {name: texts[i] for name, texts in columns.items()}) for i, path in enumerate(paths)]

    def keys(self) -> Any:
        """Return the key of every row as an Arrow array of strings."""
        stems = stems_of(self.paths)
        keys = pc.replace_substring_regex(stems, "[^A-Za-z0-9_-]", "_")
        is_plain = pc.and_(pc.string_is_ascii(stems), pc.less_equal(pc.binary_length(stems), MAX_KEY))
        return mended(keys, pc.invert(is_plain), key_of, self.paths)


def stems_of(paths: Any) -> Any:
    """Return the last part of each path without its ending, all as Arrow arrays of strings."""
    slashed = pc.replace_substring(paths, "\\", "/")
    return pc.replace_substring_regex(pc.replace_substring_regex(slashed, "(?s)^.*/", ""), r"(?s)\.[^.]*$", "")


def mended(texts: Any, odd: Any, function: Callable[[str], str], origins: Any) -> Any:
    """Return `texts` with `function(origin)` in the places of the few that are `odd`; the rest stays in Arrow."""
    rows = np.flatnonzero(odd.to_numpy(zero_copy_only=False))
    if not len(rows):
        return texts
    values = pa.array([function(origins[int(i)].as_py()) for i in rows], pa.large_string())
    return pc.replace_with_mask(texts, odd, values)
