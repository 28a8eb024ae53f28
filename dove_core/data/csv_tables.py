"""Caption tables in CSV: how they are named, checked, and read in batches as Arrow strings."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.errors import DataError, reason_of

PATH_COLUMNS = ("filepath", "path", "image", "filename")
"""Names of the column with the image's path, best first."""

HINT = "expected a CSV with a header: filepath,title,title_multi_objects for captions, or filepath,label for labels"

ROWS_AT_ONCE = 100_000
_SPLIT = re.compile(r"(?:^|[_.-])(train|val|test)(?=[_.-]|$)", re.IGNORECASE)


def split_of(file: Path) -> str:
    """Return the split in a CSV's name, such as `SkyScript_val_5K.csv`; `train` if there is none."""
    match = _SPLIT.search(file.stem)
    return match.group(1).lower() if match else "train"


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
        by_split.setdefault(split_of(file), []).append(file)
    for split, several in by_split.items():
        if len(several) > 1:
            names = ", ".join(file.name for file in several)
            raise DataError(f"{folder} has several tables for {split}: {names}", hint="choose one: --captions FILE")
    return [by_split[split][0] for split in sorted(by_split, key=("train", "val", "test").index)]


def csv_files(folder: Path) -> list[Path]:
    """Return the sorted CSVs of a release folder: `dataframe/*.csv`, else `*.csv`."""
    return sorted((folder / "dataframe").glob("*.csv")) or sorted(folder.glob("*.csv"))


def column_names(file: Path, *, hint: str = HINT) -> list[str]:
    """Return the names in a table's header.

    Raises:
        DataError: the file is missing or unreadable, is not UTF-8, or names a column twice.
    """
    with _readable(file, hint), file.open(encoding="utf-8-sig", newline="") as stream:
        names = next((row for row in csv.reader(stream) if row), [])
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:  # pandas would rename the second
        raise DataError(f"{file} has several columns called {', '.join(map(repr, twice))}", hint=hint)
    return names


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
    column_names(file, hint=hint)
    with _readable(file, hint):
        reader = pd.read_csv(
            file, usecols=columns, dtype=str, keep_default_na=False, na_filter=False, index_col=False,
            encoding="utf-8-sig", chunksize=ROWS_AT_ONCE,
        )  # fmt: skip
    with reader:
        while True:
            with _readable(file, hint):
                frame = next(reader, None)
            if frame is None:
                return
            texts = {str(name): pa.array(frame[name], pa.large_string(), from_pandas=True) for name in frame.columns}
            yield pa.table({name: pc.fill_null(column, "") for name, column in texts.items()})


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
    message = f"{file} has no column {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}; columns: "
    raise DataError(message + (", ".join(columns) or "none"), hint=HINT)


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
        raise DataError(f"{file} is not UTF-8: {error}", hint="save it as UTF-8") from error
    except (OSError, ValueError, csv.Error, pd.errors.ParserWarning) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{file} cannot be read as a CSV: {reason_of(error)}", hint=hint) from error
