"""Red, green and blue among the bands of an image, found by the names of the bands."""

from __future__ import annotations

import re
from collections.abc import Sequence

COLOURS = ("red", "green", "blue")

Triple = tuple[int, int, int]
"""Places of red, green and blue, counted from 0."""

_OTHERS = {"edge", "infra", "infrared", "nir", "swir", "coastal", "deep", "alpha", "mask", "cloud", "qa"}
"""Words that make a name with a colour another band: red edge, near infra-red, coastal blue."""

_NUMBERED = re.compile(
    r"(?:.*?[_ .:-])??(?P<sensor>sr_|sur_refl_|st_)?(?:b|band)[ _-]?(?P<number>\d{1,2})(?P<letter>a?)"
)
_LANDSAT_8 = ("4", "3", "2")  # and of Sentinel-2
_LANDSAT_7 = ("3", "2", "1")
_MODIS = ("1", "4", "3")
_OF_LANDSAT_7 = {"1", "2", "3", "4", "5", "7"}


def colour_places(names: Sequence[str | None]) -> Triple | None:
    """Return the places of red, green and blue among bands of these names; None if the names do not say them.

    Names may have the colours as words (`Red`, `B4 (red)`, `r`), or numbers of Sentinel-2, Landsat or MODIS (`B04`,
    `SR_B4`, `sur_refl_b01`). Numbers that only count the bands (`Band 1`, `Band 2`, ...) say nothing.

    >>> colour_places(["blue", "green", "red", "nir"])
    (2, 1, 0)
    >>> colour_places(["B02", "B03", "B04", "B08"])
    (2, 1, 0)
    >>> colour_places(["Band 1", "Band 2", "Band 3"])
    """
    plain = [(name or "").strip().lower() for name in names]
    return _by_words(plain) or _by_numbers(plain)


def _by_words(names: Sequence[str]) -> Triple | None:
    red, green, blue = (_place_of(names, colour) for colour in COLOURS)
    return None if red is None or green is None or blue is None else (red, green, blue)


def _place_of(names: Sequence[str], colour: str) -> int | None:
    """Return the place of a colour: of the name that is the colour, else of the only name with it as a word."""
    exact = [place for place, name in enumerate(names) if name in (colour, colour[0])]
    others = _OTHERS | ({*COLOURS} - {colour})
    words = [set(re.findall(r"[a-z]+", name)) for name in names]
    places = exact or [place for place, these in enumerate(words) if colour in these and not these & others]
    return places[0] if len(places) == 1 else None


def _by_numbers(names: Sequence[str]) -> Triple | None:
    matches = [_NUMBERED.fullmatch(name) for name in names]
    sensors = {match["sensor"] for match in matches if match}
    counts = [match["number"] + match["letter"] if match and match["sensor"] != "st_" else "" for match in matches]
    if sensors <= {None} and counts == [str(place) for place in range(1, len(names) + 1)]:
        return None
    places = {number.lstrip("0"): place for place, number in reversed([*enumerate(counts)])}
    wanted = _MODIS if sensors == {"sur_refl_"} else _LANDSAT_8
    if _OF_LANDSAT_7 <= places.keys() <= _OF_LANDSAT_7 | {"", "8"}:
        wanted = _LANDSAT_7  # its band 6 is thermal: ST_B6
    if not {*wanted} <= places.keys():
        return None
    red, green, blue = (places[number] for number in wanted)
    return red, green, blue
