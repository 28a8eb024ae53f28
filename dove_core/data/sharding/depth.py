"""Bits and bands of an image by the header of its file: Pillow cuts 16 bits to 8 in several formats without a word."""

from __future__ import annotations

import io
import re

from PIL import Image, TiffImagePlugin

from dove_core.data.band_names import colour_places
from dove_core.errors import DataError

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0")
_BIG_BIG = b"MM\0+"
_JPEG_2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
_SIZES = b"\xff\x4f\xff\x51"
"""Markers of JPEG 2000: start of the code stream, then the sizes of the image and of its bands."""

_BITS, _SAMPLES, _FORMATS, _GDAL = 258, 277, 339, 42112
"""Tags of a TIFF: bits of each band, number of bands, type of each band, and GDAL's metadata as XML."""

_MOST_BANDS = 6
"""Bands of a TIFF that Pillow may read; it logs an error for more."""

_TYPES = {1: "uint", 2: "int", 3: "float", 4: "uint", 5: "complex int", 6: "complex"}
_UNSIGNED = (1, 4)
_ADVICE = "convert it to one or three bands of 8 bits"
_OR_CUT = f"{_ADVICE}, or cut it with `dove embed --tile`"
_NAME = re.compile(r'<Item [^>]*sample="(\d+)"[^>]* role="(description|colorinterp)"[^>]*>([^<]*)</Item>')


def check_depth(data: bytes) -> None:
    """Check that an image has at most 8 bits a channel, by the header of its file.

    Raises:
        DataError: it has more, or its values have signs or fractions; the message has the number of bands and the type.
    """
    if data.startswith(_PNG) and data[24:25] == b"\x10":
        raise DataError(f"a PNG with 16 bits a channel: {_ADVICE}")
    if data.startswith(_BIG_BIG):  # not even its header
        raise DataError("a big-endian BigTIFF, in a form that Pillow cannot read: convert it to another form")
    if data.startswith(_TIFF) and _is_deep(data):
        raise DataError(f"{bands_of_tiff(data)}: {_OR_CUT}")
    if data.startswith(_TIFF) and _tags(data).get(_SAMPLES, (1,))[0] > _MOST_BANDS:
        raise DataError(f"{bands_of_tiff(data)}, in a form that Pillow cannot read")
    if data.startswith(_JPEG_2000) and (start := data.find(_SIZES)) >= 0:
        bands = int.from_bytes(data[start + 40 : start + 42], "big")
        bits = [(size & 127) + 1 for size in data[start + 42 : start + 42 + 3 * bands : 3]]
        if max(bits, default=0) > 8:
            raise DataError(f"a JPEG 2000 with {bands} band(s) of {max(bits)} bits: {_OR_CUT}")


def check_bands(image: Image.Image) -> None:
    """Check that Pillow shows the colours of a TIFF: of some with many bands it shows the first one in grey.

    Raises:
        DataError: it does not.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bands = image.tag_v2.get(_SAMPLES, 1)
        if bands >= 3 and len(image.getbands()) < 3:
            message = f"a TIFF with {bands} band(s), of which Pillow reads only the first"
            raise DataError(f"{message}: {_OR_CUT}")


def bands_of_tiff(data: bytes) -> str:
    """Return a description of a TIFF's bands: `a TIFF with 13 band(s) of uint16`; empty for other or damaged files."""
    tags = _tags(data) if data.startswith(_TIFF) else {}
    bits, kind = tags.get(_BITS, (1,)), tags.get(_FORMATS, (1,))
    name = _TYPES.get(kind[0], "unknown type ")
    return f"a TIFF with {tags[_SAMPLES][0] if _SAMPLES in tags else 1} band(s) of {name}{bits[0]}" if tags else ""


def in_order(image: Image.Image) -> Image.Image:
    """Return an image as RGB, with the bands of a TIFF in the order that their descriptions say.

    Raises:
        DataError: red, green or blue is not among the first three bands.
    """
    rgb = image.convert("RGB")
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or len(image.getbands()) < 3:
        return rgb
    text = image.tag_v2.get(_GDAL, "")
    found: dict[str, dict[int, str]] = {"description": {}, "colorinterp": {}}
    for number, role, name in _NAME.findall(text if isinstance(text, str) else ""):
        found[role][int(number)] = name
    for names in found.values():
        places = colour_places([names.get(number) for number in range(max(names, default=-1) + 1)])
        if places is not None and max(places) > 2:
            where = ",".join(str(place + 1) for place in places)
            raise DataError(f"a TIFF whose red, green and blue are the bands {where}: {_OR_CUT}")
        if places is not None:
            bands = rgb.split()
            return rgb if places == (0, 1, 2) else Image.merge("RGB", [bands[place] for place in places])
    return rgb


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
        found = {tag: directory.get(tag) for tag in (_BITS, _SAMPLES, _FORMATS)}
    except Exception:  # on damaged files Pillow raises nearly every kind of error there is; decoding will show it
        return {}
    return {tag: value if isinstance(value, tuple) else (value,) for tag, value in found.items() if value is not None}
