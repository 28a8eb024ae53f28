"""The rows of a caption file of any form, and their division into splits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.csv_tables import TRAIN
from dove_core.data.sharding.caption_table import CaptionTable, checked_split
from dove_core.data.splits import in_order, split_in, split_named
from dove_core.errors import DataError
from dove_core.events import Noted, Report, Skipped

_MOST_SPLITS = 20
EMPTY_ROW, NO_SPLIT = "empty row", "row without a split"


@dataclass(frozen=True)
class CaptionRows:
    """All rows of a file in its order: paths of images, captions of each field, and the text of the split.

    `paths`, `splits` and `names` are Arrow arrays of strings, each of `fields` one of lists of strings; without
    `splits` the file is of one split. `columns` says what was read from which columns, for a message. `names` has the
    images' names alone, if the file has them apart from their folders.
    """

    file: Path
    paths: Any
    fields: Mapping[str, Any]
    splits: Any = None
    columns: str = ""
    names: Any = None

    def where(self, mask: np.ndarray) -> CaptionRows:
        """Return the rows for which a mask is true."""
        chosen = pa.array(mask)
        fields = {name: column.filter(chosen) for name, column in self.fields.items()}
        splits, names = (None if one is None else one.filter(chosen) for one in (self.splits, self.names))
        return CaptionRows(self.file, self.paths.filter(chosen), fields, splits, self.columns, names)


def divide(rows: CaptionRows, split: str | None, report: Report) -> list[CaptionTable]:
    """Make a table of each split: by the values that rows have, or else all rows are of the split in the file's name.

    Args:
        rows: of a file.
        split: the split of a file whose rows do not say theirs; else the only one to take.
        report: receives the columns that were read, how the split was chosen, and rows that are left out.

    Raises:
        DataError: there are no rows, none of `split`, or too many splits.
        UsageError: `split` cannot be the name of a folder.
    """
    wanted = None if split is None else split_named(split) or checked_split(split)
    if rows.columns:
        report(Noted(f"{rows.file}: {rows.columns}"))
    rows = _without_empty(rows, report)
    if not len(rows.paths):
        raise DataError(f"{rows.file} has a header but no rows", hint="expected a row for each image or caption")
    names = _names(rows)
    if not any(names.values()):
        return [_taken(rows, wanted or _in_name(rows.file, report), None)]
    if wanted is not None and wanted not in names.values() and not any(map(split_named, names)):
        report(Noted(f"{rows.file}: all rows are taken as {wanted}, whatever split they name: {_listed(names)}"))
        return [_taken(rows, wanted, None)]
    codes = _codes(rows.splits, names)
    counts = Counter(codes.tolist())
    if empty := counts.pop("", 0):
        where = rows.paths[int(np.flatnonzero(codes == "")[0])].as_py()
        report(Skipped(f"captions of {rows.file.name}", NO_SPLIT, empty, where))
    seen = ", ".join(f"{name} {counts[name]}" for name in in_order(counts))
    if wanted is not None and wanted not in counts:
        hint = f"choose with --split: {', '.join(in_order(counts))}"
        raise DataError(f"{rows.file} has no row of split {wanted}; rows of each split: {seen}", hint=hint)
    report(Noted(f"{rows.file}: rows of each split: {seen}"))
    chosen = [wanted] if wanted is not None else in_order(counts)
    return [_taken(rows, name, codes == name) for name in chosen]


def _taken(rows: CaptionRows, split: str, mask: np.ndarray | None) -> CaptionTable:
    chosen = rows if mask is None else rows.where(mask)
    return CaptionTable(rows.file, split, chosen.paths, chosen.fields, names=chosen.names)


def _in_name(file: Path, report: Report) -> str:
    """Return the split in the name of a file or of its folder, or train."""
    if found := split_in(f"{file.absolute().parent.name}/{file.name}"):
        return found
    report(Noted(f"{file}: no split in its name, taken as {TRAIN}; choose another with --split"))
    return TRAIN


def _names(rows: CaptionRows) -> dict[str, str]:
    """Return the split that each text in the file's splits stands for; an empty text for none.

    Raises:
        DataError: they are too many for splits.
    """
    texts = [] if rows.splits is None else pc.unique(rows.splits).to_pylist()
    names = {text: split_named(text) or re.sub(r"[^A-Za-z0-9_-]+", "_", text.strip()).strip("_") for text in texts}
    if len(set(names.values())) > _MOST_SPLITS:
        message = f"{rows.file} names {len(names)} splits, such as {', '.join(sorted(names)[:5])}"
        raise DataError(message, hint="expected train, val and test; rename the column to ignore it")
    return names


def _codes(splits: Any, names: Mapping[str, str]) -> np.ndarray:
    """Return the name of the split of each row."""
    encoded = splits.dictionary_encode()
    values = np.array([names[text] for text in encoded.dictionary.to_pylist()])
    found: np.ndarray = values[encoded.indices.to_numpy()]
    return found


def _without_empty(rows: CaptionRows, report: Report) -> CaptionRows:
    """Leave out rows without a path and without a caption, such as Excel's `,,` at the end; they are counted."""
    maybe = np.flatnonzero(pc.equal(pc.utf8_trim_whitespace(rows.paths), "").to_numpy(zero_copy_only=False))
    empty = [
        row
        for row in maybe.tolist()
        if not any(text.strip() for column in rows.fields.values() for text in column[row].as_py())
    ]
    if not empty:
        return rows
    report(Skipped(f"captions of {rows.file.name}", EMPTY_ROW, len(empty), f"row {empty[0] + 1}"))
    keep = np.ones(len(rows.paths), bool)
    keep[empty] = False
    return rows.where(keep)


def _listed(texts: Mapping[str, str]) -> str:
    return ", ".join(sorted(filter(None, texts))[:5])
