"""Images that Pillow cannot show as they are, read with rasterio and brought to 8 bits as scenes are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from dove_core.data.bands import colour_bands, in_eight_bits, look_of, valid_pixels
from dove_core.errors import DataError, reason_of

_DRIVERS = ("GTiff", "PNG", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID")
"""Drivers of GDAL that may open an image: some others read further files, or addresses, that a file names."""

_CACHE_BYTES = 128 * 2**20


@contextmanager
def opened_raster(data: bytes, what: str) -> Iterator[Any]:
    """Give an image as an open dataset of rasterio.

    Args:
        data: the bytes of its file.
        what: what it is, for the error.

    Raises:
        DataError: rasterio is not installed, or the image is damaged or has complex numbers.
    """
    try:
        import rasterio  # noqa: PLC0415  # an optional package
        from rasterio.errors import NotGeoreferencedWarning, RasterioError  # noqa: PLC0415
    except ImportError:
        raise DataError(f"{what}: `pip install rasterio` to read it, or convert it to three bands of 8 bits") from None
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.MemoryFile(data) as file, file.open(driver=_DRIVERS) as dataset:
                if any("complex" in kind for kind in dataset.dtypes):
                    raise DataError(f"{what}: convert it to an intensity image first")
                yield dataset
    except RasterioError as error:
        raise DataError(f"{what}, damaged or in a form that GDAL cannot read: {reason_of(error)}") from error


def read_raster(dataset: Any, what: str) -> tuple[Image.Image, str]:
    """Return an image in RGB, and how it came about: bands, and the values that became black and white.

    The latter is empty if red, green and blue are where the file says, in 8 bits.

    It is what the tile of a scene would show: see `bands.look_of`. Pixels without data are black.
    """
    bands, are_named = colour_bands(dataset)
    look = look_of(dataset, bands)
    values = dataset.read(list(bands))
    valid = valid_pixels(dataset, bands, values, look)
    pixels = np.where(valid[..., None], in_eight_bits(dataset, bands, values, look), np.uint8(0))
    notes = [what]
    if len(bands) == 3 and (not are_named or bands != (1, 2, 3)):
        notes.append(f"its bands {','.join(map(str, bands))} are taken as red, green and blue")
    if look.stretch is not None:
        low, high = look.stretch
        notes.append(f"its values {low:g} to {high:g} became black to white")
    notes += look.notes
    return Image.fromarray(pixels), "; ".join(notes) if len(notes) > 1 else ""
