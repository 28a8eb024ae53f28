"""The protocol of an index that a Searcher uses: files on disk, or a collection on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from dove_core.config import FilterConfig
from dove_core.encoding.text_side import TextSide
from dove_core.index.regions import StoredRegions
from dove_core.index.rows import Row
from dove_core.places import Place


class Searchable(Protocol):
    """Rows with vectors, numbered from 0; all methods raise `SearchIndexError` if the rows cannot be read."""

    @property
    def name(self) -> str:
        """The path or address of the index."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model that made the vectors."""

    @property
    def checkpoint(self) -> Place:
        """The folder of the model when the index was made."""

    @property
    def words(self) -> TextSide:
        """The text side of the model."""

    @property
    def regions(self) -> StoredRegions | None:
        """Regions of the images; None if they were not stored."""

    def __len__(self) -> int:
        """Count the rows."""

    def kept(self, filters: FilterConfig) -> Any:
        """Return the rows that pass the filters, for `keep` of `search`; None for all."""

    def search(
        self, vector: np.ndarray, top: int, *, keep: Any = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the `top` rows nearest to a vector `(D,)` of length 1 and their cosines, best first."""

    def search_many(
        self, vectors: np.ndarray, top: int, *, keep: Any = None, exact: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the result of `search` for each of several vectors `(Q, D)`."""

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that exists."""

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return the metadata of some rows."""

    def vectors_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the vectors `(K, D)` of some rows."""

    def image(self, row: Row) -> bytes:
        """Read the image of a row from the file that was embedded."""

    def images(self, rows: Sequence[Row]) -> list[bytes]:
        """Read the images of some rows."""
