"""An index: what is made from the parts so that a query is answered at once.

`rows.arrow` holds what is known of every row, `vectors.npy` the vectors, `codes.faiss` their coarse codes where there
are many, `words/` the text side of the model. All are mapped from disk. The parts are the truth: everything here can be
made from them again, and is refused under another model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dove_core.config import FilterConfig
from dove_core.errors import SearchIndexError
from dove_core.files import atomic_file, atomic_folder, read_record, write_record
from dove_core.model.plain import PlainText, copy_text_side
from dove_core.search.nearest import FEW, nearest, nearest_many
from dove_core.search.pictures import read_picture
from dove_core.search.regions import Regions, has_regions
from dove_core.search.rows import PART_COLUMNS, Row, RowTable

if TYPE_CHECKING:
    from dove_core.search.codes import Codes

FORMAT = 2
MANIFEST, VECTORS, CODES, ROWS, WORDS = "index.json", "vectors.npy", "codes.faiss", "rows.arrow", "words"
MADE = (MANIFEST, VECTORS, CODES, ROWS)
"""Files made from the parts."""

_HINT = "an index is a folder such as index/NAME, made by `dove embed`"
_AGAIN = "run `dove embed` again to make it from the parts"


@dataclass(frozen=True)
class IndexManifest:
    """What an index is: whose vectors, of which shards. Paths are relative to the index's folder."""

    fingerprint: str
    dim: int
    counts: list[int]
    checkpoint: str
    shards: str


