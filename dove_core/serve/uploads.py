"""Images that clients send, or name by their address, within limits of size."""

from __future__ import annotations

import io
import warnings
from urllib.parse import urlsplit

import httpx
from PIL import Image

from dove_core.config import ServeConfig
from dove_core.errors import UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""Formats that Pillow may open: some of its other readers run outside programs."""

_SECONDS = 10.0
_HINT = f"send an image as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def checked_image(data: bytes, serving: ServeConfig) -> tuple[bytes, str]:
    """Return an uploaded image as a question holds it, after a look at its header.

    Raises:
        UsageError: it is not an image, or has more bytes or pixels than are allowed.
    """
    if len(data) > serving.max_upload * 1e6:
        raise UsageError(f"the image has {len(data):,} bytes", hint=f"send at most {serving.max_upload:g} MB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd files
            width, height = Image.open(io.BytesIO(data), formats=FORMATS).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError("the upload is not an image", hint=_HINT) from error
    if width * height > serving.max_pixels * 1e6:
        hint = f"send an image of at most {serving.max_pixels:g} million pixels"
        raise UsageError(f"the image has {width} x {height} pixels", hint=hint)
    return data, "the uploaded image"


def fetched_image(url: str, serving: ServeConfig) -> tuple[bytes, str]:
    """Return an image from an allowed host as a question holds it.

    Raises:
        UsageError: the host is not one of `ServeConfig.image_hosts`, it sends no image, or one that is too large.
    """
    try:
        parts = urlsplit(url)
        host, kind = parts.hostname, parts.scheme
    except ValueError as error:
        raise UsageError("image_url is not a valid address", hint="send the image itself") from error
    if kind not in ("http", "https") or host not in serving.hosts_of_images:
        message = "image_url names a host from which this server fetches no images"
        raise UsageError(message, hint="send the image itself, or start dove serve with --image-hosts")
    data = bytearray()
    try:
        with httpx.stream("GET", url, timeout=_SECONDS, follow_redirects=False) as response:
            response.raise_for_status()
            for block in response.iter_bytes():
                data += block
                if len(data) > serving.max_upload * 1e6:
                    raise UsageError("the image at image_url is too large", hint="send a smaller one")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UsageError(f"the image at image_url cannot be fetched: {error}", hint="send the image itself") from error
    return checked_image(bytes(data), serving)
