"""Caption tables in CSV: how they are named, checked, and read in batches as Arrow strings."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.file_kinds import refuse_other_kind
from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.data.splits import in_order, split_in
from dove_core.errors import DataError, reason_of

PATH_COLUMNS = (
    "filepath", "file_path", "path", "image_path", "img_path", "image", "img", "filename", "file_name", "image_name",
    "img_name", "image_file", "img_file", "file", "filenames", "images",
)  # fmt: skip
"""Names of the column with the image's path, best first."""

FOLDER_COLUMNS = ("filepath", "folder", "directory", "dir")
"""Names of a column with the folder of the image, beside one with its name."""

ID_COLUMNS = ("image_id", "id", "name", "key")
"""Names of columns that may have the image's name, if no other has."""

CSV_ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".psv")

HINT = "expected a CSV with a header: filepath,title,title_multi_objects for captions, or filepath,label for labels"

ROWS_AT_ONCE = 100_000
TRAIN = "train"
"""The split of a table whose name has none."""

_SEPARATORS = (",", "\t", ";", "|")
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_HEAD = 2**16


def release_tables(folder: Path) -> list[Path]:
    """Return the caption tables of a release folder, one for each split: `dataframe/*.csv`, else `*.csv`.

    Raises:
        DataError: there is none, or several are for the same split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint="give the folder that `dove fetch` filled")
    files = csv_files(folder)
    if not files:
        message = f"{folder} has neither dataframe/*.csv nor *.parquet"
        raise DataError(message, hint="run dove fetch again, or name captions: --captions FILE")
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_in(file.name) or TRAIN, []).append(file)
    for split, several in by_split.items():
        if len(several) > 1:
            raise several_tables(folder, split, ", ".join(file.name for file in several))
    return [by_split[split][0] for split in in_order(by_split)]


def several_tables(folder: Path, split: str, names: str) -> DataError:
    """Return the error for a release with several tables of one split."""
    return DataError(f"{folder} has several tables for {split}: {names}", hint="choose one: --captions FILE")


def csv_files(folder: Path) -> list[Path]:
    """Return the sorted CSVs of a release folder: `dataframe/*.csv`, else `*.csv`."""
    return sorted((folder / "dataframe").glob("*.csv")) or sorted(folder.glob("*.csv"))


@dataclass(frozen=True)
class _Dialect:
    """How a table is written: its encoding, what separates values, and lines before the header.

    Excel writes UTF-16 with tabs, and in many countries semicolons, possibly after a line `sep=;`.
    """

    encoding: str
    separator: str
    lines_before: int

    @property
    def has_blanks(self) -> bool:
        """Tell whether values have blanks around them, as in `image_name| comment`."""
        return self.separator == "|"


def _dialect_of(file: Path) -> _Dialect:
    """Choose the separator that makes a column of paths of the header, or else the most columns."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    refuse_other_kind(file, head, hint=HINT)
    encoding = _encoding_of(head)
    with file.open(encoding=encoding, newline="") as stream:
        first = stream.readline(_HEAD)
        named = _SEP_LINE.fullmatch(first)
        header = stream.readline(_HEAD) if named else first
    if named:
        return _Dialect(encoding, named[1], 1)
    by_separator = {separator: _cells(header, separator) for separator in _SEPARATORS}
    fitting = [separator for separator, cells in by_separator.items() if set(plain_names(cells)) & set(PATH_COLUMNS)]
    best = max(fitting or _SEPARATORS, key=lambda separator: len(by_separator[separator]))
    return _Dialect(encoding, best, 0)


