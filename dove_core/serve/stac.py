"""The STAC API: one client class over the searchers; `stac-fastapi` has routes, validation and conformance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attr
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.requests import get_base_url

from dove_core.index.rows import Row
from dove_core.serve.finding import hits_of, listed
from dove_core.serve.items import GEOJSON, JSON, collection_of, item_of
from dove_core.serve.models import SearchRequest, search_request
from dove_core.serve.served import OpenedIndex, ServedIndex


@attr.s
class DoveClient(BaseCoreClient):
    """The answers of the API, from indexes by their names."""

    served: Mapping[str, ServedIndex] = attr.ib(factory=dict)
    basemap: str = attr.ib(default="")

    def landing_page(self, **kwargs: Any) -> Any:
        """Return the landing page, with a link to each collection."""
        page = super().landing_page(**kwargs)
        base = get_base_url(kwargs["request"])
        for one in self.served.values():
            [href] = [link["href"] for link in collection_of(one.opened, base)["links"] if link["rel"] == "self"]
            page["links"].append({"rel": "child", "type": JSON, "title": one.opened.name, "href": href})
        return {**page, **({"dove:basemap": self.basemap} if self.basemap else {})}

    def all_collections(self, **kwargs: Any) -> Any:
        """Return all collections."""
        base = get_base_url(kwargs["request"])
        links = [
            {"rel": "self", "type": JSON, "href": f"{base}collections"},
            {"rel": "root", "type": JSON, "href": base},
        ]
        return {"collections": [collection_of(one.opened, base) for one in self.served.values()], "links": links}

    def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        """Return a collection."""
        return collection_of(self.named(collection_id).opened, get_base_url(kwargs["request"]))

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        """Return the image with a key."""
        row = self.row_of(collection_id, item_id)[1]
        return _geojson(item_of(row, collection_id, get_base_url(kwargs["request"])))

    def item_collection(self, collection_id: str, **parameters: Any) -> Any:  # type: ignore[override]
        """Return a page of the images of a collection."""
        self.named(collection_id)
        request = parameters.pop("request")
        return self.answer(search_request({**parameters, "collections": [collection_id]}), request)

    def get_search(self, **parameters: Any) -> Any:  # type: ignore[override]
        """Return the images that fit the parameters of a URL."""
        return self.answer(search_request(parameters), parameters["request"])

    def post_search(self, search_request: BaseModel, **kwargs: Any) -> Any:
        """Return the images that fit a JSON body."""
        return self.answer(_of_body(search_request), kwargs["request"], search_request)

    def named(self, name: str) -> ServedIndex:
        """Return an index.

        Raises:
            NotFoundError: there is none of that name.
        """
        if name not in self.served:
            raise NotFoundError(f"there is no collection {name}")
        return self.served[name]

    def row_of(self, collection: str, key: str) -> tuple[OpenedIndex, Row]:
        """Return the image with a key.

        Raises:
            NotFoundError: there is none.
        """
        opened = self.named(collection).opened
        number = opened.index.find([key]).get(key)
        if number is None:
            raise NotFoundError(f"the collection {collection} has no image {key}")
        return opened, opened.index.rows([number])[0]

    def answer(self, search: SearchRequest, request: Request, body: BaseModel | None = None) -> JSONResponse:
        """Return the images that fit a search as a feature collection, with a link to the next page."""
        notes: list[str] = []
        names = list(self.served) if search.collections is None else search.collections
        if unknown := sorted(set(names) - set(self.served)):
            notes.append(f"there is no collection {', '.join(unknown)}; there are {', '.join(self.served)}")
        served = [self.served[name] for name in dict.fromkeys(names) if name in self.served]
        found, more, matched = hits_of(search, served, notes) if search.has_question else listed(search, served)
        base = get_base_url(request)
        features = [item_of(row, opened.name, base, score) for opened, row, score in found]
        return _geojson({
            "type": "FeatureCollection", "features": features, "numberReturned": len(features),
            **({} if matched is None else {"numberMatched": matched}),
            "links": _links(request, base, body, search.start + len(found) if more else None),
            **({"dove:notes": list(dict.fromkeys(notes))} if notes else {}),
        })  # fmt: skip


def _of_body(body: BaseModel) -> SearchRequest:
    values = {name: getattr(body, name) for name in type(body).model_fields}
    return search_request(values)


def _links(request: Request, base: str, body: BaseModel | None, following: int | None) -> list[dict[str, Any]]:
    """Return the links of a page of images; `following` is the number of images before the next page."""
    links: list[dict[str, Any]] = [
        {"rel": "self", "type": GEOJSON, "href": str(request.url)},
        {"rel": "root", "type": JSON, "href": base},
    ]
    if following is None:
        return links
    if body is not None:
        values = {**body.model_dump(mode="json", by_alias=True, exclude_unset=True), "token": str(following)}
        links.append({"rel": "next", "type": GEOJSON, "method": "POST", "href": f"{base}search", "body": values})
    elif request.method == "GET":
        href = str(request.url.include_query_params(token=str(following)))
        links.append({"rel": "next", "type": GEOJSON, "method": "GET", "href": href})
    return links


def _geojson(content: Any) -> JSONResponse:
    return JSONResponse(content, media_type=GEOJSON)


@attr.s
class Queryables(BaseFiltersClient):
    """The properties that CQL2 filters may have."""

    served: Mapping[str, ServedIndex] = attr.ib(factory=dict)

    def get_queryables(self, collection_id: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Return a JSON schema of the properties.

        Raises:
            NotFoundError: there is no such collection.
        """
        if collection_id is not None and collection_id not in self.served:
            raise NotFoundError(f"there is no collection {collection_id}")
        text, number = {"type": "string"}, {"type": "number"}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": str(kwargs["request"].url),
            "type": "object", "title": "Properties of images", "additionalProperties": False,
            "properties": {
                "id": text, "collection": text, "caption": text, "source": text, "gsd": number,
                "datetime": {**text, "format": "date-time"},
                "geometry": {"$ref": "https://geojson.org/schema/Geometry.json"},
            },
            "patternProperties": {r"^tags\..+$": text},
        }  # fmt: skip
