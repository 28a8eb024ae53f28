"""A row of an index as an entity of a collection, and what the collection remembers of its index.

The columns keep their names. A box across the antimeridian is marked in `crosses`, so that no expression compares two
columns. Tags become an array of `key` and `key=value`, in which % and = of keys are written %25 and %3D.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dove_core.errors import DataError, SearchIndexError
from dove_core.files import parse_record, record_values
from dove_core.index.columns import part_columns
from dove_core.index.rows import UNKNOWN_SECOND, Row

FORMAT = 1
CARD = "dove.card"
"""The collection's property that holds its card."""

BOX = ["xmin", "ymin", "xmax", "ymax"]
SHOWN = ["id", "key", "caption", *BOX, "time", "source", "gsd", "tags", "shard", "offset", "size"]
_TEXTS = ("key", "caption", "time", "source", "shard")
_LONGEST, _MOST_TAGS = 65_535, 2048
"""What Milvus allows: bytes of a text, and half the elements of an array."""

_HINT = "push to another NAME, or this one with --overwrite if it was pushed by `dove index push`"


@dataclass(frozen=True)
class Card:
    """What a collection is: of which model and parts, how it is searched, where model and images lay when pushed.

    `words` is a digest of the model's text side, `content` one of the parts.
    """

    fingerprint: str
    words: str
    content: str
    dim: int
    rows: int
    vector_index: str
    checkpoint: str
    shards: str


def card_text(card: Card) -> str:
    """Return a card as the property holds it."""
    return json.dumps(record_values(card, FORMAT))


def read_card(properties: Mapping[str, Any], where: str) -> Card:
    """Return the card among a collection's properties.

    Raises:
        SearchIndexError: there is none, or one of another version.
    """
    if CARD not in properties:
        raise SearchIndexError(f"{where} was not made by `dove index push`", hint=_HINT)
    try:
        values = json.loads(properties[CARD])
    except ValueError as error:
        raise SearchIndexError(f"{where} has a damaged card: {error}", hint=_HINT) from error
    return parse_record(values, where, Card, FORMAT, SearchIndexError, hint=_HINT)


def make_schema(client: Any, dim: int) -> Any:
    """Return the schema of a collection whose vectors have `dim` dimensions."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    for name in _TEXTS:
        schema.add_field(name, DataType.VARCHAR, max_length=_LONGEST, nullable=True)
    for name in (*BOX, "gsd"):
        schema.add_field(name, DataType.DOUBLE, nullable=True)
    schema.add_field("crosses", DataType.BOOL, nullable=True)
    for name in ("first_second", "last_second"):
        schema.add_field(name, DataType.INT64, nullable=True)
    array: dict[str, Any] = {"element_type": DataType.VARCHAR, "max_capacity": 2 * _MOST_TAGS, "max_length": _LONGEST}
    schema.add_field("tags", DataType.ARRAY, **array)
    for name in ("offset", "size"):
        schema.add_field(name, DataType.INT64)
    return schema


def entities_of(part: Any, vectors: np.ndarray, first: int) -> list[dict[str, Any]]:
    """Return some rows of a part, read as a table with `PART_COLUMNS`, as entities numbered from `first`.

    Raises:
        DataError: a text is longer, or there are more tags, than Milvus holds.
    """
    columns = {name: column.to_pylist() for name, column in part_columns(part).items()}
    found = []
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        row = dict(zip(columns, values, strict=True))
        for name in (*BOX, "gsd"):
            row[name] = None if row[name] != row[name] else row[name]  # NaN
        for name in ("first_second", "last_second"):
            row[name] = None if row[name] == UNKNOWN_SECOND else row[name]
        known = row["xmin"] is not None and row["xmax"] is not None
        row["crosses"] = row["xmin"] > row["xmax"] if known else None
        row["tags"] = tag_elements(json.loads(row["tags"]))
        _hold(row)
        found.append({"id": first + number, "vector": vectors[number].astype(np.float32), **row})
    return found


def row_of(entity: Mapping[str, Any]) -> Row:
    """Return what is known of an image from its entity with the columns `SHOWN`."""
    west, south, east, north = (entity[name] for name in BOX)
    box = None if west is None else (west, south, east, north)
    texts = {name: entity[name] for name in ("key", "caption", "shard", "time")}
    return Row(
        **texts, offset=entity["offset"], size=entity["size"], box=box, source=entity["source"] or None,
        gsd=entity["gsd"], tags=tags_of(entity["tags"]),
    )  # fmt: skip


def tag_element(key: str, value: str | None) -> str:
    """Return the element that stands for a tag, or, where the value is None, for its key with any value."""
    key = key.replace("%", "%25").replace("=", "%3D")
    return key if value is None else f"{key}={value}"


def tag_elements(tags: Mapping[str, str]) -> list[str]:
    """Return the elements of all tags: each key, and each key with its value."""
    return [tag_element(key, value) for key, own in tags.items() for value in (None, own)]


def tags_of(elements: Any) -> dict[str, str]:
    """Return the tags of which `tag_elements` made elements."""
    pairs = [element.partition("=") for element in elements if "=" in element]
    return {key.replace("%3D", "=").replace("%25", "%"): value for key, _, value in pairs}


def _hold(row: Mapping[str, Any]) -> None:
    texts = [row[name] for name in _TEXTS if row[name] is not None] + row["tags"]
    if max(len(text.encode()) for text in texts) > _LONGEST or len(row["tags"]) > 2 * _MOST_TAGS:
        message = f"{row['key'][:200]}: Milvus holds texts of {_LONGEST:,} bytes and {_MOST_TAGS:,} tags at most"
        raise DataError(message, hint="shorten its caption or tags, and embed it again")
