"""JPEGs decoded by libjpeg-turbo, and as Pillow does where it only warns; and the side that is up in an image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, TiffImagePlugin

SIDEWAYS = 5
"""The first of the orientations, up to 8, that swap width and height."""

_EXIF, _HEADER = b"Exif\0\0", 2**16
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What turns an image of each orientation."""


def jpeg_header(data: bytes) -> tuple[int, int, str]:
    """Return height, width and colour space of a JPEG as it is stored.

    Raises:
        ValueError: the header is damaged, and Pillow cannot read it either.
    """
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        try:
            with _opened(data) as image:
                spaces = {"L": "Gray", "RGB": "YCbCr"}
                return image.height, image.width, spaces.get(image.mode, image.mode)
        except OSError:
            raise error from None  # its reason is better than Pillow's, which has an address
    return height, width, space


def decode_jpeg(data: bytes, space: str = "RGB", **how: Any) -> np.ndarray:
    """Decode a JPEG; arguments and errors are those of `decode_warned`, but warnings are not returned."""
    return decode_warned(data, space, **how)[0]


def decode_warned(data: bytes, space: str = "RGB", **how: Any) -> tuple[np.ndarray, str]:
    """Decode a JPEG to `(H, W, 3)`, or `(H, W, 1)` with space "GRAY", uint8, as it is stored; return warnings too.

    libjpeg only warns of padding, odd markers and the like, and every viewer shows such images; simplejpeg takes its
    warnings for errors. So what simplejpeg refuses is decoded if Pillow, which knows a truncated file, can decode it.

    Args:
        data: the JPEG.
        space: RGB or GRAY.
        how: `min_height` and the like of `simplejpeg.decode_jpeg`; Pillow decodes at full size.

    Raises:
        ValueError, OSError: the JPEG is damaged.
    """
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, space, **how)
    except ValueError as error:
        try:
            with _opened(data) as image:
                pixels = np.array(image.convert("L" if space == "GRAY" else "RGB"))
        except Exception:
            raise error from None  # its reason is better than Pillow's
        return pixels[:, :, None] if space == "GRAY" else pixels, str(error)
    return pixels, ""


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("JPEG",))


def upright_jpeg(data: bytes, **how: Any) -> np.ndarray:
    """Decode a JPEG to `(H, W, 3)` uint8, turned as its EXIF data say; arguments and errors are those of `decode_jpeg`.

    `min_height` and `min_width` are of the turned image.
    """
    turn = orientation(data)
    if turn >= SIDEWAYS and "min_height" in how:
        how = {**how, "min_height": how["min_width"], "min_width": how["min_height"]}
    pixels = decode_jpeg(data, **how)
    return np.array(Image.fromarray(pixels).transpose(TURNS[turn])) if turn > 1 else pixels


def orientation(data: bytes) -> int:
    """Return the orientation in the EXIF data of a JPEG, 1 to 8; 1 if there are none or they are damaged."""
    if data.find(_EXIF, 0, _HEADER) < 0:
        return 1
    try:
        with _opened(data) as image:
            return turn_of(image)
    except Exception:  # as in `turn_of`
        return 1


def turned(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """Return the decoded `pixels` of an image, turned as its EXIF data say; as they are if there are none."""
    turn = turn_of(image)
    return pixels.transpose(TURNS[turn]) if turn > 1 else pixels


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height that an image has after `turned`, before it is decoded."""
    is_turned = isinstance(image, TiffImagePlugin.TiffImageFile)  # by Pillow itself
    return image.size[::-1] if not is_turned and turn_of(image) >= SIDEWAYS else image.size


def turn_of(image: Image.Image) -> int:
    """Return the orientation in the EXIF data of an image, 1 to 8; 1 if there are none or they are damaged."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises nearly every kind of error on damaged EXIF data
        return 1
    return found if found in TURNS else 1
