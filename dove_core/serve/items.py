"""Images as STAC items, and indexes as STAC collections."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from stac_pydantic.version import STAC_VERSION

from dove_core.answers.geo import geometry_of
from dove_core.index.rows import Row, span_of
from dove_core.serve.served import OpenedIndex

GEOJSON, JSON = "application/geo+json", "application/json"
_PRECISE = 19
"""Characters of an ISO 8601 time that is precise to a second."""

_UNDATED = ("1900-01-01T00:00:00Z", "2099-12-31T23:59:59Z")
"""STAC needs an interval for an item without a time; such an item has `dove:undated`, too."""


def item_of(row: Row, collection: str, base: str, score: float | None = None) -> dict[str, Any]:
    """Return an image as a STAC item; one without a place has a null geometry.

    Args:
        row: the image.
        collection: name of its index.
        base: address of the server, with a slash at its end.
        score: how well it fits the question, if there was one.
    """
    home = f"{base}collections/{quote(collection, safe='')}"
    key = quote(row.key, safe="")
    links = [
        {"rel": "self", "type": GEOJSON, "href": f"{home}/items/{key}"},
        {"rel": "parent", "type": JSON, "href": home},
        {"rel": "collection", "type": JSON, "href": home},
        {"rel": "root", "type": JSON, "href": base},
    ]
    assets = {
        "image": {"href": f"{home}/images/{key}", "title": "The image", "roles": ["data"]},
        "thumbnail": {
            "href": f"{home}/thumbnails/{key}", "title": "A small JPEG of it", "type": "image/jpeg",
            "roles": ["thumbnail"],
        },
    }  # fmt: skip
    return {
        "type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": [], "id": row.key, "collection": collection,
        "geometry": None if row.box is None else geometry_of(row.box),
        **({} if row.box is None else {"bbox": list(row.box)}),
        "properties": _properties(row, score), "links": links, "assets": assets,
    }  # fmt: skip


def collection_of(opened: OpenedIndex, base: str) -> dict[str, Any]:
    """Return an index as a STAC collection."""
    summary, count = opened.summary, len(opened.index)
    home = f"{base}collections/{quote(opened.name, safe='')}"
    times = [None if second is None else _utc(second) for second in (summary.first_second, summary.last_second)]
    found: dict[str, Any] = {"gsd": summary.gsd and {"minimum": summary.gsd[0], "maximum": summary.gsd[1]}}
    found["source"] = list(summary.sources)
    return {
        "type": "Collection", "stac_version": STAC_VERSION, "stac_extensions": [], "id": opened.name,
        "title": opened.name, "description": f"{count:,} images that can be found by words.", "license": "various",
        "extent": {"spatial": {"bbox": [list(summary.box)]}, "temporal": {"interval": [times]}},
        "summaries": {name: value for name, value in found.items() if value},
        "dove:count": count, "dove:located": summary.located, "dove:model": opened.index.fingerprint,
        "links": [
            {"rel": "self", "type": JSON, "href": home},
            {"rel": "parent", "type": JSON, "href": base},
            {"rel": "root", "type": JSON, "href": base},
            {"rel": "items", "type": GEOJSON, "href": f"{home}/items"},
            {
                "rel": "http://www.opengis.net/def/rel/ogc/1.0/queryables", "type": "application/schema+json",
                "href": f"{home}/queryables",
            },
        ],
    }  # fmt: skip


def _properties(row: Row, score: float | None) -> dict[str, Any]:
    known = {
        "caption": row.caption, "source": row.source, "gsd": row.gsd, "tags": dict(row.tags) or None,
        "dove:score": score,
    }  # fmt: skip
    return {**_time(row.time), **{name: value for name, value in known.items() if value is not None}}


def _time(text: str | None) -> dict[str, Any]:
    """Return the time of an image; one that is not precise to a second is an interval."""
    span = span_of(text) if text else None
    if span is None:
        return {"datetime": None, "start_datetime": _UNDATED[0], "end_datetime": _UNDATED[1], "dove:undated": True}
    if text and len(text) == _PRECISE:
        return {"datetime": _utc(span[0])}
    return {"datetime": None, "start_datetime": _utc(span[0]), "end_datetime": _utc(span[1])}


def _utc(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
