"""Parquet files with images inside as the sources of the shards of one split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.parquet_images import ENDING, ImageParquet, RowReader
from dove_core.data.sharding.caption_table import CaptionTable
from dove_core.data.sharding.parquet_table import ParquetSplit
from dove_core.data.sharding.shard_plan import FoundRows
from dove_core.errors import DataError, reason_of


class ParquetSources:
    """The files of a split; row k of its caption table is row k of the files, one after another."""

    metas: Sequence[Path] = ()

    def __init__(self, split: ParquetSplit, files: Sequence[ImageParquet]) -> None:
        self.images = [file.path for file in files]
        self.identity = [[(name, file.size, file.digest) for name, file in zip(split.names, files, strict=True)]]
        self._names, self._files = split.names, files
        self._starts = np.cumsum([0, *map(len, files)])

    def find(self, table: CaptionTable) -> FoundRows:
        """Number the images: rows with the same name and the same bytes, as in tables with a row a caption, are one.

        A row with the name of another image gets a longer name, with its file and number before it.

        Raises:
            DataError: a file with images of equal names cannot be read.
        """
        entry, first = np.arange(len(table)), dict[tuple[str, bytes], int]()
        owners, longer = dict[str, bytes](), dict[int, str]()
        for row, name, digest in self._repeated(table.paths):
            entry[row] = first.setdefault((name, digest), row)
            if owners.setdefault(name, digest) != digest:
                file, number = self._position(row)
                longer[row] = f"{self._names[file].removesuffix(ENDING)}/{number}/{name}"
        if longer:
            is_longer = np.zeros(len(table), bool)
            is_longer[list(longer)] = True
            values = pa.array(list(longer.values()), pa.large_string())
            table = replace(table, paths=pc.replace_with_mask(table.paths, pa.array(is_longer), values))
        return FoundRows(table, entry, {}, self._columns)

    def order(self, table: CaptionTable, seed: int) -> np.ndarray:
        """Return all rows: row groups in a random order, and the rows of each as they are in the file.

        A reader needs all rows before a row in its group. So the rows of a group stay together, and each is read once.
        """
        ends = np.cumsum([count for file in self._files for count in file.groups])
        starts = np.concatenate([[0], ends[:-1]])
        groups = np.argsort(np.random.PCG64(seed).random_raw(len(ends)), kind="stable")
        return np.concatenate([np.arange(starts[group], ends[group]) for group in groups])

    def seen(self, table: CaptionTable) -> str:
        """Return where the reasons are."""
        return "expected encoded images, such as JPEGs; status and error of each row are in the shards' *.parquet"

    def _repeated(self, names: Any) -> Iterator[tuple[int, str, bytes]]:
        """Yield number, name and digest of the image of each row with the name of another; no two nulls are equal."""
        codes = names.dictionary_encode().indices.to_numpy()
        rows = np.flatnonzero(np.bincount(codes)[codes] > 1).tolist()
        for file, group in groupby(rows, key=lambda row: self._position(row)[0]):
            path = self._files[file].path
            try:
                reader = RowReader(path, path.name)
                for row in group:
                    yield row, names[row].as_py(), self._digest(reader, row)
                reader.close()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {reason_of(error)}", hint="check the disk") from error

    def _digest(self, reader: RowReader, row: int) -> bytes:
        try:
            image = reader.image(self._position(row)[1])
        except DataError:  # counted when its shard is made
            image = None
        return hashlib.sha256(image).digest() if image else str(row).encode()

    def _position(self, row: int) -> tuple[int, int]:
        """Return the number of a row's file, and its number there."""
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return file, row - int(self._starts[file])

    def _columns(self, numbers: np.ndarray) -> dict[str, Any]:
        files = np.searchsorted(self._starts, numbers, side="right") - 1
        return {"picture_place": pa.array(files), "picture_row": pa.array(numbers - self._starts[files])}
