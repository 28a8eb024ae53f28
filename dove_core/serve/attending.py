"""Where the words of a query lie on an image, computed when it is asked for."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from PIL import Image

from dove_core.answers.explain import brightness, explain
from dove_core.search.query import Hit
from dove_core.serve.stac import DoveClient

_WORDS = 200


def attending(client: DoveClient) -> APIRouter:
    """Return the route of explanations."""
    router = APIRouter(tags=["Images"])

    @router.get("/collections/{collection_id}/attention/{item_id:path}")
    def attention(
        collection_id: str,
        item_id: str,
        q: Annotated[str, Query(description="Words to look for on the image.", min_length=1, max_length=_WORDS)],
    ) -> dict[str, Any]:
        """Return where words attend on an image.

        `image` is the square that the model sees, as a `data:` URI. `whole` is a map of g x g numbers from 0 (at most
        the uniform share of a region) to 1 (four times it or more), `by_word` has such a map for each of `words`, and
        `weights` are the shares of the words, which sum to one. `certainty` is the share of the whole map above a
        uniform one; if `shows_nothing` is true, the words fit no region better than others.
        """
        served = client.named(collection_id)
        opened, row = client.row_of(collection_id, item_id)
        with served.computing:
            [found] = explain(opened.searcher, q, [Hit(1, 0.0, row)])
        return {
            "image": _uri(found.image), "words": list(found.words), "weights": _rounded(found.weights),
            "whole": _rounded(brightness(found.whole)), "by_word": _rounded(brightness(found.by_word)),
            "certainty": round(found.certainty, 4), "shows_nothing": bool(found.shows_nothing),
        }  # fmt: skip

    return router


def _uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _rounded(values: Any) -> Any:
    return np.asarray(values, float).round(4).tolist()
