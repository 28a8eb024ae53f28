"""An index on disk: files made from the embedding parts, so that a query is fast.

`rows.arrow` has the metadata of every row, `vectors.npy` the vectors, `codes.faiss` their coarse codes if there are
many, and `words/` the text side of the model. Files are mapped, not read. All of them can be made again from the parts
by the same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dove_core.addresses import Address, follow_path, place_of
from dove_core.config import FilterConfig
from dove_core.encoding.load import load_text_side
from dove_core.encoding.text_side import TextSide
from dove_core.errors import SearchIndexError, reason_of
from dove_core.files import read_record
from dove_core.index.images import read_image, read_images
from dove_core.index.nearest import FEW, nearest, nearest_many
from dove_core.index.regions import StoredRegions, has_regions
from dove_core.index.rows import Row, RowTable
from dove_core.places import Place

if TYPE_CHECKING:
    from dove_core.index.codes import Codes

FORMAT = 2
MANIFEST, VECTORS, CODES, ROWS, WORDS = "index.json", "vectors.npy", "codes.faiss", "rows.arrow", "words"
MADE = (MANIFEST, VECTORS, CODES, ROWS)
"""Files that are made from the parts."""

_HINT = "an index is a folder such as index/NAME, made by `dove embed`"
_AGAIN = "run `dove embed` again to rebuild it from the parts"


@dataclass(frozen=True)
class IndexManifest:
    """The content of `index.json`: the model, the number of rows of each part, and the paths of model and shards.

    Paths are relative to the index; those in another bucket or on another machine are absolute.
    """

    fingerprint: str
    dim: int
    counts: list[int]
    checkpoint: str
    shards: str


class SearchIndex:
    """An opened index; rows are numbered over all parts."""

    def __init__(self, address: Address, *, checkpoint: Address | None = None, shards: Address | None = None) -> None:
        """Open an index; one in a bucket is downloaded to the cache.

        Args:
            address: of the index.
            checkpoint: folder of the model, if it was moved.
            shards: folder of the embedded images, if they were moved.

        Raises:
            SearchIndexError: the index is missing, damaged, or its files do not match each other.
            UsageError, DownloadError: the bucket cannot be read.
        """
        self.place = place_of(address)
        self._checkpoint = None if checkpoint is None else place_of(checkpoint)
        self._shards = None if shards is None else place_of(shards)
        try:
            is_there = self.place.has(MANIFEST)
        except PermissionError as error:
            hint = "ask its owner for the right to read it"
            raise SearchIndexError(f"{self.place} cannot be read: {error.strerror}", hint=hint) from error
        if not is_there:
            raise SearchIndexError(f"{self.place.where(MANIFEST)} does not exist", hint=_HINT)
        self._files = self.place.local_files_matching(_needed)
        self.folder = folder = self._files.folder
        self.manifest = read_record(folder / MANIFEST, IndexManifest, FORMAT, SearchIndexError, hint=_HINT)
        try:
            self.vectors: np.ndarray = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SearchIndexError(f"{folder / VECTORS} cannot be read: {reason_of(error)}", hint=_AGAIN) from error
        if self.vectors.shape != (sum(self.manifest.counts), self.manifest.dim):
            message = f"{folder / VECTORS} has shape {self.vectors.shape}, which differs from {MANIFEST}"
            raise SearchIndexError(message, hint=_AGAIN)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.vectors)

    @property
    def name(self) -> str:
        """Return the path or address, for messages."""
        return str(self.place)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the model that made the index."""
        return self.manifest.fingerprint

    @property
    def checkpoint(self) -> Place:
        """Return the folder of the checkpoint that made the index."""
        return self._checkpoint or self._beside(self.manifest.checkpoint)

    @property
    def shards(self) -> Place:
        """Return the folder of the embedded images, which file names in rows are relative to."""
        return self._shards or self._beside(self.manifest.shards)

    def _beside(self, path: str) -> Place:
        """Return the place at a path from the index, which may be a link that was made later."""
        found, other = follow_path(self.place, path), follow_path(self.place.resolved, path)
        return other if other.exists() and not found.exists() else found

    @cached_property
    def table(self) -> RowTable:
        """The metadata of the rows.

        Raises:
            SearchIndexError: the file is missing, damaged, or its number of rows is wrong.
        """
        table = RowTable(self.folder / ROWS)
        if len(table) != len(self):
            raise SearchIndexError(f"{self.folder / ROWS} has {len(table)} rows, expected {len(self)}", hint=_AGAIN)
        return table

    @cached_property
    def words(self) -> TextSide:
        """The text side of the model that made the index.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        return load_text_side(self.folder / WORDS)

    @cached_property
    def regions(self) -> StoredRegions | None:
        """Regions of the images; None if they were not stored."""
        counts = self.manifest.counts
        return StoredRegions(self.folder, counts) if has_regions(self.folder, len(counts)) else None

    def open_files(self) -> None:
        """Open every file that a question may need, so that questions do not see a later rebuild of the index."""
        self.table, self.words  # noqa: B018
        if self.regions is not None:
            self.regions.open_files()
        if len(self) > FEW:
            self.codes  # noqa: B018

    def kept(self, filters: FilterConfig) -> np.ndarray | None:
        """Return `(N,)` bool, the rows that pass every filter; None without filters.

        Raises:
            UsageError: a filter is invalid.
        """
        if filters == FilterConfig():
            return None
        from dove_core.index.filters import kept_rows

        return kept_rows(self.table, filters)

    def search(
        self, vector: np.ndarray, top: int, *, keep: np.ndarray | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the `top` rows nearest to a vector `(D,)` and their cosines, best first; equal ones by row.

        Vectors are stored as float16 and compared in float32. Large indexes are searched by codes first, which misses a
        few rows in a thousand; `exact` compares with every vector.

        Args:
            vector: of length 1.
            top: number of rows.
            keep: `(N,)` bool, the rows that may be returned; None for all.
            exact: do not use the codes.
        """
        by_codes = None if exact else lambda: self.codes
        return nearest(self.vectors, np.asarray(vector, np.float32), top, by_codes, keep)

    def search_many(
        self, vectors: np.ndarray, top: int, *, keep: np.ndarray | None = None, exact: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the result of `search` for each of several vectors `(Q, D)`; faster than one by one."""
        by_codes = None if exact else lambda: self.codes
        return nearest_many(self.vectors, np.asarray(vectors, np.float32), top, by_codes, keep)

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return the metadata of some rows.

        Raises:
            SearchIndexError: `rows.arrow` is missing or damaged.
        """
        return self.table.rows(numbers)

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that exists."""
        return self.table.find(keys)

    def vectors_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the vectors `(K, D)` float16 of some rows."""
        vectors: np.ndarray = self.vectors[np.asarray(numbers, np.int64)]
        return vectors

    def image(self, row: Row) -> bytes:
        """Read the image of a row from the file that was embedded.

        Raises:
            SearchIndexError: the file is missing, or shorter than when it was embedded.
        """
        return read_image(self.shards, row)

    def images(self, rows: Sequence[Row]) -> list[bytes]:
        """Read the images of some rows, several at once from a bucket; errors as `image`."""
        return read_images(self.shards, rows)

    @cached_property
    def codes(self) -> Codes:
        """The coarse codes; an index with few rows has none.

        Raises:
            SearchIndexError: the file is missing, damaged, or its number of rows is wrong.
        """
        from dove_core.index.codes import Codes

        codes = Codes(self.folder / CODES)
        if len(codes) != len(self):
            raise SearchIndexError(f"{self.folder / CODES} has {len(codes)} rows, expected {len(self)}", hint=_AGAIN)
        return codes


def _needed(name: str) -> bool:
    """Tell whether a query may need a file of an index; it does not need the parts."""
    return name in MADE or name.startswith((f"{WORDS}/", "regions-"))
