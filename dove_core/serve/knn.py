"""The protocol of clip-retrieval, so that its Python client and its page work with an index.

https://github.com/rom1504/clip-retrieval: `POST /knn-service`, `POST /metadata`, `GET /indices-list`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError
from stac_fastapi.types.requests import get_base_url
from starlette.concurrency import run_in_threadpool

from dove_core.config import ServeConfig
from dove_core.errors import UsageError
from dove_core.index.rows import Row
from dove_core.search.dedup import distinct
from dove_core.serve.served import OpenedIndex, ServedIndex
from dove_core.serve.uploads import checked_image, fetched_image

PATH = "/knn-service"
_MOST = 10_000
Asked = TypeVar("Asked", bound=BaseModel)


class KnnRequest(BaseModel):
    """What clip-retrieval's client asks. Filters for safety and aesthetics have no effect."""

    text: str | None = Field(None, max_length=2000)
    image: str | None = Field(None, description="An image file in base64.")
    image_url: str | None = Field(None, description="Refused unless the server allows the host.")
    embedding_input: list[float] | None = None
    indice_name: str | None = Field(None, description="Name of the index; the first one if there is none.")
    num_images: int = Field(100, ge=1, le=_MOST, description="Hits with their metadata.")
    num_result_ids: int = Field(100, ge=1, le=_MOST, description="Hits with at least id and similarity.")
    deduplicate: bool = True


class MetadataRequest(BaseModel):
    """Numbers of rows."""

    ids: list[int] = Field(max_length=_MOST)
    indice_name: str | None = None


def knn(served: Mapping[str, ServedIndex], serving: ServeConfig) -> APIRouter:
    """Return the routes of clip-retrieval."""
    router = APIRouter(tags=["clip-retrieval"])

    @router.get("/indices-list")
    def indices_list() -> list[str]:
        """Return the names of the indexes."""
        return list(served)

    @router.post(PATH, openapi_extra=_json_body(KnnRequest))
    async def knn_service(request: Request) -> list[dict[str, Any]]:
        """Return the images nearest to a text, an image or an embedding; the body is JSON, whatever its type says."""
        asked = _parsed(KnnRequest, await request.body())
        return await run_in_threadpool(_answer, asked, served, serving, get_base_url(request))

    @router.post("/metadata", openapi_extra=_json_body(MetadataRequest))
    async def metadata(request: Request) -> list[dict[str, Any]]:
        """Return the metadata of some rows."""
        asked = _parsed(MetadataRequest, await request.body())
        return await run_in_threadpool(_metadata, asked, served, get_base_url(request))

    return router


def _answer(
    asked: KnnRequest, served: Mapping[str, ServedIndex], serving: ServeConfig, base: str
) -> list[dict[str, Any]]:
    one = _named(served, asked.indice_name)
    opened = one.opened
    vector = _vector(asked, one, opened, serving)
    numbers, scores = opened.index.search(vector, max(asked.num_result_ids, asked.num_images))
    rows = opened.index.rows(numbers.tolist())
    chosen = list(range(len(rows)))
    if asked.deduplicate:
        chosen = distinct(rows, opened.index.vectors_of(numbers.tolist()), len(rows))
    found = [{"id": int(numbers[place]), "similarity": float(scores[place])} for place in chosen]
    for hit, place in zip(found[: asked.num_images], chosen, strict=False):
        hit |= _metadata_of(opened, rows[place], base)
    return found


def _metadata(asked: MetadataRequest, served: Mapping[str, ServedIndex], base: str) -> list[dict[str, Any]]:
    opened = _named(served, asked.indice_name).opened
    if any(not 0 <= number < len(opened.index) for number in asked.ids):
        raise UsageError("the index has no row of one of these ids", hint="ask with ids of an answer of knn-service")
    rows = opened.index.rows(asked.ids)
    return [
        {"id": number, "metadata": _metadata_of(opened, row, base)} for number, row in zip(asked.ids, rows, strict=True)
    ]


def _vector(asked: KnnRequest, one: ServedIndex, opened: OpenedIndex, serving: ServeConfig) -> np.ndarray:
    """Return the search direction `(D,)` of a question."""
    if asked.text:
        return opened.index.words.encode(asked.text)
    if asked.image or asked.image_url:
        example = (
            checked_image(_decoded(asked.image), serving)
            if asked.image
            else fetched_image(str(asked.image_url), serving)
        )
        with one.computing:
            found: np.ndarray = opened.searcher.embedder.embed_images([example])[0].float().cpu().numpy()
            return found
    vector, dim = np.array(asked.embedding_input or [], np.float32), opened.index.vectors_of([0]).shape[1]
    length = float(np.linalg.norm(vector))
    if vector.shape != (dim,) or not (np.isfinite(length) and length > 0):
        hint = f"give text, image or embedding_input, which has {dim} numbers here"
        raise UsageError("the question has no text, no image and no embedding of this index", hint=hint)
    return vector / length


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("image is not valid base64", hint="send the bytes of an image file in base64") from error


def _metadata_of(opened: OpenedIndex, row: Row, base: str) -> dict[str, Any]:
    home, key = f"{base}collections/{quote(opened.name, safe='')}", quote(row.key, safe="")
    return {"url": f"{home}/images/{key}", "caption": row.caption or "", "key": row.key}


def _named(served: Mapping[str, ServedIndex], name: str | None) -> ServedIndex:
    if name is not None and name not in served:
        raise UsageError(f"there is no index {name}", hint=f"choose from {', '.join(served)}")
    return served[name] if name is not None else next(iter(served.values()))


def _parsed(kind: type[Asked], body: bytes) -> Asked:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the body"
        raise UsageError(f"{where}: {problem['msg']}", hint="send JSON as clip-retrieval's client does") from error


def _json_body(kind: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": kind.model_json_schema()}}}}
