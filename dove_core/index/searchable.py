"""What a Searcher asks of an index, wherever it lies: in files of this machine, or in a collection on a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from dove_core.config import FilterConfig
from dove_core.encoding.text_side import TextSide
from dove_core.index.regions import Regions
from dove_core.index.rows import Row
from dove_core.places import Place


class Searchable(Protocol):
    """Rows with vectors, numbered from 0; each method raises a `SearchIndexError` where the rows cannot be read."""

    @property
    def name(self) -> str:
        """Where it lies: a folder or an address."""

    @property
    def fingerprint(self) -> str:
        """The model whose vectors these are."""

    @property
    def checkpoint(self) -> Place:
        """The folder of that model, as far as is known."""

    @property
    def words(self) -> TextSide:
        """The text side of that model."""

    @property
    def regions(self) -> Regions | None:
        """The images' regions, None if they were not kept."""

    def __len__(self) -> int:
        """Count the rows."""

    def kept(self, filters: FilterConfig) -> Any:
        """Return which rows pass the filters, in the form that `search` takes as `keep`; None for all."""

    def search(
        self, vector: np.ndarray, top: int, *, keep: Any = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the `top` rows nearest to a vector `(D,)` of length 1 and their cosines, best first."""

    def search_many(
        self, vectors: np.ndarray, top: int, *, keep: Any = None, exact: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each of several vectors `(Q, D)` what `search` does."""

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that is there."""

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return what is known of some rows."""

    def vectors_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the vectors `(K, D)` of some rows."""

    def image(self, row: Row) -> bytes:
        """Read a row's image from where it lies."""

    def images(self, rows: Sequence[Row]) -> list[bytes]:
        """Read the images of some rows."""
