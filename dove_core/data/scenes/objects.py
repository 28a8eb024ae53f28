"""Objects of many scenes: trees, cars, houses, roads, rails, boats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.palette import Palette, Surface
from dove_core.data.scenes.shapes import Disc, Point, Pose, beside, spread


def tree(canvas: Canvas, palette: Palette, x: float, y: float, radius: float, crown: Surface | None = None) -> None:
    """Put up a tree with a lit and a dark side."""
    crown = crown or palette.tree()
    ease = radius * 0.3
    lit = Disc(x + ease * math.cos(canvas.sun.angle), y + ease * math.sin(canvas.sun.angle), radius * 0.62)
    canvas.stand(Disc(x, y, radius), radius * 1.5, [(Disc(x, y, radius), crown.lit(0.78)), (lit, crown.lit(1.15))],
                 afloat=True)  # fmt: skip


def trees(
    canvas: Canvas, palette: Palette, step: float, chance: float, radius: tuple[float, float] = (2.5, 4.5)
) -> None:
    """Scatter trees over free ground: a jittered grid of `step` metres, each point used with `chance`."""
    rng, half = canvas.rng, canvas.side / 2
    step = max(step, 7 * canvas.gsd)
    for gx in spread(-half, half, step):
        for gy in spread(-half, half, step):
            if rng.random() >= chance:
                continue
            x, y = gx + rng.uniform(-0.5, 0.5) * step, gy + rng.uniform(-0.5, 0.5) * step
            size = max(rng.uniform(*radius), 1.5 * canvas.gsd)
            if not canvas.taken.has(x, y, size):
                tree(canvas, palette, x, y, size)


def car(canvas: Canvas, palette: Palette, frame: Pose, length: float = 4.6) -> None:
    """Put a car at a frame's origin, along its heading."""
    body = canvas.rng.choice(palette.cars[:4] if canvas.rng.random() < 0.75 else palette.cars)
    outline = frame.box(0, 0, length, 2.0)
    surfaces = [(outline, body)]
    if canvas.gsd < 0.7:
        surfaces.append((frame.box(length * 0.14, 0, length * 0.16, 1.7), palette.dark))
        surfaces.append((frame.box(-length * 0.32, 0, length * 0.12, 1.7), palette.dark))
    canvas.stand(outline, 1.5, surfaces)


def traffic(canvas: Canvas, palette: Palette, points: Sequence[Point], offset: float, gap: float) -> None:
    """Set cars along a line, `offset` metres to its right, about `gap` metres apart."""
    rng = canvas.rng
    wait = rng.uniform(0.2, 1.0) * gap
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        length = math.dist((ax, ay), (bx, by))
        heading = math.atan2(by - ay, bx - ax)
        while wait < length:
            car(canvas, palette, Pose(ax, ay, heading).turned(wait, -offset, 0 if offset > 0 else math.pi))
            wait += rng.uniform(0.6, 1.6) * gap
        wait -= length


def house(canvas: Canvas, palette: Palette, frame: Pose, length: float, width: float, tiles: Surface) -> None:
    """Put up a house with a gable roof, its ridge along the heading."""
    up = frame.angle + math.pi / 2
    glow = 0.26 * math.cos(up - canvas.sun.angle)
    surfaces = [
        (frame.box(0, width / 4, length, width / 2), tiles.lit(1 + glow)),
        (frame.box(0, -width / 4, length, width / 2), tiles.lit(1 - glow)),
    ]
    if canvas.gsd < 0.9 and canvas.rng.random() < 0.5:
        surfaces.append((frame.box(length * 0.25, width * 0.15, 1.4, 1.2), palette.dark))
    canvas.stand(frame.box(0, 0, length, width), canvas.rng.uniform(5, 8), surfaces)


def hall(canvas: Canvas, palette: Palette, frame: Pose, length: float, width: float, height: float) -> None:
    """Put up a flat or ribbed hall with a rim and roof lights."""
    rng = canvas.rng
    roof = rng.choice(palette.flats)
    if rng.random() < 0.6:
        roof = roof.with_rows(frame.angle + math.pi / 2, rng.uniform(2.5, 5), 0.05)
    outline = frame.box(0, 0, length, width)
    surfaces = [(outline, roof.lit(0.75)._replace(rows=None)), (frame.box(0, 0, length - 1.6, width - 1.6), roof)]
    if rng.random() < 0.6:
        lights = spread(-length / 2 + 3, length / 2 - 3, rng.uniform(8, 14))
        surfaces += [(frame.box(x, 0, 1.6, width * 0.6), palette.flats[0].lit(1.1)) for x in lights]
    for _ in range(rng.randint(0, 5)):
        x, y = rng.uniform(-0.4, 0.4) * length, rng.uniform(-0.4, 0.4) * width
        surfaces.append((frame.box(x, y, rng.uniform(2, 4), rng.uniform(2, 3)), palette.metal))
    canvas.stand(outline, height, surfaces)


ROADS: dict[str, float] = {"track": 4.0, "service": 6.0, "residential": 8.0, "primary": 15.0}
"""Widths in metres by OpenStreetMap's class."""


def road(canvas: Canvas, palette: Palette, points: Sequence[Point], kind: str) -> None:
    """Lay a road of a class of `ROADS`, with its marks and traffic."""
    width = max(ROADS[kind], 2.2 * canvas.gsd)
    canvas.taken.add_line(points, width + 3)
    if kind == "track":
        canvas.line(points, width, palette.soil.lit(1.1))
        if canvas.gsd < 1:
            canvas.line(points, width * 0.25, palette.grass)
        return
    if kind != "service":
        canvas.line(points, width + 2.5, palette.gravel)
    canvas.line(points, width, palette.asphalt)
    if kind == "primary":
        for side in (-1, 1):
            canvas.line(beside(points, side * (width / 2 - 1)), canvas.mark(0.3), palette.paint.lit(0.9))
    if kind != "service" and canvas.gsd < 1.5:
        for start, stop in itertools.pairwise(points):
            canvas.dashes(start, stop, canvas.mark(0.25), 4, 5, palette.paint)
    if canvas.gsd < 3:
        traffic(canvas, palette, points, width / 4, 26 if kind == "primary" else 60)
        traffic(canvas, palette, points, -width / 4, 26 if kind == "primary" else 60)


