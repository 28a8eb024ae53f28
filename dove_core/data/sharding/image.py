"""The check of an image before it goes into a shard: a damaged one is refused, a large one may be made smaller."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from PIL import Image, UnidentifiedImageError

from dove_core.config import ShardConfig
from dove_core.data.file_kinds import is_pointer
from dove_core.data.jpegs import SIDEWAYS, TURNS, decode_warned, jpeg_header, orientation, turn_of, turned, upright_size
from dove_core.data.sharding.depth import bands_of_tiff, beyond_pillow, in_order, turn_of_tiff
from dove_core.data.sharding.raster import opened_raster, read_raster
from dove_core.errors import DataError

MAX_IMAGE_BYTES = 256 * 2**20
"""Largest file that is read as an image; a larger one is a mistake or an attack."""

MAX_PIXELS = 100_000_000
"""Largest image that is decoded; a small file can expand to far more than the memory holds."""

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
"""Formats that Pillow may open: some of its other readers run outside programs."""

_EIGHT_BIT = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
_KEPT = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}
"""Colour spaces of JPEGs whose bytes are kept, and the spaces they are decoded to."""

_PADDING = b"\0\n\r "
_LAST_BYTES = 256


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as it goes into a tar: an RGB or grey JPEG, or a WebP; its size in pixels; its file name's ending.

    `warning` says what the decoder of the original JPEG warned of; such an image may be damaged in part. `note` says
    how an image of more than 8 bits a channel was brought to 8.
    """

    data: bytes
    width: int
    height: int
    ending: str = ".jpg"
    warning: str = ""
    note: str = ""


class NotAnImageError(DataError):
    """These bytes are not an image in a known format."""


def read_image(data: bytes, config: ShardConfig) -> StoredImage:
    """Check an image; keep the bytes of an RGB or grey JPEG of the wanted size, encode any other again.

    An image that its EXIF data turn is stored turned, as viewers show it: not every reader of shards looks at them.

    With `verify="full"` every byte of a JPEG is decoded, at an eighth of its size, which still shows damage. With
    `"header"` only its first and last bytes are checked; one with an unusual end is decoded.

    Pillow warns of odd files; the caller silences warnings.

    Raises:
        DataError: this is not an image, it is damaged or too large, or it needs rasterio, which is not installed.
    """
    with _damage_named(data):
        if data.startswith(b"\xff\xd8"):
            height, width, space = jpeg_header(data)
            _check_size(width, height)
            if space in _KEPT and not orientation(data) > 1:
                return _jpeg(data, width, height, _KEPT[space], config)
        return _other(data, config)


def check_header(data: bytes) -> None:
    """Check an image's header only, before it is decoded. The caller silences warnings.

    Raises:
        DataError: this is not an image, or it is too large.
    """
    if not data.startswith(b"\xff\xd8"):
        image_size(data)
        return
    with _damage_named(data):
        height, width, _ = jpeg_header(data)
        _check_size(width, height)


def image_size(data: bytes) -> tuple[int, int]:
    """Return the width and height in the header of an image that is not a JPEG.

    Raises:
        DataError: as `check_header`.
    """
    with _damage_named(data):
        if what := beyond_pillow(data):
            with opened_raster(data, what) as dataset:
                _check_size(dataset.width, dataset.height)
                size = dataset.width, dataset.height
                return size[::-1] if _turn_of_raster(data) >= SIDEWAYS else size
        with _opened(data) as image:
            return upright_size(image)


def decode_rgb(data: bytes) -> Image.Image:
    """Decode an image that is not a JPEG to RGB; errors are those of `decode_noted`."""
    return decode_noted(data)[0]


def decode_noted(data: bytes) -> tuple[Image.Image, str]:
    """Decode an image that is not a JPEG to RGB; return also how it was brought to 8 bits a channel, if it was.

    Images that Pillow shows as they are are read by Pillow, all others by rasterio.

    Raises:
        DataError: this is not an image, it is damaged or too large, or it needs rasterio, which is not installed.
    """
    with _damage_named(data):
        if what := beyond_pillow(data):
            with opened_raster(data, what) as dataset:
                _check_size(dataset.width, dataset.height)
                image, note = read_raster(dataset, what)
            turn = _turn_of_raster(data)
            return (image.transpose(TURNS[turn]) if turn > 1 else image), note
        with _opened(data) as image:
            return turned(in_order(image), image), ""


@contextmanager
def _damage_named(data: bytes) -> Iterator[None]:
    """Turn the errors of decoders into DataErrors."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        if is_pointer(data):
            raise DataError("a pointer of Git LFS, not the image; fetch it with git lfs pull") from None
        what = bands_of_tiff(data)
        if what:
            raise DataError(f"{what}, in a form that Pillow cannot read") from None
        raise NotAnImageError(f"{len(data)} bytes that are not an image") from None
    except Exception as error:  # on damaged files Pillow's readers raise nearly every kind there is
        # Addresses differ from run to run, and the text goes into a file that must not.
        text = re.sub(r"0x[0-9a-f]+", "0x", str(error)) or type(error).__name__
        raise DataError(text) from error


def _jpeg(data: bytes, width: int, height: int, space: str, config: ShardConfig) -> StoredImage:
    warning, (new_width, new_height) = "", _smaller(width, height, config.image_size)
    if (new_width, new_height) != (width, height):
        # Twice the wanted size is enough for a good resize, and libjpeg-turbo decodes it with a fraction of the work.
        pixels, warning = decode_warned(data, space, min_height=2 * new_height, min_width=2 * new_width)
        image = Image.fromarray(pixels[:, :, 0] if space == "GRAY" else pixels)
        return _encoded(image.resize((new_width, new_height), Image.Resampling.LANCZOS), config, warning)
    if config.verify == "full" or not data[-_LAST_BYTES:].rstrip(_PADDING).endswith(b"\xff\xd9"):
        warning = decode_warned(data, space, fastdct=True, fastupsample=True, min_height=1, min_width=1)[1]
    return StoredImage(data, width, height, warning=warning)


def _other(data: bytes, config: ShardConfig) -> StoredImage:
    plain, note = decode_noted(data)
    size = _smaller(*plain.size, config.image_size)
    image = plain if size == plain.size else plain.resize(size, Image.Resampling.LANCZOS)
    return replace(_encoded(image, config), note=note)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Give an image, opened by Pillow, whose header is checked."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _check_size(*image.size)
        _check_mode(image.mode)
        yield image


def _turn_of_raster(data: bytes) -> int:
    """Return the orientation of an image that rasterio reads as it is stored."""
    if not data.startswith(b"\x89PNG"):
        return turn_of_tiff(data)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return turn_of(image)


def _smaller(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the size with a shorter side of at most `side` pixels; 0 leaves it as it is."""
    shorter = min(width, height)
    if not side or shorter <= side:
        return width, height
    return max(1, round(width * side / shorter)), max(1, round(height * side / shorter))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{width} x {height} pixels are more than {MAX_PIXELS}: cut it with `dove embed FILE --tile 256`"
        )


def _check_mode(mode: str) -> None:
    if mode not in _EIGHT_BIT:
        raise DataError(f"mode {mode} has more than 8 bits a channel: convert the image first")


def _encoded(image: Image.Image, config: ShardConfig, warning: str = "") -> StoredImage:
    stream = io.BytesIO()
    image.save(stream, config.image_format.upper(), quality=config.quality)
    ending = ".jpg" if config.image_format == "jpeg" else f".{config.image_format}"
    return StoredImage(stream.getvalue(), *image.size, ending, warning)