def _encoding_of(head: bytes) -> str:
    """Return UTF-16 if a mark or the zeros of ASCII letters show it, else UTF-8."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) >= 4 and not head[1] and not head[3]:
        return "utf-16-le"
    return "utf-16-be" if len(head) >= 4 and not head[0] and not head[2] else "utf-8-sig"


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=separator == "|"), [])


def column_names(file: Path, *, hint: str = HINT) -> list[str]:
    """Return the names in a table's header.

    Raises:
        DataError: the file is missing or unreadable, is not text in UTF-8 or UTF-16, or names a column twice.
    """
    return _header(file, hint)[1]


def _header(file: Path, hint: str) -> tuple[_Dialect, list[str]]:
    with _readable(file, hint):
        dialect = _dialect_of(file)
        with file.open(encoding=dialect.encoding, newline="") as stream:
            for _ in range(dialect.lines_before):
                stream.readline()
            rows = csv.reader(stream, delimiter=dialect.separator, skipinitialspace=dialect.has_blanks)
            names = next((row for row in rows if row), [])
    names = [name or f"Unnamed: {number}" for number, name in enumerate(names)]  # as pandas does
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:  # pandas would rename the second
        raise DataError(f"{file} has several columns called {', '.join(map(repr, twice))}", hint=hint)
    return dialect, names


def read_batches(file: Path, columns: list[str] | None = None, *, hint: str = HINT) -> Iterator[Any]:
    """Yield a table's rows as Arrow tables of strings, `ROWS_AT_ONCE` at a time.

    A missing value is an empty string, and words such as "NA" stay words.

    Args:
        file: the CSV.
        columns: names of the columns to read; None reads all.
        hint: of the errors raised.

    Raises:
        DataError: as `column_names`, or a row has too many values or an open quote.
    """
    dialect, _ = _header(file, hint)
    with _readable(file, hint):
        reader = pd.read_csv(
            file, usecols=columns, dtype=str, keep_default_na=False, na_filter=False, index_col=False,
            encoding=dialect.encoding, chunksize=ROWS_AT_ONCE, sep=dialect.separator, skiprows=dialect.lines_before,
            skipinitialspace=dialect.has_blanks,
        )  # fmt: skip
    with reader:
        while True:
            with _readable(file, hint):
                frame = next(reader, None)
            if frame is None:
                return
            texts = {str(name): pa.array(frame[name], pa.large_string(), from_pandas=True) for name in frame.columns}
            filled = {name: pc.fill_null(column, "") for name, column in texts.items()}
            if dialect.has_blanks:
                filled = {name: pc.utf8_trim_whitespace(column) for name, column in filled.items()}
            yield pa.table(filled)


def read_columns(file: Path, columns: list[str] | None = None, *, hint: str = HINT) -> dict[str, Any]:
    """Return a table's columns as Arrow arrays of strings; arguments and errors are those of `read_batches`."""
    table = pa.concat_tables(read_batches(file, columns, hint=hint))
    return {name: table[name].combine_chunks() for name in table.column_names}


def plain_names(columns: Iterable[str]) -> dict[str, str]:
    """Return column names by their lower-case form without spaces around it; the first of equal ones counts."""
    return {name.strip().lower(): name for name in reversed(list(columns))}


def path_column(file: Path, columns: Iterable[str]) -> str:
    """Return the name of the column that holds the paths of images.

    Raises:
        DataError: there is no such column.
    """
    plain = plain_names(columns)
    for wanted in PATH_COLUMNS:
        if wanted in plain:
            return plain[wanted]
    raise no_path_column(file, columns)


def no_path_column(file: Path, columns: Iterable[str]) -> DataError:
    """Return the error for a table without a column of paths."""
    seen = list(columns)
    message = f"{file} has no column with the path of the image; columns: {', '.join(seen) or 'none'}"
    if any(name.strip().lower().endswith(IMAGE_ENDINGS) for name in seen):
        return DataError(f"{file} has no header", hint="add a first line such as filepath,title")
    return DataError(message, hint=f"{HINT}; the path is in filepath, path, image, filename, file_name or image_path")


@contextmanager
def _readable(file: Path, hint: str) -> Iterator[None]:
    """Turn the errors of reading a CSV into a DataError that names the file."""
    try:
        with warnings.catch_warnings():
            # pandas only warns of a row with too many values, and cuts it.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", hint="give a caption file: --captions FILE") from None
    except UnicodeDecodeError as error:
        command = f"iconv -f CP1252 -t UTF-8 {file} > utf8.csv"
        hint = f"save it as UTF-8, for example with: {command}; CP1252 is Western Windows, GB18030 is Chinese"
        raise DataError(f"{file} is not UTF-8: {error}", hint=hint) from error
    except (OSError, ValueError, csv.Error, pd.errors.ParserWarning) as error:  # pandas' own errors are ValueErrors
        message = f"{file} cannot be read as a CSV: {reason_of(error).strip()}"
        raise DataError(message, hint=f"{hint}; a value with a separator or a line break needs quotes") from error
