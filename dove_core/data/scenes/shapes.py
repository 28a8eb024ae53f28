"""Points and outlines on the ground, in metres: x east, y north, (0, 0) the middle of the image."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Point = tuple[float, float]


class Disc(NamedTuple):
    """A circle filled."""

    x: float
    y: float
    radius: float


Shape = Disc | Sequence[Point]


@dataclass(frozen=True)
class Pose:
    """A position and a heading: shapes drawn in it are turned and moved together.

    `x` runs forward along the heading `angle` (radians, from east to north), `y` to the left.
    """

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0

    def at(self, x: float, y: float) -> Point:
        """Return where a local point lies on the ground."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.x + x * cos - y * sin, self.y + x * sin + y * cos

    def path(self, points: Sequence[Point]) -> list[Point]:
        """Return where local points lie on the ground."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return [(self.x + x * cos - y * sin, self.y + x * sin + y * cos) for x, y in points]

    def box(self, x: float, y: float, length: float, width: float) -> list[Point]:
        """Return the corners of a rectangle about local (x, y), `length` along the heading."""
        a, b = length / 2, width / 2
        return self.path([(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)])

    def disc(self, x: float, y: float, radius: float) -> Disc:
        """Return a circle about local (x, y)."""
        return Disc(*self.at(x, y), radius)

    def turned(self, x: float, y: float, angle: float = 0.0) -> Pose:
        """Return a frame at local (x, y), turned by `angle` against this one."""
        return Pose(*self.at(x, y), self.angle + angle)


def arc(x: float, y: float, radius: float, start: float, stop: float, steps: int = 24) -> list[Point]:
    """Return points along a circle from angle `start` to angle `stop`, in radians."""
    turn = (stop - start) / steps
    return [
        (x + radius * math.cos(start + i * turn), y + radius * math.sin(start + i * turn)) for i in range(steps + 1)
    ]


def bend(start: Point, pull: Point, stop: Point, steps: int = 16) -> list[Point]:
    """Return points of a quadratic curve that leaves `start` towards `pull` and reaches `stop` from it."""
    weights = [((1 - t) ** 2, 2 * t * (1 - t), t * t) for t in (i / steps for i in range(steps + 1))]
    return [(a * start[0] + b * pull[0] + c * stop[0], a * start[1] + b * pull[1] + c * stop[1]) for a, b, c in weights]


def blob(rng: random.Random, x: float, y: float, radius: float, rough: float = 0.25, steps: int = 72) -> list[Point]:
    """Return a closed wavy outline about (x, y); `rough` is its deviation from a circle, 0 to 0.5."""
    waves = [(k, rng.uniform(0.4, 1.0) * rough / k**0.8, rng.uniform(0, math.tau)) for k in (2, 3, 5, 8)]
    points = []
    for i in range(steps):
        angle = math.tau * i / steps
        reach = radius * (1 + sum(size * math.cos(k * angle + phase) for k, size, phase in waves))
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points


def wave(rng: random.Random, length: float, swing: float, steps: int = 40) -> list[Point]:
    """Return a winding line along x from -length/2 to length/2 with deviations of about `swing`."""
    waves = [(k, swing / k, rng.uniform(0, math.tau)) for k in (1.0, rng.uniform(1.6, 2.4), rng.uniform(3.5, 5.0))]
    return [
        (length * (i / steps - 0.5), sum(size * math.sin(math.tau * k * i / steps + at) for k, size, at in waves))
        for i in range(steps + 1)
    ]


def beside(points: Sequence[Point], distance: float) -> list[Point]:
    """Return the line that runs `distance` to the left of another."""
    moved = []
    for i, (x, y) in enumerate(points):
        (ax, ay), (bx, by) = points[max(i - 1, 0)], points[min(i + 1, len(points) - 1)]
        length = math.hypot(bx - ax, by - ay) or 1.0
        moved.append((x - (by - ay) / length * distance, y + (bx - ax) / length * distance))
    return moved


def spread(start: float, stop: float, step: float) -> list[float]:
    """Return the middles of as many `step`s as fit between `start` and `stop`, centred between them."""
    count = max(int((stop - start) / step), 0)
    first = (start + stop - (count - 1) * step) / 2
    return [first + i * step for i in range(count)]
