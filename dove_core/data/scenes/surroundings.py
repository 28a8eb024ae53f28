"""Surroundings of the object in focus: a kind of land, and sometimes a road, a railway or a river."""

from __future__ import annotations

import math
from collections.abc import Callable

from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.objects import hall, house, rails, road, tree, trees
from dove_core.data.scenes.palette import Palette
from dove_core.data.scenes.shapes import Point, Pose, beside, blob, spread, wave

Draw = Callable[[Canvas, Palette, Pose], None]


def ground(canvas: Canvas, palette: Palette, frame: Pose, setting: str) -> None:
    """Lay the land of a setting over the whole image."""
    canvas.label = setting
    _SETTINGS[setting][0](canvas, palette, frame)
    canvas.label = ""


def fill_in(canvas: Canvas, palette: Palette, frame: Pose, setting: str) -> None:
    """Put up the objects of a setting on free ground."""
    canvas.label = setting
    _SETTINGS[setting][1](canvas, palette, frame)
    canvas.label = ""


def cross(canvas: Canvas, palette: Palette, frame: Pose, line: str, *, along: bool) -> None:
    """Lay a road, railway or river beside the middle, most often (`along`: always) along the heading of the scene."""
    rng, side = canvas.rng, canvas.side
    turn = (0 if along else rng.choice([0, 0, 0, math.pi / 2])) + rng.choice([0, 0, math.pi]) + rng.uniform(-0.06, 0.06)
    away = Pose(0, 0, frame.angle + turn)
    offset = side * rng.uniform(0.36, 0.44)
    canvas.label = line
    key, value = line.split("=")
    if key == "highway":
        path = away.path([(-side, offset), (side, offset)])
        if value == "track":
            path = away.path([(x, y + offset) for x, y in wave(rng, side * 1.8, side * 0.012)])
        road(canvas, palette, path, value)
    elif key == "railway":
        _railway(canvas, palette, away, offset)
    else:
        _river(canvas, palette, away, offset)
    canvas.label = ""


def _railway(canvas: Canvas, palette: Palette, away: Pose, offset: float) -> None:
    side, gap = canvas.side, max(2.4, 2.2 * canvas.gsd)
    middle = away.path([(-side, offset), (side, offset)])
    canvas.line(middle, gap * 4.2, palette.gravel)
    for shift in (-gap, gap):
        rails(canvas, palette, beside(middle, shift), palette.gravel.lit(0.75))
    canvas.taken.add_line(middle, gap * 5)


def _river(canvas: Canvas, palette: Palette, away: Pose, offset: float) -> None:
    side, width = canvas.side, canvas.side * canvas.rng.uniform(0.06, 0.09)
    points = away.path([(x, y + offset) for x, y in wave(canvas.rng, side * 1.8, side * 0.03)])
    canvas.line(points, width * 1.25, palette.scrub.lit(0.85))
    canvas.line(points, width, palette.water)
    canvas.taken.add_line(points, width * 1.3)


