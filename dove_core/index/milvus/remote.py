"""A collection in Milvus that answers questions in the place of an index on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dove_core.addresses import Address, place_of
from dove_core.config import FilterConfig
from dove_core.encoding.checkpoint import checkpoint_here, settled_place
from dove_core.encoding.load import load_text_side
from dove_core.encoding.text_side import TextSide
from dove_core.errors import SearchIndexError, UsageError
from dove_core.index.filters import no_such_source
from dove_core.index.images import read_images
from dove_core.index.milvus.address import parse_address
from dove_core.index.milvus.collection import MOST, Collection
from dove_core.index.milvus.expression import Selection, quoted, selection_of, source_expression
from dove_core.index.milvus.schema import BOX, SHOWN, Card, row_of
from dove_core.index.nearest import TIES, best
from dove_core.index.rows import Row

_AT_ONCE = 1 << 18
"""Rows of all answers that are asked for in one call."""

_EVERYTHING = Selection("")


class RemoteIndex:
    """An opened collection; a `Searchable`."""

    def __init__(self, collection: Collection, card: Card, checkpoint: Address | None, shards: Address | None) -> None:
        self._collection, self.card = collection, card
        self.checkpoint = place_of(checkpoint or card.checkpoint)
        self._shards = place_of(shards or card.shards)
        self.regions = None  # they stay with the local index

    @classmethod
    def open(cls, address: str, *, checkpoint: Address | None = None, shards: Address | None = None) -> RemoteIndex:
        """Open a collection that `dove index push` made; as `Searcher.open`.

        Raises:
            SearchIndexError: the server cannot be reached, or the collection is missing, foreign or incomplete.
            UsageError: the address cannot be read, or pymilvus is not installed.
        """
        collection = Collection(parse_address(address))
        card = collection.card()
        collection.load()
        if (count := collection.count()) != card.rows:
            message = f"{collection.address} has {count} of {card.rows} rows"
            raise SearchIndexError(message, hint="the push was broken off: run `dove index push` again, and it goes on")
        return cls(collection, card, checkpoint, shards)

    def close(self) -> None:
        """Leave the server."""
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
        """Return the fingerprint of the model whose vectors these are."""
        return self.card.fingerprint

    @cached_property
    def words(self) -> TextSide:
        """The text side of the model.

        Raises:
            CheckpointError: a file is missing or damaged.
            UsageError: the model is not where it was when the collection was pushed, and none was given.
            SearchIndexError: it is another model's.
        """
        if not settled_place(self.checkpoint).exists():
            message = f"{self.name}: the model that made it is not at {self.checkpoint}"
            raise UsageError(message, hint="give it with --checkpoint, or the folder words/ of the index pushed")
        with checkpoint_here(self.checkpoint) as folder:
            words = load_text_side(folder)
        if words.digest() != self.card.words:
            message = f"{self.name} was made by the model {self.card.fingerprint}; {self.checkpoint} is another"
            raise SearchIndexError(message, hint="give the model that made it with --checkpoint")
        return words

    def kept(self, filters: FilterConfig) -> Selection | None:
        """Return what filters select, None for all.

        Raises:
            UsageError: a filter cannot be understood, or names sources of which there is no image.
        """
        if filters == FilterConfig():
            return None
        selection = selection_of(filters)
        if filters.source and not self._collection.matching(source_expression(filters.source), ["id"], 1):
            there = self._collection.matching("id >= 0", ["source"], 1000)
            raise no_such_source(filters.source, {entity["source"] for entity in there})
        return selection

    def search(
        self, vector: np.ndarray, top: int, *, keep: Selection | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers and cosines of the `top` rows nearest to a vector `(D,)`; as `search_many`."""
        return self.search_many(vector[None], top, keep=keep, exact=exact)[0]

    def search_many(
        self, vectors: np.ndarray, top: int, *, keep: Selection | None = None, exact: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each vector `(Q, D)` the `top` rows nearest to it and their cosines, best first.

        Raises:
            SearchIndexError: the server does not answer.
            UsageError: more rows are wanted than Milvus gives, or exactness that the collection's index has not.
        """
        if top > MOST:
            raise UsageError(f"Milvus gives {MOST:,} rows at most, not {top:,}", hint="lower --top or --rerank")
        if exact and self.card.vector_index != "flat":
            message = f"{self.name} is searched by {self.card.vector_index}, which --exact cannot switch off"
            raise UsageError(message, hint="push with --vector-index flat to another NAME, or ask without --exact")
        limit = min(top + TIES, MOST)
        step = max(1, _AT_ONCE // limit)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for start in range(0, len(vectors), step):
            found += self._nearest(vectors[start : start + step], top, limit, keep or _EVERYTHING)
        return found

    def _nearest(
        self, vectors: np.ndarray, top: int, limit: int, keep: Selection
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ask for more until every answer has enough rows in the circle, or there are no more."""
        fields = BOX if keep.circle else []
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
                    break  # rows in the box around the circle were not in the circle
                found.append(best(numbers, scores, min(top, len(numbers))))
            else:
                return found
            if limit == MOST:
                message = f"of the {MOST:,} best rows in the box around --near, fewer than {top} lie --within"
                raise UsageError(message, hint="ask for fewer, or with --bbox")
            limit = min(4 * limit, MOST)

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that is there."""
        found: dict[str, int] = {}
        for entity in self._collection.matching(f"key in [{', '.join(map(quoted, keys))}]", ["id", "key"]):
            found[entity["key"]] = min(entity["id"], found.get(entity["key"], entity["id"]))
        return found

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return what is known of some rows."""
        return [row_of(entity) for entity in self._collection.read(numbers, SHOWN)]

    def vectors_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the vectors `(K, D)` float32 of some rows."""
        found = [entity["vector"] for entity in self._collection.read(numbers, ["vector"])]
        return np.array(found, np.float32).reshape(-1, self.card.dim)

    def image(self, row: Row) -> bytes:
        """Read a row's image from where it lay when the collection was pushed.

        Raises:
            SearchIndexError: it is not there, on this machine.
        """
        return self.images([row])[0]

    def images(self, rows: Sequence[Row]) -> list[bytes]:
        """Read the images of some rows; as `image`."""
        if not self._shards.is_remote and not self._shards.exists():
            message = f"{self.name} holds no images, and they are not at {self._shards} on this machine"
            raise SearchIndexError(message, hint="give the folder that was embedded with --shards")
        return read_images(self._shards, rows)
