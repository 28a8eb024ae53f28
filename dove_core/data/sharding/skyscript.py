"""Caption tables in CSV as SkyScript has them, and the pickled metadata beside its images."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.sharding.captions import CaptionTable
from dove_core.errors import DataError, UsageError

PATH_COLUMNS = ("filepath", "path", "image", "filename")
"""Names of the column that says which image a row is about, best first."""

_ROWS_AT_ONCE = 100_000
_SPLIT = re.compile(r"(?:^|[_.-])(train|val|test)(?=[_.-]|$)", re.IGNORECASE)
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HINT = "expected a CSV with a header: filepath,title,title_multi_objects, or a path column and columns of text"


def split_of(file: Path) -> str:
    """Return the split that a CSV's name tells, such as `SkyScript_val_5K.csv`; `train` if it tells none."""
    match = _SPLIT.search(file.stem)
    return match.group(1).lower() if match else "train"


def release_tables(folder: Path) -> list[Path]:
    """Return the caption files of a release folder, one for each split: `dataframe/*.csv`, else `*.csv`.

    Raises:
        DataError: there is none, or several are for the same split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint="give the folder that `dove fetch` filled")
    files = sorted((folder / "dataframe").glob("*.csv")) or sorted(folder.glob("*.csv"))
    if not files:
        raise DataError(f"{folder} has no dataframe/*.csv", hint="run dove fetch again, or name one: --captions FILE")
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_of(file), []).append(file)
    for split, several in by_split.items():
        if len(several) > 1:
            names = ", ".join(file.name for file in several)
            raise DataError(f"{folder} has several tables for {split}: {names}", hint="choose one: --captions FILE")
    return [by_split[split][0] for split in sorted(by_split, key=("train", "val", "test").index)]


def read_csv(file: Path, split: str | None = None) -> CaptionTable:
    """Read a caption CSV: its path column, and every other column with a letter in it as a field of captions.

    Raises:
        DataError: the file is missing, damaged, has no path column or no column of text.
        UsageError: `split` cannot be the name of a folder.
    """
    split = split_of(file) if split is None else split
    if not _SPLIT_NAME.fullmatch(split):
        raise UsageError(f"split {split!r} cannot be the name of a folder", hint="use letters, digits, - and _")
    _hold_header(file)
    columns = _read_columns(file)
    path_column = _path_column(file, list(columns))
    paths = columns.pop(path_column)
    fields = {name: _as_lists(column) for name, column in columns.items() if _has_letters(column)}
    if not len(paths):
        raise DataError(f"{file} has a header but no rows", hint=_HINT)
    if not fields:
        seen = ", ".join([path_column, *columns])
        raise DataError(f"{file} has no column of text beside {path_column}; columns: {seen}", hint=_HINT)
    return CaptionTable(file, split, paths, fields)


def _read_columns(file: Path) -> dict[str, Any]:
    """Read every column as strings, in chunks; an absent value is an empty string, and "NA" stays as it is."""
    parts: dict[str, list[Any]] = {}
    try:
        with warnings.catch_warnings():
            # A row with too many values must not shift the columns: pandas only warns of it.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            reader = pd.read_csv(
                file, dtype=str, keep_default_na=False, na_filter=False, index_col=False,
                encoding="utf-8-sig", chunksize=_ROWS_AT_ONCE,
            )  # fmt: skip
            with reader:
                for frame in reader:
                    for name in frame.columns:
                        texts = pa.array(frame[name], type=pa.large_string(), from_pandas=True)
                        parts.setdefault(str(name), []).append(pc.fill_null(texts, ""))
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", hint="give a caption file: --captions FILE") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error}", hint="save it as UTF-8") from error
    except (OSError, ValueError, pd.errors.ParserWarning) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{file} cannot be read as a CSV: {error}", hint=_HINT) from error
    columns = {name: pa.concat_arrays(chunks) for name, chunks in parts.items()}
    parts.clear()
    pa.default_memory_pool().release_unused()  # what pandas' strings took
    return columns


def _hold_header(file: Path) -> None:
    """Refuse a header that names a column twice: pandas would rename the second."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", hint="give a caption file: --captions FILE") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error}", hint="save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}", hint="check what it is, and its rights") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{file} has several columns called {', '.join(map(repr, twice))}", hint=_HINT)


def _path_column(file: Path, columns: list[str]) -> str:
    plain = {name.strip().lower(): name for name in reversed(columns)}
    for wanted in PATH_COLUMNS:
        if wanted in plain:
            return plain[wanted]
    message = f"{file} has no column {', '.join(PATH_COLUMNS[:-1])} or {PATH_COLUMNS[-1]}; columns: "
    raise DataError(message + (", ".join(columns) or "none"), hint=_HINT)


def _has_letters(column: Any) -> bool:
    pieces: Iterable[Any] = (column.slice(i, _ROWS_AT_ONCE) for i in range(0, len(column), _ROWS_AT_ONCE))
    return any(pc.any(pc.match_substring_regex(piece, r"\p{L}")).as_py() for piece in pieces)


def _as_lists(column: Any) -> Any:
    """Turn a column of strings into one of lists with one string each, without touching the text."""
    return pa.LargeListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int64)), column)
