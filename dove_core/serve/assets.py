"""Images and their thumbnails, by the key of an image in an index; never by a path."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from dove_core.answers.thumbnails import thumbnail
from dove_core.serve.stac import DoveClient

_KINDS = {
    b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif", b"RIFF": "image/webp",
    b"II*\0": "image/tiff", b"MM\0*": "image/tiff", b"BM": "image/bmp",
}  # fmt: skip
_KEPT = {"Cache-Control": "private, max-age=300"}


def assets(client: DoveClient) -> APIRouter:
    """Return the routes of images and thumbnails."""
    router = APIRouter(tags=["Images"])

    @router.get("/collections/{collection_id}/images/{item_id:path}", response_class=Response)
    def image(collection_id: str, item_id: str) -> Response:
        """Return the file of an image."""
        opened, row = client.row_of(collection_id, item_id)
        data = opened.index.image(row)
        kind = next((kind for start, kind in _KINDS.items() if data.startswith(start)), "application/octet-stream")
        return Response(data, media_type=kind, headers=_KEPT)

    @router.get("/collections/{collection_id}/thumbnails/{item_id:path}", response_class=Response)
    def small_image(collection_id: str, item_id: str, side: Annotated[int, Query(ge=16, le=1024)] = 256) -> Response:
        """Return a small JPEG of an image, at most `side` pixels wide and high."""
        opened, row = client.row_of(collection_id, item_id)
        return Response(thumbnail(opened.index.image(row), row, side), media_type="image/jpeg", headers=_KEPT)

    return router
