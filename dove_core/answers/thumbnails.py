"""Small images of hits for HTML."""

from __future__ import annotations

import base64
import io

from dove_core.index.images import decode_image
from dove_core.index.rows import Row


def thumbnail_uri(data: bytes, row: Row, side: int) -> str:
    """Return a `data:` URI with a JPEG of a row's image, at most `side` pixels wide and high.

    Raises:
        SearchIndexError: the bytes are not an image.
    """
    small = decode_image(data, row, side=side)
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
