"""Calls to a collection on a Milvus server or in a Milvus Lite database."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.errors import SearchIndexError, UsageError
from dove_core.files import make_folder
from dove_core.index.milvus.address import CollectionAddress
from dove_core.index.milvus.schema import CARD, Card, card_text, make_schema, read_card

MOST = 16_384
"""Largest number of rows in an answer of Milvus."""

TOKEN = "MILVUS_TOKEN"
"""Environment variable with the token of a server, or USER:PASSWORD; a command line would be visible to other users."""

_CONNECT_S, _ANSWER_S = 5.0, 120.0
_AT_ONCE = 1000
_KINDS = {"flat": ("FLAT", {}), "hnsw": ("HNSW", {"M": 32, "efConstruction": 256})}


class Collection:
    """A collection, which may not exist yet; its name in the address may be an alias, `name` is its own."""

    def __init__(self, address: CollectionAddress, *, create: bool = False) -> None:
        """Connect to the server, or open the database; with `create`, a missing database is made.

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
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # the errors raised here have the message
        if address.is_lite:
            path = Path(address.server)
            if not create and not path.is_dir():
                raise SearchIndexError(f"{path} is not a Milvus Lite database", hint="make one with `dove index push`")
            make_folder(path.parent)
        with self._translate_errors("cannot be reached", _connect_hint(address)):
            token = "" if address.is_lite else os.environ.get(TOKEN, "")
            self._client: Any = MilvusClient(address.server, token=token, timeout=_CONNECT_S)
        self.name = self._target() or address.collection

    def close(self) -> None:
        """Close the connection; a Milvus Lite database stays open until the process ends."""
        self._client.close()

    def exists(self) -> bool:
        """Tell whether the server has the collection."""
        with self._translate_errors():
            return bool(self._client.has_collection(self.name, timeout=_ANSWER_S))

    def card(self) -> Card:
        """Return the card of the collection, which describes its index.

        Raises:
            SearchIndexError: the collection does not exist, or was not made by `dove index push`.
        """
        with self._translate_errors():
            if not self.exists():
                names = ", ".join(sorted(self._client.list_collections(timeout=_ANSWER_S))) or "none"
                message = f"{self.address.server} has no collection {self.address.collection}; it has: {names}"
                raise SearchIndexError(message, hint="choose one of them, or make one with `dove index push`")
            described = self._client.describe_collection(self.name, timeout=_ANSWER_S)
        return read_card(described["properties"], str(self.address))

    def create(self, card: Card) -> None:
        """Make the empty collection with its vector index."""
        index = self._client.prepare_index_params()
        kind, params = _KINDS[card.vector_index]
        index.add_index("vector", index_type=kind, metric_type="IP", params=params)
        with self._translate_errors():
            self._client.create_collection(
                self.name, schema=make_schema(self._client, card.dim), index_params=index,
                properties={CARD: card_text(card)}, timeout=_ANSWER_S,
            )  # fmt: skip

    def beside(self, name: str) -> Collection:
        """Return the collection of another name on the same server."""
        other = copy(self)
        other.name = name
        return other

    def point_to(self, name: str) -> None:
        """Let the name in the address stand for another collection from now on.

        If it is the name of a collection itself, made by an earlier version, that is dropped.
        """
        alias = self.address.collection
        with self._translate_errors():
            if self._target():
                self._client.alter_alias(collection_name=name, alias=alias, timeout=_ANSWER_S)
                return
            if self._client.has_collection(alias, timeout=_ANSWER_S):
                self._client.drop_collection(alias, timeout=_ANSWER_S)
            self._client.create_alias(collection_name=name, alias=alias, timeout=_ANSWER_S)

    def names(self) -> list[str]:
        """Return the names of all collections of the server."""
        with self._translate_errors():
            return [str(name) for name in self._client.list_collections(timeout=_ANSWER_S)]

    def _target(self) -> str:
        """Return the name of the collection that the alias in the address stands for; empty if it is no alias."""
        from pymilvus.exceptions import MilvusException

        try:
            found = self._client.describe_alias(alias=self.address.collection, timeout=_ANSWER_S)
        except MilvusException:
            return ""
        return str(found.get("collection_name", ""))

    def load(self) -> None:
        """Load the collection into the server's memory for searches."""
        with self._translate_errors():
            self._client.load_collection(self.name, timeout=_ANSWER_S)

    def drop(self) -> None:
        """Remove the collection, and the alias if that stands for it."""
        with self._translate_errors():
            if self._target() == self.name:
                self._client.drop_alias(alias=self.address.collection, timeout=_ANSWER_S)
            self._client.drop_collection(self.name, timeout=_ANSWER_S)

    def write(self, entities: list[dict[str, Any]], *, again: bool = False) -> None:
        """Add entities; `again` replaces entities with the same numbers."""
        with self._translate_errors():
            call = self._client.upsert if again else self._client.insert
            call(self.name, entities, timeout=_ANSWER_S)

    def flush(self) -> None:
        """Write all new entities to the server's disk."""
        with self._translate_errors():
            self._client.flush(self.name, timeout=10 * _ANSWER_S)

    def count(self, expression: str = "") -> int:
        """Count the entities that match an expression, the latest included."""
        with self._translate_errors():
            found = self._client.query(
                self.name, filter=expression, output_fields=["count(*)"], consistency_level="Strong",
                timeout=_ANSWER_S,
            )  # fmt: skip
        return int(found[0]["count(*)"])

    def matching(self, expression: str, fields: list[str], limit: int = MOST) -> list[dict[str, Any]]:
        """Return some columns of the entities that match an expression, unsorted."""
        with self._translate_errors():
            found = self._client.query(
                self.name, filter=expression, output_fields=fields, limit=limit, timeout=_ANSWER_S
            )
        return [dict(entity) for entity in found]

    def read(self, numbers: Sequence[int], fields: list[str]) -> list[dict[str, Any]]:
        """Return some columns of entities with these numbers, in this order.

        Raises:
            SearchIndexError: an entity is missing.
        """
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(numbers), _AT_ONCE):
            block = [int(number) for number in numbers[start : start + _AT_ONCE]]
            with self._translate_errors():
                got = self._client.get(self.name, ids=block, output_fields=["id", *fields], timeout=_ANSWER_S)
            found |= {entity["id"]: dict(entity) for entity in got}
        if missing := [int(number) for number in numbers if int(number) not in found]:
            message = f"{self.address} has no row {missing[0]} any more"
            raise SearchIndexError(message, hint="if `dove index push` is running, try again when it has finished")
        return [found[int(number)] for number in numbers]

    def nearest(
        self, vectors: np.ndarray, limit: int, expression: str, fields: list[str], params: dict[str, Any]
    ) -> list[list[dict[str, Any]]]:
        """Return up to `limit` hits for each vector `(Q, D)`: `id`, `distance` (inner product), `entity` (columns)."""
        with self._translate_errors():
            found = self._client.search(
                self.name, data=list(vectors.astype(np.float32)), anns_field="vector", limit=limit,
                filter=expression, output_fields=fields, timeout=_ANSWER_S,
                search_params={"metric_type": "IP", "params": params},
            )  # fmt: skip
        return [[dict(hit) for hit in hits] for hits in found]

    @contextmanager
    def _translate_errors(self, what: str = "returned an error", hint: str = "") -> Iterator[None]:
        """Turn errors of pymilvus into errors that name the server."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            reason = getattr(error, "message", "") or str(error)
            message = f"{self.address.server} {what}: {reason.splitlines()[0]}"
            raise SearchIndexError(message, hint=hint or "check the server's log, and run the command again") from error


def _connect_hint(address: CollectionAddress) -> str:
    if address.is_lite:
        return "only one process at a time can open a Milvus Lite database: end the other one, or use a server"
    return f"check that the server runs and its port is open; set {TOKEN} if it needs a token"
