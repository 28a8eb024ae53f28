"""A collection on a server of Milvus, or in a file of Milvus Lite: the calls that are made, and what they answer."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.errors import SearchIndexError, UsageError
from dove_core.files import make_folder
from dove_core.index.milvus.address import CollectionAddress
from dove_core.index.milvus.schema import CARD, Card, card_text, make_schema, read_card

MOST = 16_384
"""Most rows that Milvus answers a search with."""

TOKEN = "MILVUS_TOKEN"
"""Environment variable that holds a server's token, or USER:PASSWORD; on a command line others would see it."""

_CONNECT_S, _ANSWER_S = 5.0, 120.0
_AT_ONCE = 1000
_KINDS = {"flat": ("FLAT", {}), "hnsw": ("HNSW", {"M": 32, "efConstruction": 256})}


class Collection:
    """A collection, which may not be there yet."""

    def __init__(self, address: CollectionAddress, *, create: bool = False) -> None:
        """Connect to the server, or open the database; `create` makes one of Milvus Lite that is not there yet.

        Raises:
            SearchIndexError: the server cannot be reached, or the database cannot be opened.
            UsageError: pymilvus, or for a database milvus-lite, is not installed.
        """
        self.address = address
        missing = [name for name in ("pymilvus", "milvus_lite") if importlib.util.find_spec(name) is None]
        if "pymilvus" in missing or (missing and address.is_lite):
            package = missing[0].replace("_", "-")
            raise UsageError(f"{address} needs the package {package}", hint="pip install pymilvus milvus-lite")
        from pymilvus import MilvusClient

        for name in ("pymilvus", "pymilvus.milvus_client", "milvus_lite"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # our errors say it
        if address.is_lite:
            path = Path(address.server)
            if not create and not path.is_dir():
                raise SearchIndexError(f"{path} is no database of Milvus Lite", hint="`dove index push` makes one")
            make_folder(path.parent)
        with self._answering("cannot be reached", _connect_hint(address)):
            token = "" if address.is_lite else os.environ.get(TOKEN, "")
            self._client: Any = MilvusClient(address.server, token=token, timeout=_CONNECT_S)

    def close(self) -> None:
        """Leave the server. A database of Milvus Lite stays open in this process until it ends."""
        self._client.close()

    def is_there(self) -> bool:
        """Tell whether the server has the collection."""
        with self._answering():
            there: bool = self._client.has_collection(self.address.collection, timeout=_ANSWER_S)
            return there

    def card(self) -> Card:
        """Return what the collection remembers of its index.

        Raises:
            SearchIndexError: there is no such collection, or it was made by other means.
        """
        with self._answering():
            if not self.is_there():
                names = ", ".join(sorted(self._client.list_collections(timeout=_ANSWER_S))) or "none"
                message = f"{self.address.server} has no collection {self.address.collection}; it has {names}"
                raise SearchIndexError(message, hint="`dove index push` makes one")
            described = self._client.describe_collection(self.address.collection, timeout=_ANSWER_S)
        return read_card(described["properties"], str(self.address))

    def create(self, card: Card) -> None:
        """Make the collection, empty, with its index of vectors."""
        index = self._client.prepare_index_params()
        kind, params = _KINDS[card.vector_index]
        index.add_index("vector", index_type=kind, metric_type="IP", params=params)
        with self._answering():
            self._client.create_collection(
                self.address.collection, schema=make_schema(self._client, card.dim), index_params=index,
                properties={CARD: card_text(card)}, timeout=_ANSWER_S,
            )  # fmt: skip

    def load(self) -> None:
        """Have the server ready to answer from the collection."""
        with self._answering():
            self._client.load_collection(self.address.collection, timeout=_ANSWER_S)

    def drop(self) -> None:
        """Remove the collection."""
        with self._answering():
            self._client.drop_collection(self.address.collection, timeout=_ANSWER_S)

    def write(self, entities: list[dict[str, Any]], *, again: bool = False) -> None:
        """Add entities; `again` replaces those of the same numbers."""
        with self._answering():
            call = self._client.upsert if again else self._client.insert
            call(self.address.collection, entities, timeout=_ANSWER_S)

    def flush(self) -> None:
        """Have all that was written on the server's disk."""
        with self._answering():
            self._client.flush(self.address.collection, timeout=10 * _ANSWER_S)

    def count(self, expression: str = "") -> int:
        """Count the entities for which an expression holds, those written a moment ago too."""
        with self._answering():
            found = self._client.query(
                self.address.collection, filter=expression, output_fields=["count(*)"], consistency_level="Strong",
                timeout=_ANSWER_S,
            )  # fmt: skip
        return int(found[0]["count(*)"])

    def matching(self, expression: str, fields: list[str], limit: int = MOST) -> list[dict[str, Any]]:
        """Return some columns of entities for which an expression holds, in no order."""
        with self._answering():
            found = self._client.query(
                self.address.collection, filter=expression, output_fields=fields, limit=limit, timeout=_ANSWER_S
            )
        return [dict(entity) for entity in found]

    def read(self, numbers: Sequence[int], fields: list[str]) -> list[dict[str, Any]]:
        """Return some columns of entities by their numbers, in that order.

        Raises:
            SearchIndexError: one is not there.
        """
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(numbers), _AT_ONCE):
            block = [int(number) for number in numbers[start : start + _AT_ONCE]]
            with self._answering():
                got = self._client.get(
                    self.address.collection, ids=block, output_fields=["id", *fields], timeout=_ANSWER_S
                )
            found |= {entity["id"]: dict(entity) for entity in got}
        if missing := [int(number) for number in numbers if int(number) not in found]:
            message = f"{self.address} lacks row {missing[0]}, which it had a moment ago"
            raise SearchIndexError(message, hint="is somebody pushing it anew? Ask again when that is done")
        return [found[int(number)] for number in numbers]

    def nearest(
        self, vectors: np.ndarray, limit: int, expression: str, fields: list[str], params: dict[str, Any]
    ) -> list[list[dict[str, Any]]]:
        """Return for each vector `(Q, D)` up to `limit` hits: `id`, `distance` (the product), `entity` (columns)."""
        with self._answering():
            found = self._client.search(
                self.address.collection, data=list(vectors.astype(np.float32)), anns_field="vector", limit=limit,
                filter=expression, output_fields=fields, timeout=_ANSWER_S,
                search_params={"metric_type": "IP", "params": params},
            )  # fmt: skip
        return [[dict(hit) for hit in hits] for hits in found]

    @contextmanager
    def _answering(self, what: str = "does not answer as it should", hint: str = "") -> Iterator[None]:
        """Turn what pymilvus raises into errors that name the server."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            reason = getattr(error, "message", "") or str(error)
            message = f"{self.address.server} {what}: {reason.splitlines()[0]}"
            raise SearchIndexError(message, hint=hint or "see the server's log, and run the same again") from error


def _connect_hint(address: CollectionAddress) -> str:
    if address.is_lite:
        return "a database of Milvus Lite is open in one process at a time: end the other, or run a server"
    return f"does the server run, and is its port open to this machine? {TOKEN} holds its token, if it wants one"
