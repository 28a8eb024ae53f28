"""Marks in CSV: one mark on each line, with the columns key, query, verdict, note, who, when, model."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

from dove_core.errors import DataError, UsageError, reason_of
from dove_core.files import LocalPath, atomic_file
from dove_core.review.marks import Mark, current_marks
from dove_core.review.store import Marks

COLUMNS = tuple(field.name for field in fields(Mark))
NEEDED = ("key", "query", "verdict")


def write_marks_csv(path: LocalPath, marks: Sequence[Mark]) -> None:
    """Write marks as CSV, which `read_marks_csv` reads.

    Raises:
        SpaceError: the disk is full.
        UsageError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([COLUMNS, *map(astuple, marks)])
    with atomic_file(Path(path)) as stream:
        stream.write(text.getvalue().encode())


def read_marks_csv(path: LocalPath) -> list[Mark]:
    """Read marks from CSV with the columns key, query and verdict; note, who, when and model may be missing.

    Raises:
        DataError: the file is missing or is not such a table; the message has the line.

    >>> write_marks_csv("marks.csv", [dove.Mark("test_1", "a red circle", "confirm")])
    >>> read_marks_csv("marks.csv")[0].key
    'test_1'
    """
    hint = f"expected CSV in UTF-8 with the columns {', '.join(NEEDED)}, and possibly {', '.join(COLUMNS[3:])}"
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if odd := [name for name in NEEDED if name not in (rows.fieldnames or ())]:
            raise DataError(f"{path} has no column {', '.join(odd)}", hint=hint)
        if odd := [str(name) for name in rows.fieldnames or () if name not in COLUMNS]:
            raise DataError(f"{path} has unknown columns: {', '.join(odd)}", hint=hint)
        return [_mark_of(row, f"{path}, line {rows.line_num}", hint) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}", hint=hint) from error


def read_marks(path: LocalPath) -> list[Mark]:
    """Return the current marks of a file: of CSV if its name ends in `.csv`, else of a file of `Marks`.

    Raises:
        DataError: the file is missing or damaged.
        UsageError: the file cannot be read.
    """
    if Path(path).suffix.lower() == ".csv":
        return current_marks(read_marks_csv(path))
    marks = Marks(path)
    if not marks.exists():
        hint = "add marks first: dove marks import FILE.csv"
        raise DataError(f"{path} does not exist", hint=hint)
    return marks.current()


def _mark_of(row: dict[str, str], where: str, hint: str) -> Mark:
    if None in row or None in row.values():
        raise DataError(f"{where}: it has more or fewer values than the first line", hint=hint)
    try:
        return Mark(**row)  # type: ignore[arg-type]
    except UsageError as error:
        raise DataError(f"{where}: {error.message}", hint=error.hint) from error
