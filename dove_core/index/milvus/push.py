"""Copying of an index to a Milvus collection, part by part; an interrupted push resumes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
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
from dove_core.index.parts import part_name, read_facts, read_rows, read_vectors

_ROWS_AT_ONCE = 500
_TASK = "pushing"


@dataclass(frozen=True)
class Pushed:
    """A complete collection: its address, its number of rows, and how many of them were written by this call."""

    address: CollectionAddress
    rows: int
    written: int


def push_index(
    index_address: Address,
    to: str,
    pushing: PushConfig = PushConfig(),
    *,
    overwrite: bool = False,
    report: Report = silent,
) -> Pushed:
    """Copy the rows of an index to a collection; complete parts stay, so a second call writes only missing rows.

    Args:
        index_address: of the index.
        to: `http://HOST:19530`, or `FILE.db` of Milvus Lite, with `/NAME` of a collection or the index's name.
        pushing: type of the vector index.
        overwrite: replace a collection with another model, other rows, or another vector index.
        report: receives progress.

    Raises:
        SearchIndexError: the index is damaged; the server does not answer; the collection has other content and
            `overwrite` is not set, or it was not made by this function.
        DataError: a text is too long for Milvus.
        UsageError: the address is invalid, or pymilvus is not installed.

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
        existing = collection.card() if collection.exists() else None
        if existing and not overwrite and _is_equal(existing, card):
            written = _complete(collection, index, report)
        else:
            if existing:
                _refuse_or_note(collection, existing, card, overwrite=overwrite, report=report)
            written = _make(collection, index, card, report)
    finally:
        collection.close()
    return Pushed(address, len(index), written)


def _make(collection: Collection, index: SearchIndex, card: Card, report: Report) -> int:
    """Make a collection beside the one that the address stands for, and let the address stand for it when it is whole.

    The last one stays until the next push, for those who have it open.
    """
    name, last = collection.address.collection, collection.name
    choices = [f"{name[:230]}__{card.content}{ending}" for ending in ("", "_2")]
    made = collection.beside(next(choice for choice in choices if choice != last))
    if made.exists() and not _is_equal(made.card(), card):
        made.drop()
    if not made.exists():
        made.create(card)
    is_first = not collection.exists()
    if is_first:
        collection.point_to(made.name)
    written = _complete(made, index, report)
    if not is_first:
        collection.point_to(made.name)
    for other in collection.names():
        if re.fullmatch(rf"{re.escape(name[:230])}__[0-9a-f]{{16}}(_2)?", other) and other not in (last, made.name):
            collection.beside(other).drop()
    return written


def _complete(collection: Collection, index: SearchIndex, report: Report) -> int:
    """Write the rows that a collection lacks; return their number.

    Raises:
        SearchIndexError: the collection has other rows too.
    """
    collection.load()
    written = _fill(collection, index, report)
    collection.flush()
    if (count := collection.count()) != len(index):
        message = f"{collection.address} has {count} rows, expected {len(index)}"
        raise SearchIndexError(message, hint="if no other process writes to it, push again with --overwrite")
    return written


def _is_equal(one: Card, other: Card) -> bool:
    """Tell whether two cards are of the same rows; the model and the images may have been moved."""
    return replace(one, checkpoint=other.checkpoint, shards=other.shards) == other


def content_of(index: SearchIndex) -> str:
    """Return 16 hexadecimal digits that change when the inputs of the index's parts change.

    Raises:
        SearchIndexError: a part is missing or damaged.
    """
    digest = hashlib.sha256()
    for part, count in index.manifest.rows_of.items():
        facts = read_facts(index.place, part_name(part))
        if facts is None or facts.mark is None or facts.rows != count:
            message = f"{index.place.where(part_name(part))} is missing, or does not belong to the index"
            raise SearchIndexError(message, hint="run `dove embed` again")
        digest.update(f"{facts.mark.input}\0{facts.mark.digest}\0{count}\0".encode())
    return digest.hexdigest()[:16]


def _refuse_or_note(collection: Collection, existing: Card, card: Card, *, overwrite: bool, report: Report) -> None:
    """Report that a collection is replaced; it is an error if `overwrite` is not set."""
    if not overwrite:
        if existing.fingerprint != card.fingerprint:
            reason = f"was made by the model {existing.fingerprint}, the index by {card.fingerprint}"
        elif existing.vector_index != card.vector_index:
            reason = f"has the vector index {existing.vector_index}, not {card.vector_index}"
        else:
            reason = "has another version of the index"
        hint = "replace it with --overwrite, or push to another name with --to .../NAME"
        raise SearchIndexError(f"{collection.address} {reason}", hint=hint)
    report(Noted(f"replacing {collection.address}, {existing.rows} rows; it answers until the new one is complete"))


def _fill(collection: Collection, index: SearchIndex, report: Report) -> int:
    """Write the parts of which rows are missing; return the number of rows written."""
    starts = np.cumsum([0, *index.manifest.counts]).tolist()
    counts = [collection.count(f"id >= {a} and id < {b}") for a, b in pairwise(starts)]
    complete = np.array(counts) == np.array(index.manifest.counts)
    report(Started(_TASK, len(index), "rows", int(np.array(counts)[complete].sum())))
    written = 0
    for part in np.flatnonzero(~complete).tolist():
        start, count, number = starts[part], index.manifest.counts[part], index.manifest.parts[part]
        with index.place.local_path(part_name(number)) as path:
            rows, vectors = read_rows(path, index.manifest.prefixes[number]), read_vectors(path)
        for first in range(0, count, _ROWS_AT_ONCE):
            block = slice(first, first + _ROWS_AT_ONCE)
            entities = entities_of(rows.slice(first, _ROWS_AT_ONCE), vectors[block], start + first)
            collection.write(entities, again=counts[part] > 0)
            written += len(entities)
            report(Advanced(_TASK, len(entities)))
    return written
