"""Search by an uploaded image, for which STAC has no form: the parameters of `GET /search`, and a file in the body."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Request

from dove_core.config import ServeConfig
from dove_core.serve.items import GEOJSON
from dove_core.serve.models import SearchGet, search_request
from dove_core.serve.stac import DoveClient
from dove_core.serve.uploads import checked_image

PATH = "/search/image"


def image_search(client: DoveClient, serving: ServeConfig) -> APIRouter:
    """Return the route for uploaded images."""
    router = APIRouter(tags=["Core"])

    @router.post(PATH, responses={200: {"content": {GEOJSON: {}}}})
    def search_by_image(
        request: Request,
        image: Annotated[bytes, File(description="An image: find images like it.")],
        parameters: Annotated[Any, Depends(SearchGet)],
    ) -> Any:
        """Return the images that are like an uploaded one, and fit the other parameters."""
        return client.answer(search_request(parameters.kwargs(), checked_image(image, serving)), request)

    return router
