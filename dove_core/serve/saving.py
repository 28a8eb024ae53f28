"""Hits as files: GeoJSON, GeoParquet and CSV."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File
from fastapi.responses import Response

from dove_core.answers.geo import geojson_of, write_geoparquet
from dove_core.answers.hits import table_of
from dove_core.config import ServeConfig
from dove_core.files import json_bytes
from dove_core.search.query import Hit
from dove_core.serve.finding import hits_of, listed
from dove_core.serve.items import GEOJSON
from dove_core.serve.models import SearchGet, SearchRequest, search_request
from dove_core.serve.stac import DoveClient
from dove_core.serve.uploads import checked_image

Kind = Literal["geojson", "geoparquet", "csv"]
PATH, IMAGE_PATH = "/save", "/save/image"
_TYPES = {"geojson": GEOJSON, "geoparquet": "application/vnd.apache.parquet", "csv": "text/csv; charset=utf-8"}
_SUFFIXES = {"geojson": "geojson", "geoparquet": "parquet", "csv": "csv"}


def saving(client: DoveClient, serving: ServeConfig) -> APIRouter:
    """Return the routes that save hits."""
    router = APIRouter(tags=["Saving"])

    @router.get(PATH, response_class=Response)
    def save(kind: Kind, parameters: Annotated[Any, Depends(SearchGet)]) -> Response:
        """Return the images that `GET /search` finds as a file."""
        return _saved(client, search_request(parameters.kwargs()), kind)

    @router.post(IMAGE_PATH, response_class=Response)
    def save_by_image(
        kind: Kind,
        image: Annotated[bytes, File(description="An image: find images like it.")],
        parameters: Annotated[Any, Depends(SearchGet)],
    ) -> Response:
        """Return the images that are like an uploaded one as a file."""
        return _saved(client, search_request(parameters.kwargs(), checked_image(image, serving)), kind)

    return router


def _saved(client: DoveClient, search: SearchRequest, kind: Kind) -> Response:
    served = [client.named(name) for name in search.collections or client.served]
    found, _, _ = hits_of(search, served, []) if search.has_question else listed(search, served)
    hits = [
        Hit(rank, math.nan if score is None else score, row)
        for rank, (_, row, score) in enumerate(found, start=search.start + 1)
    ]
    name = f'attachment; filename="dove.{_SUFFIXES[kind]}"'
    return Response(_WRITERS[kind](hits), media_type=_TYPES[kind], headers={"Content-Disposition": name})


def _geojson(hits: Sequence[Hit]) -> bytes:
    return json_bytes(geojson_of(hits))


def _geoparquet(hits: Sequence[Hit]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="dove-save-") as folder:
        path = Path(folder) / "hits.parquet"
        write_geoparquet(path, hits)
        return path.read_bytes()


def _csv(hits: Sequence[Hit]) -> bytes:
    table = table_of(hits)
    table["tags"] = table["tags"].map(lambda tags: json.dumps(tags, ensure_ascii=False))
    return table.to_csv(index=False, lineterminator="\n").encode()


_WRITERS = {"geojson": _geojson, "geoparquet": _geoparquet, "csv": _csv}