class SearchIndex:
    """An opened index; rows are numbered through all parts."""

    def __init__(self, folder: Path, *, shards: Path | None = None) -> None:
        """Open an index; `shards` is the folder of what was embedded, where it was moved.

        Raises:
            SearchIndexError: there is none, or its files do not fit together.
        """
        self.folder, self._shards = folder, shards
        self.manifest = read_record(folder / MANIFEST, IndexManifest, FORMAT, SearchIndexError, hint=_HINT)
        try:
            self.vectors: np.ndarray = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise SearchIndexError(f"{folder / VECTORS} cannot be read: {error}", hint=_AGAIN) from error
        if self.vectors.shape != (sum(self.manifest.counts), self.manifest.dim):
            message = f"{folder / VECTORS} has shape {self.vectors.shape}, unlike {MANIFEST}"
            raise SearchIndexError(message, hint=_AGAIN)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.vectors)

    @property
    def name(self) -> str:
        """Return the folder, as messages call it."""
        return str(self.folder)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the model that made the index."""
        return self.manifest.fingerprint

    @property
    def checkpoint(self) -> Path:
        """Return the folder of the checkpoint that made the index."""
        return Path(os.path.normpath(self.folder / self.manifest.checkpoint))

    @property
    def shards(self) -> Path:
        """Return the folder below which the rows' shards lie."""
        return self._shards or Path(os.path.normpath(self.folder / self.manifest.shards))

    @cached_property
    def table(self) -> RowTable:
        """What is known of the rows.

        Raises:
            SearchIndexError: the file is missing, damaged, or has other rows than there are vectors.
        """
        table = RowTable(self.folder / ROWS)
        if len(table) != len(self):
            raise SearchIndexError(f"{self.folder / ROWS} has {len(table)} rows, not {len(self)}", hint=_AGAIN)
        return table

    @cached_property
    def words(self) -> PlainText:
        """The text side of the model that made the index.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        return PlainText.open(self.folder / WORDS)

    @cached_property
    def regions(self) -> Regions | None:
        """The pictures' regions, None if they were not kept."""
        counts = self.manifest.counts
        return Regions(self.folder, counts) if has_regions(self.folder, len(counts)) else None

    def kept(self, filters: FilterConfig) -> np.ndarray | None:
        """Return `(N,)` bool, the rows that pass every filter; None where there is no filter.

        Raises:
            UsageError: a filter cannot be understood.
        """
        if filters == FilterConfig():
            return None
        from dove_core.search.filters import kept_rows

        return kept_rows(self.table, filters)

    def search(
        self, vector: np.ndarray, top: int, *, keep: np.ndarray | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers and cosines of the `top` rows nearest to a vector `(D,)`, best first, equal ones by row.

        Vectors are stored as float16 and compared in float32. Large indexes are searched by their codes first, which
        finds the same rows but for a few in a thousand; `exact` compares with every vector.

        Args:
            vector: of length 1.
            top: how many.
            keep: `(N,)` bool, which rows may be found; None for all.
            exact: see above.
        """
        by_codes = None if exact or len(self) <= FEW else lambda: self.codes
        return nearest(self.vectors, np.asarray(vector, np.float32), top, by_codes, keep)

    def search_many(
        self, vectors: np.ndarray, top: int, *, keep: np.ndarray | None = None, exact: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each of several vectors `(Q, D)` what `search` does, in less time than one by one."""
        by_codes = None if exact or len(self) <= FEW else lambda: self.codes
        return nearest_many(self.vectors, np.asarray(vectors, np.float32), top, by_codes, keep)

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return what is known of some rows.

        Raises:
            SearchIndexError: the file of rows is missing or damaged.
        """
        return self.table.rows(numbers)

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that is there."""
        return self.table.find(keys)

    def vectors_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the vectors `(K, D)` float16 of some rows."""
        vectors: np.ndarray = self.vectors[np.asarray(numbers, np.int64)]
        return vectors

    def picture(self, row: Row) -> bytes:
        """Read a row's picture straight from its tar.

        Raises:
            SearchIndexError: the tar is not there any more, or shorter than before.
        """
        return read_picture(self.shards, row.shard, row.offset, row.size)

    @cached_property
    def codes(self) -> Codes:
        """The coarse codes, which an index of few rows has none of.

        Raises:
            SearchIndexError: the file is missing, damaged, or has other rows than there are vectors.
        """
        from dove_core.search.codes import Codes

        codes = Codes(self.folder / CODES)
        if len(codes) != len(self):
            raise SearchIndexError(f"{self.folder / CODES} has {len(codes)} rows, not {len(self)}", hint=_AGAIN)
        return codes


def build_index(folder: Path, *, fingerprint: str, counts: list[int], dim: int, checkpoint: Path, shards: Path) -> None:
    """Make an index from its parts; the manifest comes last.

    Raises:
        SearchIndexError: a part is missing, damaged, or has other rows than `counts` says.
        CheckpointError: the checkpoint cannot be read.
        SpaceError: the disk is full.
    """
    from dove_core.search.columns import write_rows
    from dove_core.search.parts import part_name, read_part, read_vectors  # Parquet is not needed to search

    (folder / MANIFEST).unlink(missing_ok=True)
    with atomic_file(folder / VECTORS) as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": (sum(counts), dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        for part, count in enumerate(counts):
            vectors = read_vectors(folder / part_name(part))
            if vectors.shape != (count, dim):
                message = f"{folder / part_name(part)} holds {vectors.shape} vectors, not {(count, dim)}"
                raise SearchIndexError(message, hint="remove it and run `dove embed` again")
            stream.write(np.ascontiguousarray(vectors).tobytes())
    write_rows(folder / ROWS, (read_part(folder / part_name(part), PART_COLUMNS) for part in range(len(counts))))
    (folder / CODES).unlink(missing_ok=True)
    if sum(counts) > FEW:
        from dove_core.search.codes import build_codes  # faiss is imported where it is used

        build_codes(folder / CODES, np.load(folder / VECTORS, mmap_mode="r"))
    if checkpoint.is_dir():
        with atomic_folder(folder / WORDS) as words:
            copy_text_side(checkpoint, words)
    relative = [os.path.relpath(path, folder) for path in (checkpoint, shards)]
    write_record(folder / MANIFEST, IndexManifest(fingerprint, dim, counts, *relative), FORMAT)
