"""The one look at an image before training: a damaged one never gets into a shard, a large one may become smaller."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import simplejpeg
from PIL import Image, UnidentifiedImageError

from dove_core.errors import DataError

MAX_PIXELS = 100_000_000
"""Largest image that is decoded; a small file can unfold to far more than the memory holds."""

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000")
"""What Pillow may open: some of its other readers run outside programs."""

_EIGHT_BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
_KEPT = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}
"""Colour spaces of JPEGs that keep their bytes, and what they are decoded to."""

_PADDING = b"\0\n\r "
_LAST_BYTES = 256


@dataclass(frozen=True, slots=True)
class Look:
    """How images are looked at and stored: settings of `ShardConfig` under the same names."""

    verify: str = "full"
    image_size: int = 0
    image_format: str = "jpeg"
    quality: int = 95


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as it goes into a tar: an RGB or grey JPEG, or a WebP; its size in pixels; its ending there."""

    data: bytes
    width: int
    height: int
    ending: str = ".jpg"


def read_image(data: bytes, look: Look) -> StoredImage:
    """Check an image; keep its own bytes if it is an RGB or grey JPEG of the wanted size, else encode it anew.

    With `verify="full"` every byte of a JPEG is decoded, at an eighth of its size: the pixels are not wanted, and
    damage shows all the same. With `"header"` its first and last bytes must be right; one with an odd end is decoded.

    Pillow warns of odd files; the caller silences warnings.

    Raises:
        DataError: this is no image, or it is damaged, too large, or has more than 8 bits a channel.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
            _check_size(width, height)
            if space in _KEPT:
                return _jpeg(data, width, height, _KEPT[space], look)
        return _other(data, look)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{len(data)} bytes that are no image") from None
    except Exception as error:  # on damaged files Pillow's readers raise nearly every kind there is
        # Addresses differ from run to run, and the text goes into a file that must not.
        text = re.sub(r"0x[0-9a-f]+", "0x", str(error)) or type(error).__name__
        raise DataError(text) from error


def check_header(data: bytes) -> None:
    """Look at an image's header only, before somebody decodes it; the caller silences warnings. A PPM will do too.

    Raises:
        DataError: this is no image, or it is too large, or has more than 8 bits a channel.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            _check_size(width, height)
            return
        with Image.open(io.BytesIO(data), formats=(*_FORMATS, "PPM")) as image:
            _check_size(*image.size)
            _check_mode(image.mode)
    except DataError:
        raise
    except Exception as error:  # on damaged files Pillow's readers raise nearly every kind there is
        is_none = isinstance(error, UnidentifiedImageError)
        raise DataError(f"{len(data)} bytes that are no image" if is_none else str(error)) from error


def _jpeg(data: bytes, width: int, height: int, space: str, look: Look) -> StoredImage:
    new_width, new_height = _smaller(width, height, look.image_size)
    if (new_width, new_height) != (width, height):
        # Twice the wanted size is enough for a good resize, and libjpeg-turbo brings it at a fraction of the work.
        pixels = simplejpeg.decode_jpeg(data, space, min_height=2 * new_height, min_width=2 * new_width)
        image = Image.fromarray(pixels[:, :, 0] if space == "GRAY" else pixels)
        return _encoded(image.resize((new_width, new_height), Image.Resampling.LANCZOS), look)
    if look.verify == "full" or not data[-_LAST_BYTES:].rstrip(_PADDING).endswith(b"\xff\xd9"):
        simplejpeg.decode_jpeg(data, space, fastdct=True, fastupsample=True, min_height=1, min_width=1)
    return StoredImage(data, width, height)


def _other(data: bytes, look: Look) -> StoredImage:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _check_size(*image.size)
        image.load()
        _check_mode(image.mode)
        size = _smaller(*image.size, look.image_size)
        plain = image.convert("RGB")
        return _encoded(plain if size == plain.size else plain.resize(size, Image.Resampling.LANCZOS), look)


def _smaller(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the size with a shorter side of at most `side` pixels; 0 leaves it as it is."""
    shorter = min(width, height)
    if not side or shorter <= side:
        return width, height
    return max(1, round(width * side / shorter)), max(1, round(height * side / shorter))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels are more than {MAX_PIXELS}")


def _check_mode(mode: str) -> None:
    if mode not in _EIGHT_BIT:
        raise DataError(f"mode {mode} has more than 8 bits a channel: convert the image first")


def _encoded(image: Image.Image, look: Look) -> StoredImage:
    stream = io.BytesIO()
    image.save(stream, look.image_format.upper(), quality=look.quality)
    return StoredImage(
        stream.getvalue(), *image.size, ".jpg" if look.image_format == "jpeg" else f".{look.image_format}"
    )
