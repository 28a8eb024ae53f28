"""The one full decode of a picture before training: a damaged one never gets into a shard."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from dove_core.errors import DataError

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded; a small file can unfold to far more than the memory holds."""

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000")
"""What Pillow may open: some of its other readers run outside programs."""

_EIGHT_BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG in RGB or grey that has been decoded once, and its size in pixels."""

    jpeg: bytes
    width: int
    height: int


def read_picture(data: bytes, quality: int) -> Picture:
    """Decode a picture fully and return it as a JPEG: its own bytes if it is an RGB or grey one, else encoded anew.

    Pillow warns of odd files; the caller silences warnings, since a filter set here would not be safe in threads.

    Raises:
        DataError: this is no picture, or it is damaged, too large, or has more than 8 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(*image.size)
            image.load()
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                return Picture(data, *image.size)
            if image.mode not in _EIGHT_BIT:
                raise DataError(f"mode {image.mode} has more than 8 bits a channel: convert the picture first")
            return Picture(_as_jpeg(image, quality), *image.size)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{len(data)} bytes that are no picture") from None
    except Exception as error:  # on damaged files Pillow's readers raise nearly every kind there is
        # Addresses differ from run to run, and the text goes into a file that must not.
        text = re.sub(r"0x[0-9a-f]+", "0x", str(error)) or type(error).__name__
        raise DataError(text) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels are more than {MAX_PIXELS}")


def _as_jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=quality)
    return stream.getvalue()
