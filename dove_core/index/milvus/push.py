"""An index into a collection of Milvus: part after part, and on from where a push was broken off."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dove_core.addresses import Address
from dove_core.config import PushConfig
from dove_core.errors import SearchIndexError
from dove_core.events import Advanced, Noted, Report, Started, silent
from dove_core.index.disk import SearchIndex
from dove_core.index.milvus.address import CollectionAddress, collection_name, parse_address
from dove_core.index.milvus.collection import Collection
from dove_core.index.milvus.schema import Card, entities_of
from dove_core.index.parts import part_name, read_facts, read_part, read_vectors
from dove_core.index.rows import PART_COLUMNS

_ROWS_AT_ONCE = 500
_TASK = "pushing"


@dataclass(frozen=True)
class Pushed:
    """A whole collection: where, how many rows it has, and how many of them were written now."""

    address: CollectionAddress
    rows: int
    written: int


def push_index(
    index_address: Address,
    to: str,
    pushing: PushConfig = PushConfig(),  # noqa: B008  # frozen
    *,
    overwrite: bool = False,
    report: Report = silent,
) -> Pushed:
    """Put an index's rows into a collection. Rows that are there already stay, so a second run does what is left.

    Args:
        index_address: of the index.
        to: `http://HOST:19530`, `FILE.db` of Milvus Lite, or either with `/NAME`; else the index's name is taken.
        pushing: how the collection is to be searched.
        overwrite: replace a collection of another model, of other rows, or searched otherwise.
        report: receives progress.

    Raises:
        SearchIndexError: the index or a part is damaged; the server does not answer; the collection is of another
            model or state of the index, and is not to be replaced, or was not made by us, and never is.
        DataError: a text is longer than Milvus holds.
        UsageError: the address cannot be read, or pymilvus is not installed.

    >>> dove.push_index("index/shapes", "milvus.db").rows
    72
    >>> dove.open_index("milvus.db/shapes").search("a red circle")
    <10 hits for 'a red circle'>
    """
    index = SearchIndex(index_address)
    address = parse_address(to, collection=collection_name(index.place.name))
    card = Card(
        index.fingerprint, index.words.digest(), content_of(index), index.manifest.dim, len(index),
        pushing.vector_index, str(index.checkpoint.absolute), str(index.shards.absolute),
    )  # fmt: skip
    collection = Collection(address, create=True)
    try:
        if collection.is_there() and (overwrite or not _fits(collection, card)):
            _make_way(collection, card, overwrite=overwrite, report=report)
        if not collection.is_there():
            collection.create(card)
        collection.load()
        written = _fill(collection, index, report)
        collection.flush()
        if (count := collection.count()) != len(index):
            message = f"{address} has {count} rows, not {len(index)}"
            raise SearchIndexError(message, hint="is somebody else writing there? Push again with --overwrite")
    finally:
        collection.close()
    return Pushed(address, len(index), written)


def content_of(index: SearchIndex) -> str:
    """Return 16 hexadecimal digits that change when an index's parts are made from something else.

    Raises:
        SearchIndexError: a part is missing or damaged.
    """
    digest = hashlib.sha256()
    for part, count in enumerate(index.manifest.counts):
        facts = read_facts(index.place, part_name(part))
        if facts is None or facts.mark is None or facts.rows != count:
            message = f"{index.place.where(part_name(part))} is missing, or not the index's"
            raise SearchIndexError(message, hint="run `dove embed` again to mend it")
        digest.update(f"{facts.mark.input}\0{facts.mark.digest}\0{count}\0".encode())
    return digest.hexdigest()[:16]


def _fits(collection: Collection, card: Card) -> bool:
    """Tell whether a collection is, or is becoming, what the card says; where things lie may differ."""
    there = collection.card()
    return all(
        getattr(there, name) == getattr(card, name)
        for name in ("fingerprint", "words", "content", "dim", "rows", "vector_index")
    )


def _make_way(collection: Collection, card: Card, *, overwrite: bool, report: Report) -> None:
    there = collection.card()  # an error if it is not ours
    if not overwrite:
        if there.fingerprint != card.fingerprint:
            reason = f"is of the model {there.fingerprint}, the index of {card.fingerprint}"
        elif there.vector_index != card.vector_index:
            reason = f"is searched by {there.vector_index}, not by {card.vector_index}"
        else:
            reason = "holds another state of the index"
        hint = "--overwrite replaces it; or push to another name: --to .../NAME"
        raise SearchIndexError(f"{collection.address} {reason}", hint=hint)
    report(Noted(f"replacing {collection.address}, {there.rows} rows"))
    collection.drop()


def _fill(collection: Collection, index: SearchIndex, report: Report) -> int:
    """Write the rows that are not there yet; return how many."""
    starts = np.cumsum([0, *index.manifest.counts]).tolist()
    there = [collection.count(f"id >= {a} and id < {b}") for a, b in pairwise(starts)]
    whole = [has == count for has, count in zip(there, index.manifest.counts, strict=True)]
    report(Started(_TASK, len(index), "rows", sum(has for has, done in zip(there, whole, strict=True) if done)))
    written = 0
    for part in np.flatnonzero(~np.array(whole)).tolist():
        start, count = starts[part], index.manifest.counts[part]
        with index.part(part_name(part)) as path:
            rows, vectors = read_part(path, PART_COLUMNS), read_vectors(path)
        for first in range(0, count, _ROWS_AT_ONCE):
            block = slice(first, first + _ROWS_AT_ONCE)
            entities = entities_of(rows.slice(first, _ROWS_AT_ONCE), vectors[block], start + first)
            collection.write(entities, again=there[part] > 0)
            written += len(entities)
            report(Advanced(_TASK, len(entities)))
    return written
