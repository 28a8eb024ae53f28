"""An index: what is made from the parts so that a query is answered at once.

`rows.arrow` holds what is known of every row, `vectors.npy` the vectors, `codes.faiss` their coarse codes where there
are many, `words/` the text side of the model. All are mapped from disk. The parts are the truth: everything here can be
made from them again, and is refused under another model.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dove_core.addresses import Address, follow_path, place_of
from dove_core.config import FilterConfig
from dove_core.encoding.load import load_text_side
from dove_core.encoding.text_side import TextSide
from dove_core.errors import SearchIndexError
from dove_core.files import read_record
from dove_core.index.images import read_image, read_images
from dove_core.index.nearest import FEW, nearest, nearest_many
from dove_core.index.regions import Regions, has_regions
from dove_core.index.rows import Row, RowTable
from dove_core.places import Place

if TYPE_CHECKING:
    from dove_core.index.codes import Codes

FORMAT = 2
MANIFEST, VECTORS, CODES, ROWS, WORDS = "index.json", "vectors.npy", "codes.faiss", "rows.arrow", "words"
MADE = (MANIFEST, VECTORS, CODES, ROWS)
"""Files made from the parts."""

_HINT = "an index is a folder such as index/NAME, made by `dove embed`"
_AGAIN = "run `dove embed` again to make it from the parts"


@dataclass(frozen=True)
class IndexManifest:
    """What an index is: whose vectors, of which shards. Paths are relative to the index's folder.

    What does not lie in the same bucket, or on the same machine, has its full path or address instead.
    """

    fingerprint: str
    dim: int
    counts: list[int]
    checkpoint: str
    shards: str


class SearchIndex:
    """An opened index; rows are numbered through all parts."""

    def __init__(self, address: Address, *, shards: Address | None = None) -> None:
        """Open an index; one in a bucket comes here first, unless it is here already.

        `shards` is where what was embedded lies, if it was moved.

        Raises:
            SearchIndexError: there is none, or its files do not fit together.
            UsageError, DownloadError: the bucket cannot be reached, or refuses.
        """
        self.place, self._shards = place_of(address), None if shards is None else place_of(shards)
        if not self.place.has(MANIFEST):
            raise SearchIndexError(f"{self.place.where(MANIFEST)} does not exist", hint=_HINT)
        self._copies = self.place.hold_matching(_needed)
        self.folder = folder = self._copies.folder
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
        """Return where it lies, as messages call it."""
        return str(self.place)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the model that made the index."""
        return self.manifest.fingerprint

    @property
    def checkpoint(self) -> Place:
        """Return the folder of the checkpoint that made the index."""
        return follow_path(self.place, self.manifest.checkpoint)

    @property
    def shards(self) -> Place:
        """Return the folder below which the rows' shards lie."""
        return self._shards or follow_path(self.place, self.manifest.shards)

    def part(self, name: str) -> AbstractContextManager[Path]:
        """Give the file of an embedding part on this machine.

        Raises:
            FileNotFoundError: the bucket has none of that name.
        """
        return self.place.here(name)

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
    def words(self) -> TextSide:
        """The text side of the model that made the index.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        return load_text_side(self.folder / WORDS)

    @cached_property
    def regions(self) -> Regions | None:
        """The images' regions, None if they were not kept."""
        counts = self.manifest.counts
        return Regions(self.folder, counts) if has_regions(self.folder, len(counts)) else None

    def kept(self, filters: FilterConfig) -> np.ndarray | None:
        """Return `(N,)` bool, the rows that pass every filter; None where there is no filter.

        Raises:
            UsageError: a filter cannot be understood.
        """
        if filters == FilterConfig():
            return None
        from dove_core.index.filters import kept_rows

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

    def image(self, row: Row) -> bytes:
        """Read a row's image straight from its tar, wherever that lies.

        Raises:
            SearchIndexError: the tar is not there any more, or shorter than before.
        """
        return read_image(self.shards, row.shard, row.offset, row.size)

    def images(self, rows: Sequence[Row]) -> list[bytes]:
        """Read the images of some rows; those in a bucket several at once. Errors as of `image`."""
        return read_images(self.shards, rows)

    @cached_property
    def codes(self) -> Codes:
        """The coarse codes, which an index of few rows has none of.

        Raises:
            SearchIndexError: the file is missing, damaged, or has other rows than there are vectors.
        """
        from dove_core.index.codes import Codes

        codes = Codes(self.folder / CODES)
        if len(codes) != len(self):
            raise SearchIndexError(f"{self.folder / CODES} has {len(codes)} rows, not {len(self)}", hint=_AGAIN)
        return codes


def _needed(name: str) -> bool:
    """Tell whether a query may need a file of an index: any but the parts."""
    return name in MADE or name.startswith((f"{WORDS}/", "regions-"))
