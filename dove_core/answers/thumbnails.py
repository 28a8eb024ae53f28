"""A hit's image, decoded; small images for HTML."""

from __future__ import annotations

import base64
import io
from contextlib import suppress

from PIL import Image, ImageOps

from dove_core.index.images import not_there
from dove_core.index.rows import Row


def decode_image(data: bytes, row: Row, *, side: int | None = None) -> Image.Image:
    """Return a row's image as RGB.

    Args:
        data: the image file's bytes, as the index read them.
        row: the row they belong to.
        side: a JPEG may be decoded at a smaller size, if neither side becomes smaller than this.

    Raises:
        SearchIndexError: the bytes are not an image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if side is not None:
                image.draft("RGB", (side, side))
            with suppress(SyntaxError, ValueError, TypeError, KeyError):  # damaged EXIF data turn nothing
                return ImageOps.exif_transpose(image).convert("RGB")
            return image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise not_there(row) from error


def thumbnail(data: bytes, row: Row, side: int) -> bytes:
    """Return a JPEG of a row's image, at most `side` pixels wide and high.

    Raises:
        SearchIndexError: the bytes are not an image.
    """
    small = decode_image(data, row, side=side)
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def thumbnail_uri(data: bytes, row: Row, side: int) -> str:
    """Return a `data:` URI with the thumbnail of a row's image; errors as `thumbnail`."""
    return "data:image/jpeg;base64," + base64.b64encode(thumbnail(data, row, side)).decode()
