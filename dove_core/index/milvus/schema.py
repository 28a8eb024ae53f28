"""Rows of an index as entities of a collection, and the card that describes the collection.

Columns are named as in `rows.arrow`. `crosses` marks boxes across the antimeridian, so that expressions do not compare
two columns. Tags are an array of `key` and `key=value`; % and = in keys are escaped as %25 and %3D.
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
from dove_core.index.rows import BOX, UNKNOWN_SECOND, Row

FORMAT = 1
CARD = "dove.card"
"""The property of a collection with its card."""

SHOWN = ["id", "key", "caption", *BOX, "time", "source", "gsd", "tags", "shard", "offset", "size"]
_TEXTS = ("key", "caption", "time", "source", "shard")
_LONGEST, _MOST_TAGS = 65_535, 2048
"""Limits of Milvus: bytes of a text, and half the elements of an array."""

_HINT = "push to another NAME, or remove the collection with the tools of Milvus"


@dataclass(frozen=True)
class Card:
    """The description of a collection: its model, parts and vector index, and the folders of model and images.

    `words` is a digest of the model's text side, `content` a digest of the parts.
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
    """Return a card as the text of the property."""
    return json.dumps(record_values(card, FORMAT))


def read_card(properties: Mapping[str, Any], where: str) -> Card:
    """Return the card in the properties of the collection `where`.

    Raises:
        SearchIndexError: the card is missing, damaged, or of another version.
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
    """Return rows of a part, given as a table with `PART_COLUMNS`, as entities numbered from `first`.

    Raises:
        DataError: a row has a text or tags beyond the limits of Milvus.
    """
    columns = {name: column.to_pylist() for name, column in part_columns(part).items()}
    entities = []
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        row = dict(zip(columns, values, strict=True))
        for name in (*BOX, "gsd"):
            row[name] = None if row[name] != row[name] else row[name]  # NaN
        for name in ("first_second", "last_second"):
            row[name] = None if row[name] == UNKNOWN_SECOND else row[name]
        known = row["xmin"] is not None and row["xmax"] is not None
        row["crosses"] = row["xmin"] > row["xmax"] if known else None
        row["tags"] = tag_elements(json.loads(row["tags"]))
        _check_limits(row)
        entities.append({"id": first + number, "vector": vectors[number].astype(np.float32), **row})
    return entities


def row_of(entity: Mapping[str, Any]) -> Row:
    """Return the row of an entity with the columns `SHOWN`."""
    west, south, east, north = (entity[name] for name in BOX)
    box = None if west is None else (west, south, east, north)
    texts = {name: entity[name] for name in ("key", "caption", "shard", "time")}
    return Row(
        **texts, offset=entity["offset"], size=entity["size"], box=box, source=entity["source"] or None,
        gsd=entity["gsd"], tags=tags_of(entity["tags"]),
    )  # fmt: skip


def tag_element(key: str, value: str | None) -> str:
    """Return the element for a tag; for its key with any value if `value` is None."""
    key = key.replace("%", "%25").replace("=", "%3D")
    return key if value is None else f"{key}={value}"


def tag_elements(tags: Mapping[str, str]) -> list[str]:
    """Return the elements for tags: each key, and each key with its value."""
    return [tag_element(key, element) for key, value in tags.items() for element in (None, value)]


def tags_of(elements: Any) -> dict[str, str]:
    """Return the tags for elements of `tag_elements`."""
    pairs = [element.partition("=") for element in elements if "=" in element]
    return {key.replace("%3D", "=").replace("%25", "%"): value for key, _, value in pairs}


def _check_limits(row: Mapping[str, Any]) -> None:
    """Check a row against the limits of Milvus."""
    texts = [row[name] for name in _TEXTS if row[name] is not None] + row["tags"]
    if max(len(text.encode()) for text in texts) > _LONGEST or len(row["tags"]) > 2 * _MOST_TAGS:
        message = f"{row['key'][:200]} has more than {_LONGEST:,} bytes in a text, or more than {_MOST_TAGS:,} tags"
        raise DataError(message, hint="Milvus does not allow more: shorten its caption or tags, and embed it again")
