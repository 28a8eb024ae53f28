"""The rows of a caption table, whatever file they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dove_core.data.sample import key_of

_AT_ONCE = 100_000


@dataclass(frozen=True)
class CaptionTable:
    """Every input row of one split, in the file's order: a picture's path and its captions as they came.

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
        return by_chunks(key_of, self.paths)


def by_chunks(function: Callable[[str], str], texts: Any) -> Any:
    """Return `function` of every string of an Arrow array, as another: Python's strings take three times the memory."""
    parts = [
        pa.array(map(function, texts.slice(start, _AT_ONCE).to_pylist()), type=pa.large_string())
        for start in range(0, len(texts), _AT_ONCE)
    ]
    return pa.concat_arrays(parts) if parts else pa.array([], type=pa.large_string())
