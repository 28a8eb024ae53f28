"""Captions in CSVs and other tables of text: which column has what, and the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.caption_forms import caption_columns, is_printed, label_columns, texts_of
from dove_core.data.csv_tables import (
    FOLDER_COLUMNS,
    HINT,
    ID_COLUMNS,
    PATH_COLUMNS,
    ROWS_AT_ONCE,
    no_path_column,
    plain_names,
    read_columns,
)  # fmt: skip
from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.data.sharding.caption_rows import CaptionRows
from dove_core.data.splits import SPLIT_COLUMNS, split_named
from dove_core.errors import DataError

_SAMPLE = 1000


@dataclass(frozen=True)
class _Roles:
    """Which columns have paths, folders and splits ("" for none), captions of each field; the others are unused."""

    path: str
    folder: str
    split: str
    captions: Mapping[str, Sequence[str]]
    unused: Sequence[str]

    def __str__(self) -> str:
        """Return the choice in words, for a message; empty if all columns are read and each is a field."""
        plain = all(tuple(columns) == (field,) for field, columns in self.captions.items())
        if plain and not (self.unused or self.split or self.folder):
            return ""
        captions = ", ".join(column for columns in self.captions.values() for column in columns)
        paths = f"{self.folder}/{self.path}" if self.folder else self.path
        split = f", splits from {self.split}" if self.split else ""
        unused = f"; not read: {', '.join(self.unused)}" if self.unused else ""
        return f"images from {paths}, captions from {captions}{split}{unused}"


def read_csv_rows(file: Path) -> CaptionRows:
    """Read a caption CSV: the column of paths, those of captions, and that of the splits if there is one.

    Captions are the columns that `caption_columns` knows, and those of labels. If none has such a name, every column
    with a letter in it is a field of captions.

    Raises:
        DataError: the file is missing or damaged, or has no path column or no column of text.
    """
    columns = read_columns(file)
    roles = _roles(file, columns)
    paths, names = columns[roles.path], None
    if roles.folder:
        names = paths
        paths = pc.binary_join_element_wise(columns[roles.folder], paths, pa.scalar("/", pa.large_string()))
    fields = {field: _lists([columns[name] for name in names]) for field, names in roles.captions.items()}
    splits = columns[roles.split] if roles.split else None
    del columns
    pa.default_memory_pool().release_unused()  # the memory of pandas' strings
    return CaptionRows(file, paths, fields, splits, str(roles), names)


def _roles(file: Path, columns: Mapping[str, Any]) -> _Roles:
    path, folder = _paths(file, columns)
    others = {name: column for name, column in columns.items() if name not in (path, folder)}
    split = _split(others)
    others.pop(split, None)
    captions: dict[str, Sequence[str]] = dict(caption_columns(others))
    named = [name for names in captions.values() for name in names]
    if captions:
        labels = [name for name in label_columns(others) if name not in named and _has_letters(others[name])]
    else:
        labels = [name for name, column in others.items() if _has_letters(column)]
    captions |= {name: (name,) for name in labels}
    if not len(columns[path]):
        raise DataError(f"{file} has a header but no rows", hint=HINT)
    if not captions:
        seen = ", ".join([path, *others])
        raise DataError(f"{file} has no column of text beside {path}; columns: {seen}", hint=HINT)
    unused = [name for name in others if name not in (*named, *labels)]
    return _Roles(path, folder, split, captions, unused)


def _paths(file: Path, columns: Mapping[str, Any]) -> tuple[str, str]:
    """Return the column with the images' paths, and one with their folders, or "".

    Among several, it is the first whose values end as images do; else the first that holds no printed objects, as
    `image` does in a CSV made from a data set with images inside.
    """
    plain = plain_names(columns)
    named = [plain[name] for name in PATH_COLUMNS if name in plain]
    samples = {
        name: _sample(columns[name]) for name in (*named, *(plain[name] for name in ID_COLUMNS if name in plain))
    }
    ending = [
        name for name, values in samples.items() if _most(value.lower().endswith(IMAGE_ENDINGS) for value in values)
    ]
    usable = ending or [name for name in named if not _most(map(is_printed, samples[name]))]
    if not usable:
        raise no_path_column(file, columns)
    folders = [plain[name] for name in FOLDER_COLUMNS if name in plain]
    folder = next((name for name in folders if name not in ending and _sample(columns[name])), "")
    return usable[0], folder if usable[0] in ending and usable[0] != folder else ""


def _split(columns: Mapping[str, Any]) -> str:
    """Return the column with the split of each row; "" if there is none.

    One called `set` or the like must have usual words for splits only; one called `split` may have any.
    """
    plain = plain_names(columns)
    for name in SPLIT_COLUMNS:
        if name in plain:
            values = [value for value in pc.unique(columns[plain[name]]).to_pylist() if value.strip()]
            if "split" in name or (values and all(map(split_named, values))):
                return plain[name]
    return ""


def _sample(column: Any) -> list[str]:
    return [value.strip() for value in column.slice(0, _SAMPLE).to_pylist() if value.strip()]


def _most(fits: Iterable[bool]) -> bool:
    """Tell whether more than half of the values fit; false without values."""
    found = list(fits)
    return 2 * sum(found) > len(found)


def _has_letters(column: Any) -> bool:
    pieces: Iterable[Any] = (column.slice(i, ROWS_AT_ONCE) for i in range(0, len(column), ROWS_AT_ONCE))
    return any(pc.any(pc.match_substring_regex(piece, r"\p{L}")).as_py() for piece in pieces)


def _lists(columns: Sequence[Any]) -> Any:
    """Return columns of strings as one of lists: a row has the texts of all columns, and those of printed lists."""
    count, rows = len(columns), len(columns[0])
    if any(_may_be_printed(column) for column in columns):
        pairs = zip(*(column.to_pylist() for column in columns), strict=True)
        lists = [[text for value in values for text in texts_of(value)] for values in pairs]
        return pa.array(lists, pa.large_list(pa.large_string()))
    # Without touching the texts: the first value of each column, then the second of each, and so on.
    order = np.arange(count * rows).reshape(count, rows).T.reshape(-1)
    texts = columns[0] if count == 1 else pa.concat_arrays(columns).take(pa.array(order))
    return pa.LargeListArray.from_arrays(pa.array(np.arange(0, count * rows + 1, count, dtype=np.int64)), texts)


def _may_be_printed(column: Any) -> bool:
    pieces = (column.slice(i, ROWS_AT_ONCE) for i in range(0, len(column), ROWS_AT_ONCE))
    return any(pc.any(pc.match_substring_regex(piece, r"^\s*(?:array\()?[\[({]")).as_py() for piece in pieces)
