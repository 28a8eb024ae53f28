"""Caption tables as `dove fetch` sees them: which image each row is of, and a table cut to some of its rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from dove_core.errors import DataError
from dove_core.files import atomic_file

_PATH = "filepath"
_BLOCK = 16 * 2**20
# An image is called images2/x.jpg; some archives have it twice nested, as images2/images2/x.jpg.
_IMAGE = r"^images(?P<part>\d+)/(?:images\d+/)*(?P<key>.+)$"


def read_images(file: Path) -> tuple[np.ndarray, Any]:
    """Return of each row the number of the archive its image is in, 0 where the path tells none, and its key there.

    Raises:
        DataError: the table cannot be read, or has no column `filepath`.
    """
    with _readable(file):
        paths = pacsv.read_csv(file, **_options(file, only=_PATH)).column(_PATH).combine_chunks()
    found = pc.extract_regex(paths, pattern=_IMAGE)
    parts = pc.fill_null(pc.cast(pc.struct_field(found, "part"), pa.int64()), 0)
    return parts.to_numpy(zero_copy_only=False), pc.struct_field(found, "key")


def write_cut(file: Path, rows: np.ndarray, target: Path) -> None:
    """Write the rows with these numbers, ascending, with all columns; the table is never in memory as a whole.

    Raises:
        DataError: the table cannot be read.
        SpaceError: the disk is full.
    """
    with _readable(file), pacsv.open_csv(file, **_options(file)) as reader, atomic_file(target) as stream:
        quoting = pacsv.WriteOptions(quoting_style="needed")
        with pacsv.CSVWriter(stream, reader.schema, write_options=quoting) as writer:
            start = 0
            for batch in reader:
                first, end = np.searchsorted(rows, (start, start + len(batch)))
                writer.write(batch.take(pa.array(rows[first:end] - start)))
                start += len(batch)


def keys_of_images(names: Any) -> Any:
    """Return the keys of an archive's members, as `read_images` has them."""
    return pc.replace_substring_regex(names, pattern=r"^(?:images\d+/)*", replacement="")


def stems_of_images(keys: Any) -> Any:
    """Return the file names of images without folder and ending."""
    return pc.replace_substring_regex(keys, pattern=r"^(?:.*/)?([^/]*?)(?:\.[^./]*)?$", replacement=r"\1")


def stems_of_metas(names: Any) -> Any:
    """Return the stems of an archive's pickles, null for other members."""
    found = pc.extract_regex(names, pattern=r"^(?:.*/)?(?P<stem>[^/]+)\.(?:pickle|pkl)$")
    return pc.struct_field(found, "stem")


def _options(file: Path, only: str | None = None) -> dict[str, Any]:
    """Return pyarrow's options to read every column as text, exactly as it stands there."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        names = next(csv.reader(stream), [])
    if _PATH not in names:
        raise DataError(f"{file} has no column {_PATH}; columns: {', '.join(names) or 'none'}", hint=_hint(file))
    return {
        "read_options": pacsv.ReadOptions(block_size=_BLOCK),
        "parse_options": pacsv.ParseOptions(newlines_in_values=True),
        "convert_options": pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            strings_can_be_null=False,
            include_columns=[only] if only else None,
        ),
    }


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what says that a table cannot be read into an error that names it."""
    try:
        yield
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's own errors are ValueErrors
        raise DataError(f"{file} cannot be read as a CSV: {error}", hint=_hint(file)) from error


def _hint(file: Path) -> str:
    return f"delete {file} and run the same command again to fetch it anew"
