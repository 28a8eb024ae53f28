"""Bands of a raster: which are red, green and blue, which pixels have data, and which values become black and white."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dove_core.data.band_names import COLOURS, colour_places

_LONGEST = 1024
"""Longer side, in pixels, of the reduced image from which percentiles are computed."""

_STRIP = 64
_PERCENTILES = (2, 98)

_OPAQUE = (0, 1, 255)
"""Values of a mask, besides the largest one of its type; an alpha band with many others is not a mask."""

_MOST_OTHERS = 0.05
"""Largest share of other values in a mask, such as those of soft edges."""

_SENTINELS = {-999, -9999, -99999, -32768, -32767, 32767, 65535, -(2**31), 2**31 - 1, 2**32 - 1}
"""Values that often stand for no data; so does every number from 1e19 on."""

_FEWEST, _FEW_SENTINELS = 0.01, 0.001
"""Smallest share of the pixels with a value that is taken for no data, and the same for the numbers above."""

_FEW_VALUES = 32
"""An image with fewer different values may be a map of classes, where each value means something."""

_WIDENED = (257, 256)
"""Factors by which programs write values of 8 bits with 16."""

_VISIBLE = {"red": 0.665, "green": 0.56, "blue": 0.49}
_NEAR = 0.04
"""Wavelengths of the colours, and the largest distance from them, in micrometres."""


@dataclass(frozen=True)
class Look:
    """How values become colours: values that become black and white, values for no data, and what was noticed.

    `alpha` is false if a band that is labelled alpha is not a mask. `stretch` is None for values that stay as they are.
    """

    stretch: tuple[float, float] | None = None
    nodata: tuple[float, ...] = ()
    alpha: bool = True
    notes: tuple[str, ...] = field(default=(), compare=False)


def colour_bands(dataset: Any) -> tuple[tuple[int, ...], bool]:
    """Return the numbers of the bands for red, green and blue, or of one; and whether the file says that they are.

    The file says so by descriptions, wavelengths or colour interpretations of its bands, in this order: many programs
    interpret the first three bands as colours without being asked.
    """
    colours = {kind.name: band for band, kind in enumerate(dataset.colorinterp, start=1)}
    places = colour_places(dataset.descriptions) or _by_wavelength(dataset)
    if places is not None:
        return tuple(place + 1 for place in places), True
    if colours.keys() >= {*COLOURS}:
        return tuple(colours[colour] for colour in COLOURS), True
    visible = [band for band in dataset.indexes if dataset.colorinterp[band - 1].name != "alpha"] or [1]
    return tuple(visible[:3]) if len(visible) >= 3 else (visible[0],), len(visible) == 1


def is_palette(dataset: Any, bands: Sequence[int]) -> bool:
    """Tell whether the values of a band are numbers of colours in its palette."""
    return len(bands) == 1 and dataset.colorinterp[bands[0] - 1].name == "palette"


def look_of(dataset: Any, bands: tuple[int, ...]) -> Look:
    """Return how the values of a scene become colours.

    The stretch has the 2nd and 98th percentile of the values of all its bands, in a reduced image of at most 1,024
    pixels, read from overviews if there are any. Pixels without data, with zeros in all bands, and in unreadable blocks
    are left out. 8-bit values and palettes are not stretched, and 8-bit values written with 16 become what they were.
    """
    alpha, notes = _alpha_is_mask(dataset), list[str]()
    if not alpha:
        notes.append("a band is labelled alpha but has many values that no mask has, so it hides no pixels")
    kinds = {dataset.dtypes[band - 1] for band in bands}
    if kinds == {"uint8"} or is_palette(dataset, bands):
        bits = min(_bits(dataset, band) for band in bands)
        stretch = (0.0, 2.0**bits - 1) if bits < 8 and not is_palette(dataset, bands) else None
        return Look(stretch, (), alpha, tuple(notes))
    strips = [np.zeros((len(bands), 0)), *_reduced(dataset, bands, alpha)]
    values = np.concatenate(strips, axis=1)
    for factor in _WIDENED if kinds == {"uint16"} and values.size else ():
        if not (values % factor).any():
            notes.append(f"all values are multiples of {factor}, so they are taken for 8 bits written with 16")
            return Look((0.0, 255.0 * factor), (), alpha, tuple(notes))
    nodata = tuple(_undeclared(values))
    for value in nodata:
        share = 100 * float((values == value).mean())
        notes.append(
            f"the value {value:g}, {share:.1f} % of all values, is far from all others, so it is taken for no data; "
            f"`gdal_edit.py -a_nodata {value:g}` declares it in the file"
        )
    kept = values[~np.isin(values, nodata)]
    low, high = np.percentile(kept, _PERCENTILES) if kept.size else (0.0, 1.0)
    stretch = (float(low), float(high)) if high > low else (float(low), float(low) + 1)
    return Look(stretch, nodata, alpha, tuple(notes))


def valid_pixels(dataset: Any, bands: Sequence[int], values: np.ndarray, look: Look, **how: Any) -> np.ndarray:
    """Return which pixels `(H, W)` of `values (C, H, W)` are finite and have data in one of their bands.

    Args:
        dataset: the scene, with a mask, an alpha band or a value for no data.
        bands: the numbers of the bands of the values.
        values: what was read.
        look: more values for no data, and whether an alpha band is a mask.
        how: window and shape with which the values were read.
    """
    valid: np.ndarray = np.isfinite(values).all(axis=0)
    nodata = [*look.nodata]
    flags = [{flag.name for flag in dataset.mask_flag_enums[band - 1]} for band in bands]
    if any("all_valid" not in kinds for kinds in flags):
        if look.alpha or not any("alpha" in kinds for kinds in flags):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of rasterio: a scene has an alpha band and a value for no data
                valid &= dataset.read_masks(list(bands), **how).any(axis=0)
        elif dataset.nodata is not None:
            nodata.append(dataset.nodata)
    for value in nodata:
        valid &= (values != value).any(axis=0)
    return valid


def in_colours(dataset: Any, bands: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    """Return `(3, H, W)`: three bands unchanged, one band with its palette, or else as grey."""
    if len(bands) == 3:
        return values
    if is_palette(dataset, bands):
        colours = dataset.colormap(bands[0])
        palette = np.zeros((max(colours, default=0) + 2, 3), np.uint8)  # the last one, black, is for all others
        for value, colour in colours.items():
            palette[value] = colour[:3]
        return np.moveaxis(palette[np.clip(values[0].astype(np.int64), 0, len(palette) - 1)], -1, 0)
    return np.broadcast_to(values, (3, *values.shape[1:]))


def in_eight_bits(dataset: Any, bands: tuple[int, ...], values: np.ndarray, look: Look) -> np.ndarray:
    """Return values `(C, H, W)` as colours `(H, W, 3)` uint8, by the stretch of a look."""
    if look.stretch is not None:
        low, high = look.stretch
        with np.errstate(over="ignore"):  # of huge values for no data, which become black or white
            scaled = (np.nan_to_num(values.astype(np.float32)) - np.float32(low)) * np.float32(255 / (high - low))
        values = scaled.round().clip(0, 255).astype(np.uint8)
    pixels: np.ndarray = np.moveaxis(in_colours(dataset, bands, values), 0, -1)
    return pixels


def _by_wavelength(dataset: Any) -> tuple[int, int, int] | None:
    """Return the places of the bands nearest to the colours, by the wavelengths in the file."""
    lengths = np.array([_wavelength(dataset, band) for band in dataset.indexes])
    places = []
    for colour in COLOURS:
        distances = np.abs(lengths - _VISIBLE[colour])
        if not (distances <= _NEAR).any():
            return None
        places.append(int(np.nanargmin(distances)))
    red, green, blue = places
    return red, green, blue


def _wavelength(dataset: Any, band: int) -> float:
    """Return the wavelength of a band in micrometres; NaN if the file does not say it."""
    tags = dataset.tags(band)
    text = dataset.tags(band, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM") or tags.get("wavelength", "")
    match = re.match(r"\s*(\d+(?:\.\d+)?)", text)
    length = float(match[1]) if match else float("nan")
    return length / 1000 if length > 100 else length


def _bits(dataset: Any, band: int) -> int:
    return int(dataset.tags(band, ns="IMAGE_STRUCTURE").get("NBITS", 8))


def _alpha_is_mask(dataset: Any) -> bool:
    """Tell whether the alpha band, if there is one, has almost only values that a mask has."""
    bands = [band for band in dataset.indexes if dataset.colorinterp[band - 1].name == "alpha"]
    if not bands:
        return True
    name = dataset.descriptions[bands[0] - 1]
    if name and not re.search("alpha|mask|opac|transp|valid", name.lower()):
        return False
    kind = np.dtype(dataset.dtypes[bands[0] - 1])
    masks = [*_OPAQUE, np.iinfo(kind).max if kind.kind in "iu" else 1, 2 ** _bits(dataset, bands[0]) - 1]
    others = total = 0
    for how in _strips(dataset, 1):
        try:
            values = dataset.read(bands[:1], **how)
        except OSError:  # raised by rasterio for a damaged block
            continue
        others, total = others + int((~np.isin(values, masks)).sum()), total + values.size
    return others <= _MOST_OTHERS * total


def _strips(dataset: Any, count: int) -> Iterator[dict[str, Any]]:
    """Yield how to read a reduced image of `count` bands in strips: their windows and shapes."""
    shrink = max(1.0, max(dataset.width, dataset.height) / _LONGEST)
    width, height = max(1, round(dataset.width / shrink)), max(1, round(dataset.height / shrink))
    for start in range(0, height, _STRIP):
        stop = min(start + _STRIP, height)
        rows = (round(start * dataset.height / height), round(stop * dataset.height / height))
        yield {"window": (rows, (0, dataset.width)), "out_shape": (count, stop - start, width)}


def _reduced(dataset: Any, bands: tuple[int, ...], alpha: bool) -> Iterator[np.ndarray]:
    """Yield the valid pixels `(C, n)` of a reduced image of the scene, one strip at a time."""
    for how in _strips(dataset, len(bands)):
        try:
            values = dataset.read(list(bands), **how).astype(np.float64)
            valid = valid_pixels(dataset, bands, values, Look(alpha=alpha), **how) & values.any(axis=0)
        except OSError:  # raised by rasterio for a damaged block
            continue
        yield values[:, valid]


def _undeclared(values: np.ndarray) -> list[float]:
    """Return values of pixels `(C, n)` that are farther from the others than those are wide.

    A pixel has them in all bands; a value that often stands for no data may also be in some bands only.

    Raising no alarm for a few saturated pixels or a map of classes is more important than to find every such value.
    """
    found: list[float] = []
    for end in (np.min, np.max) if values.size else ():
        value = float(end(values))
        is_sentinel = value in _SENTINELS or abs(value) >= 1e19
        same, rest = values == value, values[~np.isin(values, [*found, value])]
        share = same.mean() if is_sentinel else same.all(axis=0).mean()
        if not rest.size or share < (_FEW_SENTINELS if is_sentinel else _FEWEST):
            continue
        low, high = np.percentile(rest, (5, 95))
        is_far = max(low - value, value - high) > high - low
        if is_far and (is_sentinel or len(np.unique(rest[:: 1 + rest.size // 10_000])) >= _FEW_VALUES):
            found.append(value)
    return found
