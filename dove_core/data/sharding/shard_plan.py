"""The plan of a split: which rows make which shard, written before any image is read, and its fingerprint.

The plan is a Parquet file with one row group a shard: captions, key, and where image and metadata lie. Any shard can be
made from it alone, in another process or on another machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dove_core.config import ShardConfig
from dove_core.data.sharding.caption_table import CaptionTable
from dove_core.data.sharding.distinct import distinct_rows
from dove_core.data.sharding.member_reader import MemberLocation
from dove_core.data.sharding.row_images import RowLocation
from dove_core.errors import DataError, reason_of
from dove_core.files import atomic_file
from dove_core.places import Place

_FORMAT = 3
"""To be raised when the bytes of shards change, so that older ones are made again."""

_ROWS_AT_ONCE = 50_000
_CAPTIONS = "caption."
_NOT_IN_BYTES = ("max_bad", "workers")
"""Settings that do not change the contents of shards."""


@dataclass(frozen=True)
class FoundRows:
    """The rows of a table with the places of their files.

    `entry` numbers the images: equal numbers are one image, a negative one stands for none. `problems` says why there
    is none. `columns` returns where the files of some rows are, as columns of a plan.
    """

    table: CaptionTable
    entry: np.ndarray
    problems: Mapping[int, str]
    columns: Callable[[np.ndarray], dict[str, Any]]


class Sources(Protocol):
    """Where the images of some tables are: in zips and folders, or in Parquet files."""

    @property
    def images(self) -> Sequence[Path]:
        """The zips and folders, or files."""
        ...

    @property
    def metas(self) -> Sequence[Path]:
        """The zips and folders of metadata."""
        ...

    @property
    def identity(self) -> list[list[tuple[str, int, str]]]:
        """Name, size and digest of all images and of all metadata, which differ between versions of them."""
        ...

    def find(self, table: CaptionTable) -> FoundRows:
        """Find the files of every row."""
        ...

    def order(self, table: CaptionTable, seed: int) -> np.ndarray:
        """Return the numbers of the rows in the order of the shards, which depends on the seed alone."""
        ...

    def seen(self, table: CaptionTable) -> str:
        """Return what images were expected and found, as a hint for a table none of whose rows can be used."""
        ...


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """An input row: its key, the image's path, its captions, not cleaned, and where its files lie.

    `is_repeated`: an earlier row has this key. `is_merged`: an earlier row is of the same image and has this row's
    captions too. `problem` says why there is no `image`.
    """

    key: str
    path: str
    captions: Mapping[str, Sequence[str]]
    is_repeated: bool
    is_merged: bool
    image: MemberLocation | RowLocation | None
    problem: str | None
    meta: MemberLocation | None


@dataclass(frozen=True)
class ShardPlan:
    """Shard i is made of row group i of the file; `len` counts shards.

    `fingerprint` covers everything that decides a shard's bytes, `rows_fingerprint` everything but images and metadata:
    shards with the same one have the same rows. `table` is the name of the caption file, and `captions` its digest.
    """

    file: Path
    split: str
    rows: int
    shards: int
    fingerprint: str
    rows_fingerprint: str
    table: str
    captions: str

    def __len__(self) -> int:
        """Count the shards."""
        return self.shards


def fingerprints(captions: str, split: str, sources: Sources, config: ShardConfig) -> tuple[str, str]:
    """Return the fingerprint of a plan, and that of its rows alone, given the digest of the captions."""
    settings = {name: value for name, value in asdict(config).items() if name not in _NOT_IN_BYTES}
    rows = _digest({"format": _FORMAT, "captions": captions, "split": split, "config": settings})
    return _digest({"rows": rows, "sources": sources.identity}), rows


def make_plan(table: CaptionTable, sources: Sources, config: ShardConfig, folder: Path) -> ShardPlan:
    """Spread the rows of a table over shards in the order of its sources, and find each row's files.

    The plan is written into `folder`, unless it is there already.

    Raises:
        DataError: a zip cannot be read, or there is no image at all.
        SpaceError: the disk is full.
    """
    captions = table.digest()
    prints = fingerprints(captions, table.split, sources, config)
    shards = -(-len(table) // config.shard_size)
    file = folder / f"{prints[0][:16]}.parquet"
    plan = ShardPlan(file, table.split, len(table), shards, *prints, table.file.name, captions)
    if not plan.file.exists():
        with atomic_file(plan.file) as stream:
            _write(table, sources, config, stream)
    return plan


class PlannedRows:
    """Reads a plan, one shard at a time."""

    def __init__(self, file: Place) -> None:
        """Open a plan, here or in a bucket.

        Raises:
            DataError: it cannot be read.
        """
        self._path = file
        try:
            self._stream = file.parent.seekable(file.name)
            self._file = pq.ParquetFile(self._stream)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        names = self._file.schema_arrow.names
        self.are_in_parquet = "picture_row" in names
        self._fields = {name.removeprefix(_CAPTIONS): name for name in names if name.startswith(_CAPTIONS)}

    def __del__(self) -> None:
        """Close the plan."""
        if "_stream" in self.__dict__:
            self._stream.close()

    def of_shard(self, shard: int) -> Iterator[PlannedRow]:
        """Yield the input rows of a shard in the order of its tar.

        Raises:
            DataError: the plan is damaged.
        """
        try:
            rows = self._file.read_row_group(shard).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        for row in rows:
            captions = {field: row[column] for field, column in self._fields.items()}
            flags, image = (row["repeated"], row["merged"]), self._image_of(row)
            meta = None if self.are_in_parquet else MemberLocation.of(row, "meta_")
            yield PlannedRow(row["key"], row["path"], captions, *flags, image, row["problem"], meta)

    def _image_of(self, row: Mapping[str, Any]) -> MemberLocation | RowLocation | None:
        if self.are_in_parquet:
            return RowLocation(row["picture_place"], row["picture_row"])
        return MemberLocation.of(row, "picture_")

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(
            f"{self._path} cannot be read: {reason_of(error)}", hint="delete it and run `dove shard` again"
        )


def _write(table: CaptionTable, sources: Sources, config: ShardConfig, stream: Any) -> None:
    found = sources.find(table)
    rows = distinct_rows(found.table, found.entry)
    order = sources.order(table, config.seed)
    step = max(1, _ROWS_AT_ONCE // config.shard_size) * config.shard_size
    writer = None
    for start in range(0, len(order), step):
        numbers = order[start : start + step]
        taken = pa.array(numbers)
        columns = {
            "key": rows.keys.take(taken),
            "path": found.table.paths.take(taken),
            **{_CAPTIONS + name: rows.captions(name, numbers) for name in table.fields},
            "repeated": pa.array(rows.is_repeated[numbers]),
            "merged": pa.array(rows.is_merged[numbers]),
            "problem": pa.array([found.problems.get(number) for number in numbers.tolist()], pa.string()),
            **found.columns(numbers),
        }
        chunk = pa.table(columns)
        # Nearly all strings are distinct: a dictionary of them would cost time and save nothing.
        writer = writer or pq.ParquetWriter(stream, chunk.schema, compression="lz4", use_dictionary=False)
        writer.write_table(chunk.cast(writer.schema), row_group_size=config.shard_size)
    if writer is not None:
        writer.close()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
