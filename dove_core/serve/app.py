"""All routes together, behind all guards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from brotli_asgi import BrotliMiddleware
from fastapi import FastAPI
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import GeoJSONResponse, ItemUri
from stac_fastapi.api.routes import create_async_endpoint
from stac_fastapi.types.config import ApiSettings
from stac_pydantic import api as schemas
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from dove_core.config import ServeConfig
from dove_core.serve import image_search, knn, saving
from dove_core.serve.assets import assets
from dove_core.serve.attending import attending
from dove_core.serve.browser import browser, way_in
from dove_core.serve.guards import BodyGuard, HeaderGuard, HeadRoute, HostGuard, TokenGuard
from dove_core.serve.items import GEOJSON
from dove_core.serve.manual import manual
from dove_core.serve.marking import marking
from dove_core.serve.metrics import RequestMeter, operations, refresh_all
from dove_core.serve.models import ItemsGet, SearchGet, SearchPost, extensions_of
from dove_core.serve.problems import add_problems
from dove_core.serve.served import ServedIndex
from dove_core.serve.stac import DoveClient, Queryables

_log = logging.getLogger("dove.serve")
_TITLE = "dove"
_DESCRIPTION = "Find remote-sensing images with words."
_PAUSE = 1.0
"""Seconds between looks at the files of an index, to see whether it was made again."""


class KeyedApi(StacApi):
    """The routes of STAC, with keys of images that may have slashes."""

    def register_get_item(self) -> None:
        """Register the route of an item."""
        self.router.add_api_route(
            name="Get Item", path="/collections/{collection_id}/items/{item_id:path}", methods=["GET"],
            responses={200: {"content": {GEOJSON: {}}, "model": schemas.Item}}, response_class=GeoJSONResponse,
            endpoint=create_async_endpoint(self.client.get_item, ItemUri),
        )  # fmt: skip

    def add_health_check(self) -> None:
        """Do nothing: `metrics.operations` has it."""


def make_app(served: Mapping[str, ServedIndex], serving: ServeConfig, token: str = "") -> FastAPI:
    """Return the web application of some indexes.

    Args:
        served: indexes by their names.
        serving: its settings; host, port and workers have no meaning here.
        token: what requests must have; none if it is empty.
    """
    client = DoveClient(
        served=served, basemap=serving.basemap, title=_TITLE, description=_DESCRIPTION, landing_page_id=_TITLE
    )
    settings = ApiSettings(stac_fastapi_title=_TITLE, stac_fastapi_description=_DESCRIPTION)
    app = FastAPI(
        title=_TITLE, version="1.0", description=_DESCRIPTION, openapi_url="/api", docs_url=None, redoc_url=None,
        root_path=serving.root_path, lifespan=_refreshing(served),
    )  # fmt: skip
    api = KeyedApi(
        settings, client, extensions_of(Queryables(served=served)), exceptions={}, app=app, title=_TITLE,
        description=_DESCRIPTION, search_get_request_model=SearchGet, search_post_request_model=SearchPost,
        items_get_request_model=ItemsGet, middlewares=_guards(serving, token),
    )  # fmt: skip
    for router in (
        image_search.image_search(client, serving), assets(client), knn.knn(served, serving), operations(),
        manual(api.app), browser(), attending(client), saving.saving(client, serving),
        marking(client),
    ):  # fmt: skip
        api.app.include_router(router)
    api.app.router.routes.insert(0, way_in())
    add_problems(api.app)
    return api.app


def _guards(serving: ServeConfig, token: str) -> list[Middleware]:
    """Return what a request passes, the innermost first."""
    large = (image_search.PATH, knn.PATH, saving.IMAGE_PATH)
    guards = [
        Middleware(BrotliMiddleware, quality=2),
        Middleware(BodyGuard, serving=serving, large=lambda path: path.endswith(large)),
    ]
    if token:
        guards.append(Middleware(TokenGuard, token=token))
    elif serving.is_local:  # a web page elsewhere could have its own name resolved to this machine
        guards.append(Middleware(HostGuard))
    if serving.origins:
        headers = ["Authorization", "Content-Type"]
        cross = Middleware(CORSMiddleware, allow_origins=serving.origins, allow_methods=["*"], allow_headers=headers)
        guards.append(cross)
    return [
        *guards,
        Middleware(HeadRoute),
        Middleware(RequestMeter, logged=serving.access_log),
        Middleware(HeaderGuard, serving=serving),
    ]


def _refreshing(served: Mapping[str, ServedIndex]) -> Any:
    """Return the life of an app: it opens indexes that were made again."""

    async def refresh() -> None:
        while True:
            try:
                await run_in_threadpool(refresh_all, served)
            except Exception:  # a bug must not end the looks at other indexes
                _log.exception("an index cannot be opened again")
            await asyncio.sleep(_PAUSE)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(refresh())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return life