def _grass(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    canvas.fill_all(palette.grass)
    for _ in range(canvas.rng.randint(1, 3)):
        x, y = _anywhere(canvas)
        canvas.fill(blob(canvas.rng, x, y, canvas.side * canvas.rng.uniform(0.1, 0.25)), palette.grass.lit(1.09))


def _fields(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    rng, side = canvas.rng, canvas.side
    canvas.fill_all(palette.grass.lit(0.9))
    tilt = frame.turned(rng.uniform(-0.1, 0.1) * side, rng.uniform(-0.1, 0.1) * side)
    y = -0.8 * side
    while y < 0.8 * side:
        width = side * rng.uniform(0.14, 0.34)
        x = -0.8 * side
        while x < 0.8 * side:
            length = side * rng.uniform(0.3, 0.7)
            canvas.fill(tilt.box(x + length / 2, y + width / 2, length - side * 0.01, width - side * 0.012),
                        palette.crop(frame.angle, side * rng.uniform(0.012, 0.022)))  # fmt: skip
            x += length
        y += width


def _wood(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    canvas.fill_all(palette.wood if canvas.rng.random() < 0.65 else palette.conifers)


def _scrub(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    canvas.fill_all(palette.scrub)


def _sand(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    canvas.fill_all(palette.sand)


def _gardens(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    canvas.fill_all(palette.lawn.lit(0.95))


def _yards(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    rng = canvas.rng
    canvas.fill_all(palette.concrete.lit(0.88))
    for _ in range(4):
        x, y = _anywhere(canvas)
        canvas.fill(frame.turned(x, y).box(0, 0, canvas.side * 0.3, canvas.side * 0.2),
                    rng.choice([palette.asphalt, palette.gravel, palette.concrete]))  # fmt: skip


def _shore(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    rng, side = canvas.rng, canvas.side
    canvas.label = "landuse=grass"
    canvas.fill_all(palette.grass)
    canvas.label = "natural=water"
    turn = Pose(0, 0, frame.angle + rng.choice([0, math.pi / 2, math.pi, -math.pi / 2]))
    near = side * rng.uniform(0.22, 0.32)
    edge = [(x, y + near) for x, y in wave(rng, side * 2, side * 0.03)]
    for shift, surface in ((0.0, palette.soil), (side * 0.015, palette.shallow), (side * 0.04, palette.water)):
        moved = [(x, y + shift) for x, y in edge]
        canvas.fill(turn.path([*moved, (side, side), (-side, side)]), surface)
    canvas.taken.add(turn.path([*edge, (side, side), (-side, side)]))


def _few_trees(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    trees(canvas, palette, canvas.side / 12, canvas.rng.uniform(0.03, 0.16))


def _shore_trees(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    canvas.label = "landuse=grass"
    _few_trees(canvas, palette, frame)


def _hedges(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    trees(canvas, palette, canvas.side / 10, canvas.rng.uniform(0.0, 0.05))


def _wood_edge(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    trees(canvas, palette, max(8.0, canvas.side / 20), 0.4, (2.5, 5.0))


def _bushes(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    rng = canvas.rng
    for _ in range(rng.randint(70, 130)):
        x, y = _anywhere(canvas)
        size = max(rng.uniform(0.8, 2.2), canvas.gsd * rng.uniform(0.8, 1.6))
        if not canvas.taken.has(x, y, size):
            tree(canvas, palette, x, y, size, palette.leaf.lit(rng.uniform(0.9, 1.2)))


def _nothing(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    pass


def _homes(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    """Put up rows of houses; at coarse scales each stands for a few."""
    rng, reach = canvas.rng, canvas.side * 0.72
    scale = max(1.0, canvas.gsd * 1.2)
    tiles = rng.sample(palette.tiles, 2)
    for gy in spread(-reach, reach, 25 * scale):
        for gx in spread(-reach, reach, 17 * scale):
            spot = frame.turned(gx + rng.uniform(-2, 2), gy + rng.uniform(-3, 3), rng.choice([0, 0, math.pi / 2]))
            if rng.random() < 0.9 and not canvas.taken.has(spot.x, spot.y, 9 * scale):
                size = rng.uniform(9, 13) * scale
                house(canvas, palette, spot, size, rng.uniform(7, 9) * scale, rng.choice(tiles))
                canvas.taken.add(spot.box(0, 0, size, 10 * scale))
    trees(canvas, palette, 12 * scale, 0.35, (1.8 * scale, 3.2 * scale))


def _halls(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    rng, reach = canvas.rng, canvas.side * 0.72
    step = max(26.0, canvas.side / 7)
    for gy in spread(-reach, reach, step):
        for gx in spread(-reach, reach, step * 1.2):
            spot = frame.turned(gx, gy)
            length, width = step * rng.uniform(0.7, 1.0), step * rng.uniform(0.5, 0.8)
            if not canvas.taken.has(spot.x, spot.y, step * 0.48):
                hall(canvas, palette, spot, length, width, rng.uniform(7, 12))
                canvas.taken.add(spot.box(0, 0, length, width))


def _anywhere(canvas: Canvas) -> Point:
    half = canvas.side / 2
    return canvas.rng.uniform(-half, half), canvas.rng.uniform(-half, half)


_SETTINGS: dict[str, tuple[Draw, Draw]] = {
    "landuse=grass": (_grass, _few_trees),
    "landuse=farmland": (_fields, _hedges),
    "landuse=forest": (_wood, _wood_edge),
    "landuse=residential": (_gardens, _homes),
    "landuse=industrial": (_yards, _halls),
    "natural=scrub": (_scrub, _bushes),
    "natural=sand": (_sand, _nothing),
    "natural=water": (_shore, _shore_trees),
}

SETTINGS = tuple(_SETTINGS)
"""Tags of the kinds of land."""

LINES = ("highway=service", "highway=residential", "highway=primary", "highway=track", "railway=rail", "waterway=river")
"""Tags of roads, railways and rivers."""
