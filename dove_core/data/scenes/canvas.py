"""The canvas of a scene: surfaces, standing objects with shadows, and the ground that is still free."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dove_core.data.scenes.palette import Surface
from dove_core.data.scenes.shapes import Disc, Point, Shape

PIXELS = 256
"""Width and height of an image."""

FINE = 3
"""Drawn pixels along a side of one final pixel: smooth edges."""


class Sun(NamedTuple):
    """Direction of the light: `angle` in radians from east to north, and metres of shadow a metre of height."""

    angle: float
    reach: float


class Mask:
    """Ground that is taken, one cell a pixel."""

    def __init__(self, gsd: float) -> None:
        self._image = Image.new("L", (PIXELS, PIXELS))
        self._draw = ImageDraw.Draw(self._image)
        self._cells = self._image.load()
        self._scale = 1 / gsd

    def add(self, shape: Shape) -> None:
        """Take the ground under a shape."""
        _paint(self._draw, shape, self._scale, PIXELS / 2, 255)

    def add_line(self, points: Sequence[Point], width: float) -> None:
        """Take the ground under a line."""
        self._draw.line(_flat(points, self._scale, PIXELS / 2), 255, max(1, round(width * self._scale)))

    def has(self, x: float, y: float, radius: float = 0.0) -> bool:
        """Tell whether ground at (x, y), or `radius` away, is taken; beyond the border, the border counts."""
        probes = ((0, 0), (radius, 0), (-radius, 0), (0, radius), (0, -radius)) if radius else ((0, 0),)
        return any(self._at(x + dx, y + dy) for dx, dy in probes)

    def _at(self, x: float, y: float) -> bool:
        column = min(max(int(PIXELS / 2 + x * self._scale), 0), PIXELS - 1)
        row = min(max(int(PIXELS / 2 - y * self._scale), 0), PIXELS - 1)
        assert self._cells is not None  # only of images without pixels
        return bool(self._cells[column, row])


class Ink(NamedTuple):
    """A surface and its label: the tag of a surrounding, or "" for the object in focus."""

    material: Surface
    label: str


class _Standing(NamedTuple):
    label: str
    outline: Shape
    height: float
    surfaces: tuple[tuple[Shape, int], ...]
    afloat: bool


class Canvas:
    """One image while it is drawn: numbers of inks on a fine grid, and a mask of shadows.

    Flat objects are drawn at once. Standing objects are kept until `finish`, so that shadows fall on everything flat
    and on nothing that stands.

    Attributes:
        rng: the image's own random numbers.
        gsd: metres a final pixel.
        side: metres across the image.
        label: the tag of what is drawn now, such as `landuse=grass`; "" for the object in focus.
        taken: ground where surroundings must not put anything.
    """

    def __init__(self, rng: random.Random, gsd: float, sun: Sun) -> None:
        self.rng, self.gsd, self.sun = rng, gsd, sun
        self.side = PIXELS * gsd
        self.label = ""
        self.taken = Mask(gsd)
        self.inks: list[Ink] = []
        self.drawn = Image.new("L", (PIXELS * FINE, PIXELS * FINE))
        self.shadows = Image.new("L", (PIXELS * FINE, PIXELS * FINE))
        self._numbers: dict[Ink, int] = {}
        self._draw, self._shade = ImageDraw.Draw(self.drawn), ImageDraw.Draw(self.shadows)
        self._scale, self._middle = FINE / gsd, PIXELS * FINE / 2
        self._standing: list[_Standing] = []

    def mark(self, width: float) -> float:
        """Return a painted line's width in metres, at least what is visible at this scale."""
        return max(width, 0.9 * self.gsd)

    def fill(self, shape: Shape, material: Surface) -> None:
        """Lay a surface."""
        _paint(self._draw, shape, self._scale, self._middle, self._number(material))

    def fill_all(self, material: Surface) -> None:
        """Lay a surface over the whole image."""
        self._draw.rectangle((0, 0, PIXELS * FINE, PIXELS * FINE), self._number(material))

    def line(self, points: Sequence[Point], width: float, material: Surface) -> None:
        """Lay a strip `width` metres wide along points."""
        thick = max(1, round(width * self._scale))
        joint = "curve" if len(points) > 2 and thick > 5 else None
        self._draw.line(_flat(points, self._scale, self._middle), self._number(material), thick, joint)

    def dashes(self, start: Point, stop: Point, width: float, dash: float, gap: float, material: Surface) -> None:
        """Lay dashes of `dash` metres with gaps from `start` to `stop`."""
        length = math.dist(start, stop)
        dx, dy = (stop[0] - start[0]) / length, (stop[1] - start[1]) / length
        for i in range(int(length / (dash + gap))):
            a = i * (dash + gap)
            b = a + dash
            ends = [(start[0] + dx * a, start[1] + dy * a), (start[0] + dx * b, start[1] + dy * b)]
            self.line(ends, width, material)

    def stand(
        self, outline: Shape, height: float, surfaces: Iterable[tuple[Shape, Surface]], *, afloat: bool = False
    ) -> None:
        """Put up an object `height` metres high with the shadow of `outline`; `afloat`: of the top only, as of a wing.

        `surfaces` are seen from above, drawn in this order.
        """
        if self._beyond(outline, height * self.sun.reach):
            return
        numbered = tuple((shape, self._number(material)) for shape, material in surfaces)
        self._standing.append(_Standing(self.label, outline, height, numbered, afloat))

    def finish(self) -> None:
        """Draw all shadows, then all standing objects; leave out surroundings whose ground was taken since."""
        cells = np.asarray(self.drawn)
        kept = [thing for thing in self._standing if not thing.label or self._on_own_ground(thing, cells)]
        del cells  # the image is drawn on again
        for thing in kept:
            self._throw(thing.outline, thing.height, thing.afloat)
        for thing in kept:
            for shape, number in thing.surfaces:
                _paint(self._shade, shape, self._scale, self._middle, 0)
                _paint(self._draw, shape, self._scale, self._middle, number)
        self._standing.clear()

    def deck(self, outline: Shape, height: float) -> None:
        """Draw the shadow of a flat object above the ground, such as a bridge, which is drawn after this."""
        self._throw(outline, height, afloat=True)
        _paint(self._shade, outline, self._scale, self._middle, 0)

    def _beyond(self, outline: Shape, margin: float) -> bool:
        """Tell whether an object and its shadow are outside the image."""
        edge = self.side / 2 + margin
        if isinstance(outline, Disc):
            return max(abs(outline.x), abs(outline.y)) - outline.radius > edge
        xs, ys = [x for x, _ in outline], [y for _, y in outline]
        return min(xs) > edge or max(xs) < -edge or min(ys) > edge or max(ys) < -edge

    def _on_own_ground(self, thing: _Standing, cells: npt.NDArray[np.uint8]) -> bool:
        x, y = thing.outline[:2] if isinstance(thing.outline, Disc) else thing.outline[0]
        column, row = int(self._middle + x * self._scale), int(self._middle - y * self._scale)
        if not (0 <= column < PIXELS * FINE and 0 <= row < PIXELS * FINE):
            return True
        return self.inks[int(cells[row, column])].label == thing.label

    def _throw(self, outline: Shape, height: float, afloat: bool) -> None:
        reach = height * self.sun.reach
        dx, dy = -reach * math.cos(self.sun.angle), -reach * math.sin(self.sun.angle)
        if isinstance(outline, Disc):
            x, y, radius = outline
            ox, oy = radius * math.sin(self.sun.angle), -radius * math.cos(self.sun.angle)
            swept = [(x + ox, y + oy), (x - ox, y - oy), (x - ox + dx, y - oy + dy), (x + ox + dx, y + oy + dy)]
            shapes: list[Shape] = [Disc(x + dx, y + dy, radius)] if afloat else [Disc(x + dx, y + dy, radius), swept]
        else:
            far = [(x + dx, y + dy) for x, y in outline]
            shapes = [far]
            if not afloat:
                # Sides that face the sun sweep over the object itself; only boxes are known to run counterclockwise.
                shapes += [
                    (outline[i - 1], outline[i], far[i], far[i - 1])
                    for i in range(len(far))
                    if len(far) != 4 or _faces(outline[i - 1], outline[i], dx, dy)
                ]
        for shape in shapes:
            _paint(self._shade, shape, self._scale, self._middle, 255)

    def _number(self, material: Surface) -> int:
        ink = Ink(material, self.label)
        number = self._numbers.get(ink)
        if number is None:
            number = self._numbers[ink] = len(self.inks)
            self.inks.append(ink)
            if number > 255:
                raise ValueError("an image has more than 256 inks")
        return number


def _faces(start: Point, stop: Point, dx: float, dy: float) -> bool:
    """Tell whether a side of a counterclockwise outline faces the way (dx, dy)."""
    return (stop[1] - start[1]) * dx - (stop[0] - start[0]) * dy > 0


def _flat(points: Sequence[Point], scale: float, middle: float) -> list[float]:
    return [value for x, y in points for value in (middle + x * scale, middle - y * scale)]


def _paint(draw: ImageDraw.ImageDraw, shape: Shape, scale: float, middle: float, value: int) -> None:
    if isinstance(shape, Disc):
        x, y, radius = middle + shape.x * scale, middle - shape.y * scale, shape.radius * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), value)
    else:
        draw.polygon(_flat(shape, scale, middle), value)