def rails(canvas: Canvas, palette: Palette, points: Sequence[Point], bed: Surface) -> None:
    """Lay one railway track: ballast, sleepers, two rails."""
    canvas.line(points, max(3.8, 2.5 * canvas.gsd), bed)
    if canvas.gsd < 0.7:
        canvas.line(points, 2.4, bed.lit(0.8))
    for side in (-0.75, 0.75):
        offset = side if canvas.gsd < 0.7 else side * canvas.gsd
        canvas.line(beside(points, offset), max(0.25, 0.45 * canvas.gsd), palette.dark if side < 0 else palette.steel)


def train(canvas: Canvas, palette: Palette, frame: Pose, count: int, colours: Sequence[Surface]) -> None:
    """Put `count` wagons in a row from a frame's origin along its heading."""
    rng = canvas.rng
    colour = rng.choice(colours)
    for i in range(count):
        if rng.random() < 0.4:
            colour = rng.choice(colours)
        outline = frame.box(i * 15.5 + 7, 0, 14.2, 3.2)
        canvas.stand(outline, 3.5, [(outline, colour), (frame.box(i * 15.5 + 7, 0.8, 13.4, 0.8), colour.lit(1.2))])


def boat(canvas: Canvas, palette: Palette, frame: Pose, length: float) -> None:
    """Put a yacht or motor boat at a frame's origin, bow forward."""
    half, beam = length / 2, length * 0.16
    hull = frame.path([(-half, -beam), (half * 0.3, -beam), (half, 0), (half * 0.3, beam), (-half, beam)])
    deck = canvas.rng.choice([palette.paint, palette.paint, palette.steel, palette.cars[5]])
    inner = canvas.rng.choice([palette.sand, palette.dark, palette.metal])
    canvas.stand(hull, 1.5, [(hull, deck), (frame.box(-half * 0.25, 0, half * 0.7, beam), inner)])


LOADS = tuple(Surface(c) for c in ((172, 66, 52), (52, 92, 140), (206, 206, 200), (72, 124, 92), (212, 148, 60)))
"""Colours of containers."""


def ship(canvas: Canvas, palette: Palette, frame: Pose, length: float) -> None:
    """Put a freighter at a frame's origin, bow forward, laden with containers or with hatches."""
    rng, half, beam = canvas.rng, length / 2, length * 0.085
    sides = [(-half, -beam * 0.8), (half * 0.7, -beam), (half, 0), (half * 0.7, beam), (-half, beam * 0.8)]
    hull = frame.path(sides)
    deck = rng.choice([Surface((132, 62, 52)), Surface((70, 96, 84)), Surface((116, 122, 128)), palette.dark])
    surfaces = [(hull, palette.dark), (frame.path([(x * 0.97, y * 0.86) for x, y in sides]), deck)]
    laden = rng.random() < 0.6
    step = max(1.0, 0.8 * canvas.gsd)
    for x in spread(-half * 0.55, half * 0.75, 7.5 * step):
        if laden:
            across = spread(-beam * 0.8, beam * 0.8, 2.8 * step)
            surfaces += [(frame.box(x, y, 6.6 * step, 2.5 * step), rng.choice(LOADS)) for y in across]
        else:
            surfaces.append((frame.box(x, 0, 5.5 * step, beam * 1.2), deck.lit(1.3)))
    surfaces.append((frame.box(-half * 0.78, 0, half * 0.2, beam * 1.4), palette.paint))
    surfaces.append((frame.box(-half * 0.84, 0, half * 0.06, beam * 0.6), palette.dark))
    canvas.stand(hull, 9, surfaces)


def plane(canvas: Canvas, palette: Palette, frame: Pose, length: float) -> None:
    """Put an airliner at a frame's origin, nose forward."""
    half, body = length / 2, length * 0.052
    span = length * 0.48
    fuselage = [
        (-half, 0),
        (-half * 0.7, body),
        (half * 0.8, body),
        (half, 0),
        (half * 0.8, -body),
        (-half * 0.7, -body),
    ]
    wings = [(half * 0.22, 0), (-half * 0.3, span), (-half * 0.42, span), (-half * 0.2, 0),
             (-half * 0.42, -span), (-half * 0.3, -span)]  # fmt: skip
    tail = [(-half * 0.68, 0), (-half * 0.95, span * 0.38), (-half * 1.03, span * 0.38), (-half * 0.9, 0),
            (-half * 1.03, -span * 0.38), (-half * 0.95, -span * 0.38)]  # fmt: skip
    colour = canvas.rng.choice([palette.paint, palette.paint, palette.steel])
    for outline in (wings, tail):
        canvas.stand(frame.path(outline), 4, [(frame.path(outline), colour.lit(0.92))], afloat=True)
    stripe = canvas.rng.choice([palette.cars[4], palette.cars[5], palette.metal])
    engines = [
        (frame.box(half * 0.02, side * span * 0.36, length * 0.08, body * 0.9), palette.metal) for side in (-1, 1)
    ]
    fin = frame.box(-half * 0.86, 0, half * 0.24, body * 0.7)
    canvas.stand(frame.path(fuselage), 4, [*engines, (frame.path(fuselage), colour.lit(1.05)), (fin, stripe)])
