"""The parameters of a search. Those of a query are derived from its settings, with their help and bounds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import attr
from fastapi import FastAPI, Query
from pydantic import BaseModel, Field, create_model, model_validator
from stac_fastapi.api.models import (
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions.filter import FilterExtension
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.extensions.free_text import FreeTextExtension
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.types.extension import ApiExtension
from stac_fastapi.types.search import APIRequest, BaseSearchPostRequest

from dove_core.bounds import Settings
from dove_core.config import FilterConfig, QueryConfig, RankConfig
from dove_core.errors import UsageError
from dove_core.search.question import Question

Kind = TypeVar("Kind", bound=Settings)
DEEPEST = 10_000
"""Largest number of hits that can be paged through, and of candidates that can be ranked again."""

_RERANK, _EXAMPLES, _WORDS = 1000, 100, 2000
"""Largest `rerank`, number of keys in `like`, and length of `q`."""

_STANDARD = frozenset({"top", "bbox", "datetime"})
"""Settings that STAC has parameters for."""

_OWN: tuple[type[Settings], ...] = (QueryConfig, RankConfig, FilterConfig)
_WORDS_HELP = "What to look for, in words; the answer is ordered by how well images fit, best first."
_KEYS_HELP = {
    "like": "Key of an image that the hits are like; may be repeated.",
    "unlike": "Key of one they are not like.",
}
_MARKS_HELP = "Rank by the marks that analysts made for this query, and leave out what they rejected."


def _settings() -> dict[str, tuple[Any, Any, Mapping[str, Any]]]:
    """Return type, default and metadata of each setting that a request may have besides the parameters of STAC."""
    return {
        field.name: (get_type_hints(kind)[field.name], field.default, field.metadata)
        for kind in _OWN for field in dataclasses.fields(kind) if field.name not in _STANDARD
    }  # fmt: skip


def _bounds(name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    high = _RERANK if name == "rerank" else metadata.get("high")
    return {"description": metadata["help"], "ge": metadata.get("low"), "le": high}


_GET_FIELDS = {
    name: attr.ib(default=default, type=Annotated[kind, Query(**_bounds(name, metadata))])
    for name, (kind, default, metadata) in _settings().items()
} | {
    name: attr.ib(factory=list, type=Annotated[list[str], Query(description=text, max_length=_EXAMPLES)])
    for name, text in _KEYS_HELP.items()
} | {"marks": attr.ib(default=False, type=Annotated[bool, Query(description=_MARKS_HELP)])}  # fmt: skip
_GET_WORDS = {
    "q": attr.ib(default=None, type=Annotated[str | None, Query(description=_WORDS_HELP, max_length=_WORDS)])
}  # fmt: skip
_POST_FIELDS: dict[str, Any] = {
    name: (kind, Field(default, **_bounds(name, metadata))) for name, (kind, default, metadata) in _settings().items()
} | {name: (list[str], Field([], description=text, max_length=_EXAMPLES)) for name, text in _KEYS_HELP.items()}
_POST_FIELDS["marks"] = (bool, Field(False, description=_MARKS_HELP))


@attr.s
class QueryExtension(ApiExtension):
    """The parameters of a query that STAC does not have."""

    GET: type[APIRequest] = attr.make_class("QueryGetRequest", _GET_FIELDS, bases=(APIRequest,))
    POST: type[BaseModel] = create_model("QueryPostRequest", **_POST_FIELDS)

    def register(self, app: FastAPI) -> None:
        """Do nothing: there are no routes of its own."""


class WordsPostRequest(BaseModel):
    """Words of a POST request: a text, or several that are joined."""

    q: str | list[str] | None = Field(None, description=_WORDS_HELP)


@attr.s
class WordsExtension(FreeTextExtension):
    """The free-text extension for items."""

    GET: type[APIRequest] = attr.make_class("WordsGetRequest", _GET_WORDS, bases=(APIRequest,))
    POST: type[BaseModel] = WordsPostRequest


def extensions_of(queryables: BaseFiltersClient) -> list[ApiExtension]:
    """Return the extensions of the API."""
    return [WordsExtension(), FilterExtension(client=queryables), TokenPaginationExtension(), QueryExtension()]


_ALL = extensions_of(BaseFiltersClient())
SearchGet = create_get_request_model(_ALL)


class SearchBody(BaseSearchPostRequest):
    """The body of a POST request."""

    @model_validator(mode="before")
    @classmethod
    def is_object(cls, values: Any) -> Any:
        """Refuse a body that is not an object, on which the validators of STAC fail, or has half characters."""
        if not isinstance(values, dict):
            raise ValueError("the body is not a JSON object")
        return _encodable(values)


SearchPost = create_post_request_model(_ALL, SearchBody)
ItemsGet = cast(type[APIRequest], create_request_model("ItemsGet", ItemCollectionUri, _ALL[1:3], request_type="GET"))


@dataclass(frozen=True)
class SearchRequest:
    """A search, in terms of this library."""

    question: Question
    query: QueryConfig
    ranking: RankConfig
    filters: FilterConfig
    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    intersects: Mapping[str, Any] | None = None
    expression: str | Mapping[str, Any] | None = None
    start: int = 0
    marks: bool = False

    @property
    def has_question(self) -> bool:
        """Tell whether images are ordered by how well they fit."""
        return bool(self.question.text or self.question.image or self.question.like or self.question.unlike)


def search_request(values: Mapping[str, Any], image: tuple[bytes, str] | None = None) -> SearchRequest:
    """Return the search that the parameters of a GET or POST request describe.

    Raises:
        UsageError: a parameter is not valid.
    """
    given = {name: value for name, value in values.items() if value is not None}
    words = given.get("q", "")
    text = words if isinstance(words, str) else ", ".join(words)
    if len(text) > _WORDS:
        raise UsageError(f"q has {len(text)} characters", hint=f"use at most {_WORDS}")
    question = Question(text.strip(), image, tuple(given.get("like", ())), tuple(given.get("unlike", ())))
    box = given.get("bbox")
    if box and given.get("intersects") is not None:
        raise UsageError("bbox and intersects cannot be combined", hint="give one of them")
    own = {
        "top": given.get("limit", QueryConfig.top),
        "bbox": ",".join(map(str, box if len(box) == 4 else (*box[:2], *box[3:5]))) if box else "",
        "datetime": given.get("datetime", ""),
    }
    values = given | own
    return SearchRequest(
        question,
        _made(QueryConfig, values),
        _made(RankConfig, values),
        _made(FilterConfig, values),
        collections=given.get("collections"),
        ids=given.get("ids"),
        intersects=_geometry(given.get("intersects")),
        expression=_expression(given),
        start=_start(given.get("token")),
        marks=given.get("marks", False),
    )


def _made(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names})


def _geometry(value: Any) -> Mapping[str, Any] | None:
    """Return the geometry of a request: an object in a POST request, JSON text in a GET request."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, str):
        value = _parsed("intersects", value)
    return value if value is None else dict(value)


def _expression(given: Mapping[str, Any]) -> str | Mapping[str, Any] | None:
    expression = given.get("filter_expr")
    is_json = given.get("filter_lang") == "cql2-json"
    return dict(_parsed("filter", expression)) if isinstance(expression, str) and is_json else expression


def _parsed(name: str, text: str) -> Mapping[str, Any]:
    try:
        found = _encodable(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not valid JSON: {error}", hint="encode the JSON text for a URL") from error
    if not isinstance(found, dict):
        raise UsageError(f"{name} is not a JSON object", hint="give an object, such as a GeoJSON geometry")
    return found


def _encodable(values: Any) -> Any:
    """Return values of JSON.

    Raises:
        ValueError: a text has half of a surrogate pair, which is not a character, or they are too deep.
    """
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise ValueError("a text is not valid Unicode, or the JSON is too deep") from error
    return values


def _start(token: str | None) -> int:
    if token is None:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) < 12):
        raise UsageError(f"the token {token!r} is not from this server", hint="follow the link `next` of an answer")
    return int(token)
