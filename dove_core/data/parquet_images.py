"""Parquet files with images inside, as data sets of the Hugging Face Hub have them: found, described, and read by row.

A row group is read as a stream of pages, so memory does not grow with the file or the row group. A row in the middle of
a group needs the rows before it, so readers go through rows in order.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dove_core.data.parquet_columns import ImageColumns, choose_columns
from dove_core.errors import DataError, reason_of

ENDING = ".parquet"
_HINT = "expected a complete Parquet file; fetch it again"
_IMAGES_AT_ONCE = 16
_TEXTS_AT_ONCE = 10_000
_BUFFER = 2**20
_TAIL = 8
"""Bytes at the end of a Parquet file: the length of its footer, and a mark."""

_ADDRESS = re.compile(r"(?s)(?P<file>.+)#row=(?P<row>\d+)")


@dataclass(frozen=True)
class ImageParquet:
    """A file with images: its columns, the rows in each row group, size, modification time, and a digest of its footer.

    The time is in nanoseconds. The footer has the positions and lengths of all columns, so it differs between versions
    of a file.
    """

    path: Path
    schema: Any
    columns: ImageColumns
    groups: tuple[int, ...]
    size: int
    modified: int
    digest: str

    def __len__(self) -> int:
        """Count the rows."""
        return sum(self.groups)

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield the names and captions of all rows, without the images.

        Raises:
            DataError: the file is damaged.
        """
        wanted = self.columns.texts()
        if not wanted:
            yield from ({} for _ in range(len(self)))
            return
        try:
            with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=_BUFFER) as file:
                for batch in file.iter_batches(_TEXTS_AT_ONCE, columns=wanted):
                    yield from batch.to_pylist()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{self.path} cannot be read: {reason_of(error)}", hint=_HINT) from error


def describe_parquet(path: Path) -> ImageParquet:
    """Read the footer of a Parquet file and choose its columns.

    Raises:
        DataError: the file is missing, damaged or no Parquet file, or has no images.
    """
    try:
        with pq.ParquetFile(path) as file:
            groups = tuple(file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups))
            schema = file.schema_arrow
        with path.open("rb") as stream:
            facts = os.fstat(stream.fileno())
            stream.seek(facts.st_size - _TAIL)
            stream.seek(-_TAIL - int.from_bytes(stream.read(_TAIL)[:4], "little"), os.SEEK_END)
            digest = hashlib.sha256(stream.read()).hexdigest()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", hint="check the path") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {reason_of(error)}", hint=_HINT) from error
    return ImageParquet(path, schema, choose_columns(path, schema), groups, facts.st_size, facts.st_mtime_ns, digest)


class RowReader:
    """Reads rows of one Parquet file by number; rows in ascending order are read in one pass."""

    def __init__(self, source: Path | BinaryIO, name: str, *, texts: bool = False) -> None:
        """Open a file.

        Args:
            source: its path, or a seekable stream.
            name: what errors call it.
            texts: read the names and captions too, not the images only.

        Raises:
            DataError: it is damaged or not a Parquet file, or has no images.
            OSError: it cannot be opened.
        """
        self._name = name
        try:
            self._file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True)
        except (OSError, ValueError, pa.ArrowException) as error:
            if _is_of_the_disk(error):
                raise
            raise DataError(f"{name} cannot be read as Parquet: {error}", hint=_HINT) from error
        facts = self._file.metadata
        self.columns = choose_columns(name, self._file.schema_arrow)
        self._wanted = [self.columns.image, *(self.columns.texts() if texts else ())]
        self._ends = np.cumsum([facts.row_group(k).num_rows for k in range(facts.num_row_groups)])
        self._group, self._first, self._batch = -1, 0, pa.RecordBatch.from_pylist([])
        self._batches: Iterator[Any] = iter(())
        self._damage: Exception | None = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def image(self, row: int) -> bytes | None:
        """Return the image of a row, None if it is null; errors as `read`."""
        return self.columns.image_in(self.read(row))

    def read(self, row: int) -> dict[str, Any]:
        """Return the wanted columns of a row.

        Raises:
            DataError: there is no such row, or its row group is damaged there or before.
            OSError: the disk cannot be read.
        """
        group = int(np.searchsorted(self._ends, row, side="right"))
        if group == len(self._ends):
            raise DataError(f"{self._name} has no row {row}", hint=_HINT)
        if group != self._group or row < self._first:
            self._begin(group)
        while row >= self._first + len(self._batch):
            self._next(row)
        values: dict[str, Any] = self._batch.slice(row - self._first, 1).to_pylist()[0]
        return values

    def _begin(self, group: int) -> None:
        self._group, self._damage = group, None
        self._first, self._batch = int(self._ends[group - 1]) if group else 0, self._batch.slice(0, 0)
        self._batches = self._file.iter_batches(
            _IMAGES_AT_ONCE, row_groups=[group], columns=self._wanted, use_threads=False
        )

    def _next(self, row: int) -> None:
        try:
            if self._damage is not None:
                raise self._damage
            first, self._batch = self._first + len(self._batch), next(self._batches)
        except StopIteration:
            raise DataError(f"{self._name}: row group {self._group} is shorter than its footer says") from None
        except (OSError, ValueError, pa.ArrowException) as error:
            if _is_of_the_disk(error):
                raise
            self._damage = error
            message = f"{self._name}: row group {self._group} is damaged before row {row}: {error}"
            raise DataError(message, hint=_HINT) from error
        self._first = first


def _is_of_the_disk(error: Exception) -> bool:
    """Tell whether an error is the system's: it has a number, in contrast to Arrow's about damaged files."""
    return isinstance(error, OSError) and error.errno is not None


def row_address(file: str, row: int) -> str:
    """Return the address of a row, such as `data/train.parquet#row=17`, for `parse_row`."""
    return f"{file}#row={row}"


def parse_row(address: str) -> tuple[str, int] | None:
    """Return file and row of an address; None if the text is not the address of a row."""
    match = _ADDRESS.fullmatch(address)
    return (match["file"], int(match["row"])) if match else None


def row_name(file: str, row: int) -> str:
    """Return the name of an image that has none: `data-train-0_000017` for row 17 of `data/train-0.parquet`."""
    stem = re.sub(r"[./]", "-", str(PurePosixPath(file).with_suffix("")))
    return f"{stem}_{row:06d}"
