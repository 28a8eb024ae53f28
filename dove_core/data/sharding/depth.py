"""Bits and bands of an image by the header of its file: Pillow cuts 16 bits to 8 in several formats without a word."""

from __future__ import annotations

import io
import re

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from dove_core.data.band_names import Triple, colour_places

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0")
_BIG_BIG = b"MM\0+"
_JPEG_2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
_SIZES = b"\xff\x4f\xff\x51"
"""Markers of JPEG 2000: start of the code stream, then the sizes of the image and of its bands."""

_BITS, _ORIENTATION, _SAMPLES, _FORMATS, _GDAL = 258, 274, 277, 339, 42112
"""Tags of a TIFF: bits of each band, the side that is up, number of bands, type of each, and GDAL's metadata as XML."""

_MOST_BANDS = 6
"""Bands of a TIFF that Pillow may read; it logs an error for more."""

_TYPES = {1: "uint", 2: "int", 3: "float", 4: "uint", 5: "complex int", 6: "complex"}
_UNSIGNED = (1, 4)
_NAME = re.compile(r'<Item [^>]*sample="(\d+)"[^>]* role="(description|colorinterp)"[^>]*>([^<]*)</Item>')


def beyond_pillow(data: bytes) -> str:
    """Return what an image is that Pillow cuts to 8 bits, shows in part, or cannot read; empty for other images.

    It has more than 8 bits a channel, values with signs or fractions, or bands of which Pillow does not show red, green
    and blue. The description has the number of bands and their type.
    """
    if data.startswith(_PNG):
        return "a PNG with 16 bits a channel" if data[24:25] == b"\x10" else ""
    if data.startswith(_BIG_BIG):  # Pillow cannot read its header
        return "a big-endian BigTIFF"
    if data.startswith(_TIFF):
        is_deep = _is_deep(data) or _tags(data).get(_SAMPLES, (1,))[0] > _MOST_BANDS
        return bands_of_tiff(data) if is_deep or not _is_shown(data) else ""
    if data.startswith(_JPEG_2000) and (start := data.find(_SIZES)) >= 0:
        bands = int.from_bytes(data[start + 40 : start + 42], "big")
        bits = [(size & 127) + 1 for size in data[start + 42 : start + 42 + 3 * bands : 3]]
        return f"a JPEG 2000 with {bands} band(s) of {max(bits)} bits" if max(bits, default=0) > 8 else ""
    return ""


def turn_of_tiff(data: bytes) -> int:
    """Return the orientation in the header of a TIFF, 1 to 8; 1 for other files."""
    found = _tags(data).get(_ORIENTATION, (1,))[0] if data.startswith(_TIFF) else 1
    return found if 1 <= found <= 8 else 1


def bands_of_tiff(data: bytes) -> str:
    """Return a description of a TIFF's bands: `a TIFF with 13 band(s) of uint16`; empty for other or damaged files."""
    tags = _tags(data) if data.startswith(_TIFF) else {}
    bits, kind = tags.get(_BITS, (1,)), tags.get(_FORMATS, (1,))
    name = _TYPES.get(kind[0], "unknown type ")
    return f"a TIFF with {tags[_SAMPLES][0] if _SAMPLES in tags else 1} band(s) of {name}{bits[0]}" if tags else ""


def in_order(image: Image.Image) -> Image.Image:
    """Return an image as RGB, with the bands of a TIFF in the order that their descriptions say."""
    rgb, places = image.convert("RGB"), _places(image)
    if places is None or places == (0, 1, 2):
        return rgb
    bands = rgb.split()
    return Image.merge("RGB", [bands[place] for place in places])


def _places(image: Image.Image) -> Triple | None:
    """Return the places of red, green and blue by the descriptions in a TIFF; None if it does not say them."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or len(image.getbands()) < 3:
        return None
    text = image.tag_v2.get(_GDAL, "")
    found: dict[str, dict[int, str]] = {"description": {}, "colorinterp": {}}
    for number, role, name in _NAME.findall(text if isinstance(text, str) else ""):
        found[role][int(number)] = name
    listed = ([names.get(number) for number in range(max(names, default=-1) + 1)] for names in found.values())
    return next((places for names in listed if (places := colour_places(names)) is not None), None)


def _is_shown(data: bytes) -> bool:
    """Tell whether Pillow reads a TIFF and shows the right bands: of some with many it shows the first one in grey."""
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            bands = image.tag_v2.get(_SAMPLES, 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
            return (bands < 3 or len(image.getbands()) >= 3) and max(_places(image) or (0,)) <= 2
    except UnidentifiedImageError:
        return not _tags(data)  # without them it is damaged
    except Exception:  # Pillow raises nearly every kind of error on damaged files; decoding will show it
        return True


def _is_deep(data: bytes) -> bool:
    tags = _tags(data)
    return max(tags.get(_BITS, (1,))) > 8 or any(kind not in _UNSIGNED for kind in tags.get(_FORMATS, (1,)))


def _tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """Return some tags of the first image in a TIFF; none if its header is damaged."""
    try:
        header = data[: 16 if data[2:3] == b"+" else 8]
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        stream = io.BytesIO(data)
        stream.seek(directory.next)
        directory.load(stream)
        found = {tag: directory.get(tag) for tag in (_BITS, _ORIENTATION, _SAMPLES, _FORMATS)}
    except Exception:  # on damaged files Pillow raises nearly every kind of error there is; decoding will show it
        return {}
    return {tag: value if isinstance(value, tuple) else (value,) for tag, value in found.items() if value is not None}
