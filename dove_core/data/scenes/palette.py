"""The surfaces of one image: colours of the season, roughness, rows."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

Colour = tuple[int, int, int]


class Rows(NamedTuple):
    """Parallel rows on a surface: the heading in radians, metres from row to row, strength 0 to 1."""

    angle: float
    period: float
    strength: float


class Surface(NamedTuple):
    """One surface: its mean colour, and how much each texture changes it (0 none, 0.2 strong)."""

    rgb: Colour
    grain: float = 0.04
    patch: float = 0.04
    tint: float = 0.0
    crowns: float = 0.0
    rock: float = 0.0
    rows: Rows | None = None

    def lit(self, factor: float) -> Surface:
        """Return the same surface brighter or darker, in coarse steps so that an image needs few of them."""
        factor = round(factor * 12) / 12
        red, green, blue = (min(255, round(value * factor)) for value in self.rgb)
        return self._replace(rgb=(red, green, blue))

    def with_rows(self, angle: float, period: float, strength: float) -> Surface:
        """Return the same surface with rows along `angle`."""
        return self._replace(rows=Rows(angle, period, strength))


SEASONS: dict[str, tuple[int, ...]] = {
    "green": (4, 5, 6, 7),
    "dry": (7, 8, 9),
    "autumn": (9, 10, 11),
    "bare": (12, 1, 2, 3),
}
"""Each season with its months in the north."""

_GRASS: dict[str, Colour] = {
    "green": (98, 126, 68), "dry": (156, 146, 98), "autumn": (130, 128, 78), "bare": (124, 118, 88),
}  # fmt: skip
_LEAF: dict[str, Colour] = {
    "green": (60, 88, 50), "dry": (82, 98, 58), "autumn": (112, 92, 48), "bare": (92, 88, 68),
}  # fmt: skip
_CROPS: dict[str, tuple[Colour, ...]] = {
    "green": ((92, 130, 62), (122, 146, 74), (70, 108, 58), (166, 160, 92), (138, 114, 86)),
    "dry": ((196, 174, 116), (178, 152, 104), (132, 134, 78), (152, 122, 92), (98, 118, 66)),
    "autumn": ((168, 142, 96), (126, 122, 72), (146, 112, 82), (184, 162, 108), (104, 112, 64)),
    "bare": ((136, 112, 88), (116, 98, 80), (122, 124, 84), (154, 132, 104), (96, 108, 70)),
}


_WATER: tuple[Colour, ...] = ((42, 70, 92), (50, 84, 92), (58, 82, 70), (36, 56, 76), (64, 102, 124))
_ASPHALT: tuple[Colour, ...] = ((88, 90, 94), (104, 104, 106), (122, 120, 118))
_RED_TILES: tuple[Colour, ...] = ((168, 92, 66), (150, 84, 66), (178, 110, 80))
_TILES: tuple[Colour, ...] = ((122, 98, 84), (100, 100, 106), (140, 138, 136))
_FLATS: tuple[Colour, ...] = ((206, 206, 202), (172, 172, 172), (132, 136, 142), (110, 134, 160), (186, 170, 146))
_CARS: tuple[Colour, ...] = (
    (232, 232, 232), (206, 208, 212), (58, 60, 66), (128, 132, 138), (146, 52, 46), (52, 70, 110),
)  # fmt: skip


class Palette:
    """The surfaces of one image; equal generators give equal palettes."""

    def __init__(self, rng: random.Random, season: str) -> None:
        self._rng = rng
        self.season = season
        self._grow()
        self._lay()
        self._make()

    def _grow(self) -> None:
        """Choose plants."""
        self.grass = self._near(_GRASS[self.season], 0.06, 0.10, 0.5)
        self.lawn = self._near(_mixed(_GRASS[self.season], (96, 134, 66), 0.45), 0.05, 0.05, 0.25)
        self.leaf = self._near(_LEAF[self.season], 0.09, 0.05, 0.2)
        self.needle = self._near((52, 74, 52), 0.09, 0.05, 0.15)
        self.wood = self.leaf._replace(crowns=0.30, patch=0.08, tint=0.5)
        self.conifers = self.needle._replace(crowns=0.34, patch=0.08, tint=0.2)
        self.crops = tuple(self._near(colour, 0.04, 0.07, 0.3) for colour in _CROPS[self.season])
        self.scrub = self._near(_mixed(_GRASS[self.season], (172, 150, 112), 0.6), 0.10, 0.12, 0.7)

    def _lay(self) -> None:
        """Choose bare ground and water."""
        self.sand = self._near((212, 194, 154), 0.04, 0.05, 0.15)._replace(rock=0.05)
        self.soil = self._near((156, 126, 96), 0.06, 0.08, 0.2)
        self.gravel = self._near((158, 148, 132), 0.08, 0.06, 0.1)
        self.rock = self._near((176, 164, 146), 0.08, 0.06, 0.15)._replace(rock=0.07)
        self.water = self._near(self._rng.choice(_WATER), 0.03, 0.06, 0.0)
        self.shallow = self.water._replace(rgb=_mixed(self.water.rgb, (132, 148, 124), 0.35))

    def _make(self) -> None:
        """Choose building materials and cars."""
        self.asphalt = self._near(self._rng.choice(_ASPHALT), 0.04, 0.05, 0.0)
        self.concrete = self._near((182, 178, 168), 0.04, 0.06, 0.05)
        self.paint = Surface((236, 236, 230), 0.03, 0.03)
        self.yellow = Surface((222, 182, 62), 0.03, 0.03)
        self.steel = Surface((196, 200, 204), 0.03, 0.03)
        self.metal = Surface((142, 148, 156), 0.03, 0.03)
        self.dark = Surface((52, 54, 58), 0.03, 0.03)
        tiles = (self._rng.choice(_RED_TILES), *_TILES)
        self.tiles = tuple(self._near(colour, 0.06, 0.03, 0.0) for colour in tiles)
        self.flats = tuple(self._near(colour, 0.03, 0.03, 0.0) for colour in _FLATS)
        self.cars = tuple(Surface(colour, 0.0, 0.0) for colour in _CARS)

    def _near(self, rgb: Colour, grain: float, patch: float, tint: float) -> Surface:
        """Return a surface with a colour near `rgb`."""
        bright = self._rng.uniform(0.92, 1.08)
        red, green, blue = (min(255, round(value * bright * self._rng.uniform(0.97, 1.03))) for value in rgb)
        return Surface((red, green, blue), grain, patch, tint)

    def crop(self, angle: float, period: float) -> Surface:
        """Return a field's surface with rows along or across `angle`."""
        field = self._rng.choice(self.crops)
        heading = angle + self._rng.choice([0, math.pi / 2])
        return field.lit(self._rng.uniform(0.9, 1.1)).with_rows(heading, period, self._rng.uniform(0.03, 0.12))

    def tree(self) -> Surface:
        """Return a crown's colour."""
        kind = self.needle if self._rng.random() < 0.2 else self.leaf
        return kind.lit(self._rng.uniform(0.85, 1.25))


def _mixed(first: Colour, second: Colour, share: float) -> Colour:
    """Return `first` with `share` of `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
