"""Search in a Milvus collection, with the methods of an index on disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dove_core.addresses import Address, place_of
from dove_core.config import FilterConfig
from dove_core.encoding.checkpoint import checkpoint_here, settled_place
from dove_core.encoding.text_side import TextSide
from dove_core.errors import SearchIndexError, UsageError
from dove_core.index.filters import no_such_source
from dove_core.index.images import read_images
from dove_core.index.milvus.address import parse_address
from dove_core.index.milvus.collection import MOST, Collection
from dove_core.index.milvus.expression import FilterExpression, expression_of, quoted, source_expression
from dove_core.index.milvus.schema import SHOWN, Card, row_of
from dove_core.index.nearest import TIES, best
from dove_core.index.rows import BOX, Row

_AT_ONCE = 1 << 18
"""Largest number of rows of all answers of one call."""

_ALL_ROWS = FilterExpression("")


class RemoteIndex:
    """An opened collection; a `Searchable`."""

    def __init__(self, collection: Collection, card: Card, checkpoint: Address | None, shards: Address | None) -> None:
        self._collection, self.card = collection, card
        self.checkpoint = place_of(checkpoint or card.checkpoint)
        self._shards = place_of(shards or card.shards)
        self.regions = None  # only in the index on disk

    @classmethod
    def open(cls, address: str, *, checkpoint: Address | None = None, shards: Address | None = None) -> RemoteIndex:
        """Open a collection that `dove index push` made.

        Args:
            address: of the collection.
            checkpoint: folder of the model, if it was moved.
            shards: folder of the embedded images, if they were moved.

        Raises:
            SearchIndexError: the server cannot be reached, or the collection is missing, incomplete, or not made by
                dove.
            UsageError: the address is invalid, or pymilvus is not installed.
        """
        collection = Collection(parse_address(address))
        card = collection.card()
        collection.load()
        if (count := collection.count()) != card.rows:
            message = f"{collection.address} has {count} of {card.rows} rows"
            raise SearchIndexError(message, hint="run `dove index push` again to complete it")
        return cls(collection, card, checkpoint, shards)

    def close(self) -> None:
        """Close the connection."""
        self._collection.close()

    def __len__(self) -> int:
        """Count the rows."""
        return self.card.rows

    @property
    def name(self) -> str:
        """Return the address."""
        return str(self._collection.address)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the model that made the vectors."""
        return self.card.fingerprint

    @cached_property
    def words(self) -> TextSide:
        """The text side of the model.

        Raises:
            CheckpointError: a file is missing or damaged.
            UsageError: the model was moved, and no other folder was given.
            SearchIndexError: the text side is of another model.
        """
        if not settled_place(self.checkpoint).exists():
            message = f"{self.name}: its model does not exist at {self.checkpoint}"
            raise UsageError(message, hint="give the model, or the folder words/ of the index, with --checkpoint")
        with checkpoint_here(self.checkpoint) as (folder, family):
            words = family.load_text_side(folder)
        if words.digest() != self.card.words:
            message = f"{self.name} was made by the model {self.card.fingerprint}; {self.checkpoint} is another model"
            raise SearchIndexError(message, hint="give the model that made it with --checkpoint")
        return words

    def kept(self, filters: FilterConfig) -> FilterExpression | None:
        """Return the expression of filters; None for all rows.

        Raises:
            UsageError: a filter is invalid, or no image has one of its sources.
        """
        if filters == FilterConfig():
            return None
        expression = expression_of(filters)
        if filters.source and not self._collection.matching(source_expression(filters.source), ["id"], 1):
            existing = self._collection.matching("id >= 0", ["source"], 1000)
            raise no_such_source(filters.source, {entity["source"] for entity in existing})
        return expression

    def search(
        self, vector: np.ndarray, top: int, *, keep: FilterExpression | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the result of `search_many` for one vector `(D,)`."""
        return self.search_many(vector[None], top, keep=keep, exact=exact)[0]

    def search_many(
        self, vectors: np.ndarray, top: int, *, keep: FilterExpression | None = None, exact: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the `top` rows nearest to each vector `(Q, D)` and their cosines, best first.

        Raises:
            SearchIndexError: the server does not answer.
            UsageError: `top` is too large for Milvus, or `exact` is set and the vector index is approximate.
        """
        if top > MOST:
            raise UsageError(
                f"Milvus returns at most {MOST:,} rows, not {top:,}", hint="use a smaller --top or --rerank"
            )
        if exact and self.card.vector_index != "flat":
            message = f"--exact: {self.name} has the approximate vector index {self.card.vector_index}"
            raise UsageError(message, hint="remove --exact, or push to another NAME with --vector-index flat")
        limit = min(top + TIES, MOST)
        step = max(1, _AT_ONCE // limit)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for start in range(0, len(vectors), step):
            found += self._nearest(vectors[start : start + step], top, limit, keep or _ALL_ROWS)
        return found

    def _nearest(
        self, vectors: np.ndarray, top: int, limit: int, keep: FilterExpression
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Request more hits until every answer has enough rows within the circle, or there are no more."""
        fields = list(BOX) if keep.circle else []
        params = {} if self.card.vector_index == "flat" else {"ef": min(max(128, 4 * limit), 2 * MOST)}
        while True:
            answers = self._collection.nearest(vectors, limit, keep.expression, fields, params)
            found = []
            for hits in answers:
                numbers = np.array([hit["id"] for hit in hits], np.int64)
                scores = np.array([hit["distance"] for hit in hits], np.float32)
                if keep.circle:
                    corners = np.array([[hit["entity"][name] for name in BOX] for hit in hits], np.float64)
                    inside = keep.circle.holds(*corners.reshape(-1, 4).T)
                    numbers, scores = numbers[inside], scores[inside]
                if len(numbers) < top and len(hits) == limit:
                    break  # too many hits are in the box but outside the circle
                found.append(best(numbers, scores, min(top, len(numbers))))
            else:
                return found
            if limit == MOST:
                message = f"fewer than {top} of the {MOST:,} best rows around --near are --within the distance"
                raise UsageError(message, hint="use a smaller --top, or --bbox instead of --near")
            limit = min(4 * limit, MOST)

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that exists."""
        found: dict[str, int] = {}
        for entity in self._collection.matching(f"key in [{', '.join(map(quoted, keys))}]", ["id", "key"]):
            found[entity["key"]] = min(entity["id"], found.get(entity["key"], entity["id"]))
        return found

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return the metadata of some rows."""
        return [row_of(entity) for entity in self._collection.read(numbers, SHOWN)]

    def vectors_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the vectors `(K, D)` float32 of some rows."""
        vectors = [entity["vector"] for entity in self._collection.read(numbers, ["vector"])]
        return np.array(vectors, np.float32).reshape(-1, self.card.dim)

    def image(self, row: Row) -> bytes:
        """Read the image of a row from the file that was embedded.

        Raises:
            SearchIndexError: the file is missing.
        """
        return self.images([row])[0]

    def images(self, rows: Sequence[Row]) -> list[bytes]:
        """Read the images of some rows; errors as `image`."""
        if not self._shards.is_remote and not self._shards.exists():
            message = f"{self.name} has no images, and {self._shards} does not exist on this machine"
            raise SearchIndexError(message, hint="give the folder with the embedded images with --shards")
        return read_images(self._shards, rows)
