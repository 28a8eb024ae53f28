"""One sample for each image, one key for each sample: rows of the same image are merged, equal keys made distinct."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.sample import MAX_KEY, key_of
from dove_core.data.sharding.caption_table import CaptionTable

_DIGITS = 12


@dataclass(frozen=True)
class DistinctRows:
    """The rows of a table with a key each.

    `is_merged`: an earlier row is of the same image, and gets this row's captions. `is_repeated`: an earlier row of
    another image has the same key nevertheless. `merged` maps a row to the rows whose captions it gets.
    """

    table: CaptionTable
    keys: Any
    is_repeated: np.ndarray
    is_merged: np.ndarray
    merged: dict[int, list[int]]

    def captions(self, field: str, numbers: np.ndarray) -> Any:
        """Return the captions of some rows as an Arrow array of lists of strings."""
        column = self.table.fields[field]
        taken = column.take(pa.array(numbers))
        own = [(at, row) for at, row in enumerate(numbers.tolist()) if row in self.merged]
        if not own:
            return taken
        lists = taken.to_pylist()
        for at, row in own:
            for other in self.merged[row]:
                lists[at] = lists[at] + column[other].as_py()
        return pa.array(lists, type=column.type)


def distinct_rows(table: CaptionTable, entry: np.ndarray) -> DistinctRows:
    """Give every row its key.

    Rows of the same image, as in tables with one row a caption, become one sample. A row whose key belongs to an
    earlier row of another image, such as `class1/1.jpg` and `class2/1.jpg`, gets a longer key made of its whole path.

    Args:
        table: the rows.
        entry: `(N,)`, the image of each row; negative where none was found, and then equal paths count as one image;
            no two rows without a path do.
    """
    paths = table.paths.dictionary_encode().indices.to_numpy().astype(np.int64)
    without = pc.equal(table.paths, "").to_numpy(zero_copy_only=False)
    paths[without] = len(paths) + np.flatnonzero(without)
    first = _first_of(np.where(entry >= 0, entry, -1 - paths))
    is_merged = first != np.arange(len(first))
    merged: dict[int, list[int]] = {}
    for row in np.flatnonzero(is_merged).tolist():
        merged.setdefault(int(first[row]), []).append(row)
    keys = table.keys()
    clashes = np.flatnonzero((_first_key(keys) != np.arange(len(first))) & ~is_merged)
    if len(clashes):
        longer = pa.array([_whole_key(table.paths[row].as_py()) for row in clashes.tolist()], pa.large_string())
        is_clash = np.zeros(len(first), dtype=bool)
        is_clash[clashes] = True
        keys = pc.replace_with_mask(keys, pa.array(is_clash), longer)
        keys = keys.take(pa.array(first))  # merged rows take the key of their first
    is_repeated = (_first_key(keys) != np.arange(len(first))) & ~is_merged
    return DistinctRows(table, keys, is_repeated, is_merged, merged)


def _first_key(keys: Any) -> np.ndarray:
    return _first_of(keys.dictionary_encode().indices.to_numpy())


def _first_of(codes: np.ndarray) -> np.ndarray:
    """Return for each number the position of the first that equals it."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    found: np.ndarray = first[inverse]
    return found


def _whole_key(path: str) -> str:
    """Return a key made of a whole path: folders and stem, and digits of the path's hash."""
    digest = hashlib.sha256(path.encode("utf-8", "replace")).hexdigest()[:_DIGITS]
    plain = key_of(path.replace("\\", "/").strip("/").replace("/", "_"))
    return f"{plain[: MAX_KEY - _DIGITS - 1]}_{digest}"
