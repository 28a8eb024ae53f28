"""Scenes on land: fields, watered circles, orchards, vineyards, woods, quarries."""

from __future__ import annotations

import math

from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.objects import tree
from dove_core.data.scenes.palette import Palette, Surface
from dove_core.data.scenes.shapes import Pose, arc, blob, spread, wave


def farmland(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a patchwork of ploughed, green and ripe fields; a corner is left to the surroundings."""
    rng, side = canvas.rng, canvas.side
    step, long = side * rng.uniform(0.17, 0.27), side * rng.uniform(0.3, 0.5)
    skew = rng.uniform(-0.2, 0.2)
    for y in spread(-0.85 * side, rng.uniform(0.3, 0.48) * side, step):
        for x in spread(-0.85 * side, 0.95 * side, long):
            left = x + y * skew + rng.uniform(-0.02, 0.02) * side
            corners = [
                (left, y),
                (left + long, y),
                (left + long + step * skew, y + step),
                (left + step * skew, y + step),
            ]
            middle = frame.at(left + long / 2, y + step / 2)
            if rng.random() < 0.5:
                halves = [corners]
            else:
                cut = rng.uniform(0.3, 0.7) * step
                lower = [corners[0], corners[1], (corners[1][0], y + cut), (corners[0][0], y + cut)]
                halves = [lower, [(corners[0][0], y + cut), (corners[1][0], y + cut), corners[2], corners[3]]]
            canvas.fill(frame.path(corners), palette.grass.lit(0.85))
            canvas.taken.add(frame.path(corners))
            for half in halves:
                crop = palette.crop(frame.angle, side * rng.uniform(0.012, 0.024))
                canvas.fill(frame.path(_shrunk(half, side * 0.006)), crop)
            if rng.random() < 0.12:
                tree(canvas, palette, *middle, max(3.5, 2 * canvas.gsd))
    return {}


def _shrunk(corners: list[tuple[float, float]], by: float) -> list[tuple[float, float]]:
    """Return corners moved `by` towards the middle, so that a path shows between fields."""
    cx, cy = sum(x for x, _ in corners) / len(corners), sum(y for _, y in corners) / len(corners)
    return [(x - math.copysign(by, x - cx), y - math.copysign(by, y - cy)) for x, y in corners]


def pivot(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw round fields watered by turning arms, one large or a few beside each other."""
    rng, side = canvas.rng, canvas.side
    count = rng.choice([1, 1, 2, 2, 3])
    radius = side * {1: 0.36, 2: 0.235, 3: 0.195}[count] * rng.uniform(0.92, 1.06)
    for row in range(count):
        for column in range(count):
            middle = (count - 1) / 2
            spot = frame.turned((column - middle) * radius * 2.12, (row - middle) * radius * 2.12)
            if count < 3 or rng.random() < 0.9:
                _watered(canvas, palette, spot, radius)
    return {"irrigation": "pivot"}


def _watered(canvas: Canvas, palette: Palette, frame: Pose, radius: float) -> None:
    rng = canvas.rng
    canvas.taken.add(frame.disc(0, 0, radius * 1.02))
    greens = (
        Surface((84, 124, 58), 0.05, 0.06),
        Surface((62, 102, 52), 0.05, 0.06),
        Surface((120, 142, 70), 0.05, 0.06),
    )
    base = rng.choice([*greens, *greens, palette.soil])
    canvas.fill(frame.disc(0, 0, radius), palette.soil.lit(1.1))
    canvas.fill(frame.disc(0, 0, radius * 0.98), base)
    if rng.random() < 0.55:
        start = rng.uniform(0, math.tau)
        wedge = arc(frame.x, frame.y, radius * 0.98, start, start + rng.choice([0.6, 1.57, 3.14]), 32)
        canvas.fill([(frame.x, frame.y), *wedge], rng.choice([palette.soil, palette.crops[3], *greens]))
    for i in range(1, 7):
        ring = arc(frame.x, frame.y, radius * i / 7, 0, math.tau, 48)
        canvas.line(ring, max(1.0, 0.5 * canvas.gsd), base.lit(0.9))
    sweep = Pose(frame.x, frame.y, rng.uniform(0, math.tau))
    canvas.line([sweep.at(0, 0), sweep.at(radius, 0)], max(3.0, 1.1 * canvas.gsd), palette.paint)
    canvas.fill(frame.disc(0, 0, max(3.0, 1.6 * canvas.gsd)), palette.paint)


def orchard(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw trees in a strict grid, in one or two plots."""
    rng, side = canvas.rng, canvas.side
    step = max(6.5, side / 19) * rng.uniform(0.9, 1.15)
    crown = palette.leaf.lit(rng.uniform(0.85, 1.15))
    floor = rng.choice([palette.grass, palette.soil, palette.lawn])
    split = rng.choice([0, rng.uniform(-0.1, 0.15) * side])
    canvas.fill(frame.box(0, -0.16 * side, side * 1.6, side * 1.02), floor)
    canvas.taken.add(frame.box(0, -0.16 * side, side * 1.6, side * 1.04))
    size = step * rng.uniform(0.3, 0.4)
    for y in spread(-0.66 * side, 0.34 * side, step):
        for x in spread(-0.75 * side, 0.75 * side, step):
            if split and abs(x - split) < step * 0.9:
                continue
            px, py = frame.at(x + rng.uniform(-0.4, 0.4), y + rng.uniform(-0.4, 0.4))
            if max(abs(px), abs(py)) < side * 0.55 and rng.random() < 0.96:
                tree(canvas, palette, px, py, size * rng.uniform(0.85, 1.1), crown.lit(rng.choice([0.92, 1.0, 1.08])))
    if split:
        canvas.line(frame.path([(split, -side), (split, 0.34 * side)]), 4, palette.soil.lit(1.15))
    return {"trees": rng.choice(["apple_trees", "olive_trees", "orange_trees"])}


def vineyard(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw plots of close rows of vines, each plot with its own heading."""
    rng, side = canvas.rng, canvas.side
    gap = max(2.6, 4.4 * canvas.gsd)
    earth = rng.choice([palette.soil, palette.soil.lit(1.15), palette.grass])
    vine = palette.leaf.lit(rng.uniform(0.9, 1.1))
    canvas.fill(frame.box(0, -0.15 * side, side * 1.7, side * 1.06), palette.gravel.lit(1.02))
    canvas.taken.add(frame.box(0, -0.15 * side, side * 1.7, side * 1.08))
    top, x = 0.36 * side, -0.8 * side
    while x < 0.8 * side:
        wide = side * rng.uniform(0.34, 0.6)
        cut = -side * rng.uniform(0.05, 0.25)
        for low, high in ((-0.7 * side, cut), (cut, top)):
            tall, across = high - low - 5, wide - 5
            plot = frame.turned(x + wide / 2, (low + high) / 2)
            canvas.fill(plot.box(0, 0, across, tall), earth)
            if rng.random() < 0.5:
                rows = [[(-across / 2 + 1, y), (across / 2 - 1, y)] for y in spread(-tall / 2, tall / 2, gap)]
            else:
                rows = [[(v, -tall / 2 + 1), (v, tall / 2 - 1)] for v in spread(-across / 2, across / 2, gap)]
            for row in rows:
                canvas.line(plot.path(row), gap * 0.46, vine)
        x += wide
    return {"crop": "grape"}


def forest(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a closed wood whose edge runs through the image, sometimes with a clearing or a track."""
    rng, side = canvas.rng, canvas.side
    needles = rng.random() < 0.4
    crowns, crown = (palette.conifers, palette.needle) if needles else (palette.wood, palette.leaf)
    top = side * rng.uniform(0.18, 0.34)
    edge = [(x, y + top) for x, y in wave(rng, side * 2, side * 0.05, 50)]
    outline = frame.path([*edge, (side, -2 * side), (-side, -2 * side)])
    canvas.fill(outline, crowns)
    canvas.taken.add(outline)
    for _ in range(3):
        x, y = rng.uniform(-0.4, 0.4) * side, rng.uniform(-0.4, 0.1) * side
        canvas.fill(
            frame.path(blob(rng, x, y, side * rng.uniform(0.06, 0.16), 0.4)), crowns.lit(rng.choice([0.9, 1.1]))
        )
    if rng.random() < 0.35:
        track = frame.path([(x, y - 0.15 * side) for x, y in wave(rng, side * 2, side * 0.06)])
        canvas.line(track, max(3.5, 1.4 * canvas.gsd), palette.soil.lit(1.1))
    for x, y in frame.path(edge):
        if rng.random() < 0.9:
            tree(canvas, palette, x + rng.uniform(-3, 3), y, max(4.0, 1.8 * canvas.gsd) * rng.uniform(0.8, 1.2), crown)
    for _ in range(70):
        x, y = frame.at(rng.uniform(-0.6, 0.6) * side, rng.uniform(-0.65, 0.15) * side)
        tree(
            canvas, palette, x, y, max(3.5, 1.6 * canvas.gsd) * rng.uniform(0.8, 1.2), crown.lit(rng.uniform(0.8, 1.3))
        )
    return {"leaf_type": "needleleaved" if needles else "broadleaved"}


def quarry(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a pit in steps, each wall lit or dark, with a haul road and sometimes water at the bottom."""
    rng, side = canvas.rng, canvas.side
    stretch = rng.uniform(0.7, 0.95)
    outline = [(x, y * stretch) for x, y in blob(rng, 0, 0, side * rng.uniform(0.33, 0.4), 0.2)]
    steps = rng.randint(4, 6)
    canvas.taken.add(frame.path([(x * 1.08, y * 1.08) for x, y in outline]))
    canvas.fill(frame.path([(x * 1.06, y * 1.06) for x, y in outline]), palette.soil.lit(1.1))
    drift = side * 0.016
    for i in range(steps):
        scale = 1 - i * 0.8 / steps
        ring = frame.path([(x * scale, y * scale) for x, y in outline])
        # A wall that falls away from the sun lies in the dark: the step's floor, moved sunward, leaves it uncovered.
        dx, dy = drift * math.cos(canvas.sun.angle), drift * math.sin(canvas.sun.angle)
        canvas.fill(ring, palette.rock.lit(0.5))
        canvas.fill([(x - dx, y - dy) for x, y in ring], palette.rock.lit(1.33))
        inner = [(x * 0.95, y * 0.95) for x, y in outline]
        floor = frame.path([(x * scale, y * scale) for x, y in inner])
        canvas.fill([(x - dx * 0.6, y - dy * 0.6) for x, y in floor], palette.rock.lit(1.08 - 0.08 * (i % 2)))
    bottom = frame.path([(x * 0.2, y * 0.22) for x, y in outline])
    if rng.random() < 0.45:
        canvas.fill(bottom, Surface((86, 146, 142), 0.03, 0.04))
    turns = [frame.at(r * side * math.cos(a), r * side * stretch * math.sin(a))
             for r, a in ((0.42 - 0.03 * k, 0.35 * k) for k in range(12))]  # fmt: skip
    canvas.line(turns, side * 0.02, palette.sand.lit(1.05))
    for _ in range(rng.randint(3, 9)):
        x, y = frame.at(rng.uniform(-0.2, 0.2) * side, rng.uniform(-0.16, 0.16) * side)
        heap = Pose(x, y).disc(0, 0, side * rng.uniform(0.01, 0.022))
        lit = Pose(x, y, canvas.sun.angle).disc(heap.radius * 0.3, 0, heap.radius * 0.6)
        canvas.stand(heap, heap.radius, [(heap, palette.sand.lit(0.86)), (lit, palette.sand.lit(1.1))], afloat=True)
    return {"resource": rng.choice(["gravel", "limestone", "sand"])}
