"""Scenes on water: harbour, marina, lake, river, beach, swimming pool, sewage works."""

from __future__ import annotations

import math

from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.objects import LOADS, boat, hall, house, ship, tree
from dove_core.data.scenes.palette import Palette, Surface
from dove_core.data.scenes.shapes import Pose, Shape, beside, blob, spread, wave


def harbour(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a quay with freighters, cranes and stacks of containers."""
    rng, side = canvas.rng, canvas.side
    edge = side * rng.uniform(-0.05, 0.12)
    quay = side * rng.uniform(0.2, 0.28)
    canvas.fill(frame.box(0, edge - side, side * 3, side * 2), palette.water)
    canvas.fill(frame.box(0, edge + quay / 2, side * 3, quay), palette.concrete)
    canvas.taken.add(frame.box(0, edge + quay - side, side * 3, side * 2))
    canvas.line(frame.path([(-side, edge), (side, edge)]), 3, palette.concrete.lit(0.7))
    length = side * rng.uniform(0.42, 0.62)
    x = -side * rng.uniform(0.5, 0.75)
    while x < side * 0.6:
        turn = rng.choice([0, math.pi])
        ship(canvas, palette, frame.turned(x + length / 2, edge - length * 0.11, turn), length * rng.uniform(0.85, 1))
        x += length * 1.12
    if rng.random() < 0.6:
        ship(
            canvas,
            palette,
            frame.turned(rng.uniform(-0.2, 0.2) * side, edge - side * 0.3, rng.uniform(-0.3, 0.3)),
            length * 0.7,
        )
    for y in spread(edge + quay * 0.45, edge + quay * 0.95, 8):
        for x in spread(-side * 0.7, side * 0.7, 14):
            if rng.random() < 0.7:
                box = frame.box(x, y, 12.5, 6)
                canvas.stand(box, 5, [(box, rng.choice(LOADS))])
    for x in spread(-side * 0.6, side * 0.6, side * 0.3):
        _crane(canvas, palette, frame.turned(x + rng.uniform(-0.06, 0.06) * side, edge + quay * 0.2), length * 0.25)
    return {"harbour": "yes"}


def _crane(canvas: Canvas, palette: Palette, frame: Pose, reach: float) -> None:
    colour = Surface(canvas.rng.choice([(206, 92, 52), (222, 182, 62), (86, 124, 160)]))
    boom: Shape = frame.box(0, -reach * 0.4, 3.0, reach * 1.6)
    legs: Shape = frame.box(0, 0, 10, 6)
    canvas.stand(boom, 22, [(boom, colour), (legs, colour.lit(0.8))], afloat=True)


def marina(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw jetties with rows of moored boats in a basin."""
    rng, side = canvas.rng, canvas.side
    length, depth = side * rng.uniform(0.72, 1.3), side * rng.uniform(0.56, 0.74)
    basin = frame.box(0, 0, length, depth)
    canvas.taken.add(frame.box(0, 0, length + 10, depth + 10))
    canvas.fill(frame.box(0, 0, length + 10, depth + 10), palette.concrete)
    canvas.fill(basin, palette.water)
    size = rng.uniform(9, 14) * max(1.0, canvas.gsd)
    planks = rng.choice([palette.sand, palette.concrete, palette.soil]).lit(1.1)
    canvas.fill(frame.box(0, depth / 2 - 2, length, 4), planks)
    for x in spread(-length / 2 + 2, length / 2 - 2, size * 3.1):
        reach = depth * rng.uniform(0.72, 0.86)
        top = depth / 2
        canvas.fill(frame.box(x, top - reach / 2, max(2.2, 1.5 * canvas.gsd), reach), planks)
        for y in spread(top - reach, top - 5, size * 0.5):
            for hand in (-1, 1):
                if rng.random() < 0.78:
                    berth = frame.turned(x + hand * size * 0.68, y, 0 if hand > 0 else math.pi)
                    boat(canvas, palette, berth, size * rng.uniform(0.75, 1.05))
    return {"leisure": "marina"}


def lake(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a lake with a wavy shore, sometimes with an island."""
    rng, side = canvas.rng, canvas.side
    stretch = rng.uniform(0.62, 0.95)
    outline = [(x, y * stretch) for x, y in blob(rng, 0, 0, side * rng.uniform(0.28, 0.38), 0.24)]
    for scale, surface in (
        (1.1, palette.scrub.lit(0.88)),
        (1.03, palette.sand),
        (1.0, palette.shallow),
        (0.93, palette.water),
    ):
        shape = frame.path([(x * scale, y * scale) for x, y in outline])
        canvas.fill(shape, surface)
        if scale == 1.1:
            canvas.taken.add(shape)
    if rng.random() < 0.3:
        x, y = rng.uniform(-0.1, 0.1) * side, rng.uniform(-0.08, 0.08) * side
        canvas.fill(frame.path(blob(rng, x, y, side * 0.05)), palette.wood)
    _fringe(canvas, palette, frame.path([(x * 1.07, y * 1.07) for x, y in outline]))
    return {"water": "lake"}


def _fringe(canvas: Canvas, palette: Palette, outline: list[tuple[float, float]]) -> None:
    """Set trees along a shore, here and there."""
    for x, y in outline:
        if canvas.rng.random() < 0.35:
            tree(canvas, palette, x, y, max(4.0, canvas.gsd * canvas.rng.uniform(1.2, 2.2)))


def river(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a winding river with sand on the inner banks."""
    rng, side = canvas.rng, canvas.side
    width = side * rng.uniform(0.09, 0.17)
    turns, swing = rng.uniform(1.1, 1.9), side * rng.uniform(0.14, 0.2)
    phase = rng.uniform(0, math.tau)
    course = [
        (
            1.6 * side * (i / 50 - 0.5),
            swing * math.sin(turns * math.tau * i / 50 + phase) + side * 0.015 * math.sin(i / 2),
        )
        for i in range(51)
    ]
    bed = frame.path(course)
    canvas.line(bed, width * 1.5, palette.scrub.lit(0.86))
    canvas.taken.add_line(bed, width * 1.55)
    for i, (x, y) in enumerate(course):
        if abs(y) > swing * 0.8 and i % 3 == 0:
            canvas.fill(frame.disc(x, y - math.copysign(width * 0.32, y), width * 0.5), palette.sand)
    canvas.line(bed, width, palette.shallow)
    canvas.line(bed, width * 0.84, palette.water)
    for hand in (-0.68, 0.68):
        _fringe(canvas, palette, beside(bed, hand * width)[::2])
    return {"waterway": "river"}


def beach(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a shore: land, dry and wet sand, surf, sea."""
    rng, side = canvas.rng, canvas.side
    edge = wave(rng, side * 2, side * rng.uniform(0.02, 0.06), 60)
    top = side * rng.uniform(0.14, 0.24)
    blue = Surface(rng.choice([(46, 104, 128), (58, 122, 138), (44, 92, 124)]), 0.05, 0.05)
    layers = (
        (top, palette.sand.lit(1.05)), (side * 0.035, palette.sand.lit(0.84)), (0.0, blue.lit(1.5)),
        (-side * 0.05, blue.lit(1.25)), (-side * 0.13, blue),
    )  # fmt: skip
    for shift, surface in layers:
        bound = frame.path([*((x, y + shift) for x, y in edge), (side, -side * 2), (-side, -side * 2)])
        canvas.fill(bound, surface)
        if shift == top:
            canvas.taken.add(bound)
    foam = Surface((236, 240, 238), 0.08, 0.05)
    for _ in range(rng.randint(2, 4)):
        shift = -side * rng.uniform(0.0, 0.12)
        line = frame.path([(x, y + shift + side * 0.006 * math.sin(x / side * 17 + shift)) for x, y in edge])
        start = rng.randrange(0, 20)
        canvas.line(line[start : start + rng.randint(25, 45)], side * rng.uniform(0.005, 0.014), foam)
    canvas.line(frame.path(edge), side * 0.01, foam)
    if canvas.gsd < 1:
        bright = [Surface(c) for c in ((206, 60, 52), (56, 106, 176), (236, 196, 72), (240, 240, 236))]
        for _ in range(rng.randint(0, 40)):
            spot = frame.disc(rng.uniform(-0.5, 0.5) * side, rng.uniform(0.3, 0.9) * top, 1.4)
            canvas.stand(spot, 2.2, [(spot, rng.choice(bright))], afloat=True)
    return {"surface": "sand"}


def swimming_pool(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a public pool with lanes, or, seen from near, the pool of a house."""
    blue = Surface(canvas.rng.choice([(66, 168, 204), (84, 186, 210), (52, 150, 196)]), 0.05, 0.04)
    if canvas.side < 90 and canvas.rng.random() < 0.6:
        return _private_pool(canvas, palette, frame, blue)
    return _public_pool(canvas, palette, frame, blue)


def _private_pool(canvas: Canvas, palette: Palette, frame: Pose, blue: Surface) -> dict[str, str]:
    rng = canvas.rng
    canvas.fill(frame.box(0, 0, 38, 34), palette.lawn)
    canvas.taken.add(frame.box(0, 0, 40, 36))
    house(
        canvas,
        palette,
        frame.turned(rng.uniform(-3, 3), 10),
        rng.uniform(17, 22),
        rng.uniform(10, 12),
        palette.tiles[0],
    )
    pool = frame.turned(rng.uniform(-4, 4), rng.uniform(-7, -5))
    if rng.random() < 0.5:
        rim = blob(rng, pool.x, pool.y, 6.2, 0.3)
        edges = [(pool.x + (x - pool.x) * k, pool.y + (y - pool.y) * k) for k in (1.3, 1.06, 1.0) for x, y in rim]
        outlines: list[Shape] = [edges[: len(rim)], edges[len(rim) : 2 * len(rim)], edges[2 * len(rim) :]]
    else:
        length, width = rng.uniform(10, 14), rng.uniform(5, 7)
        outlines = [pool.box(0, 0, length + grow, width + grow) for grow in (5.0, 1.0, 0.0)]
    for outline, surface in zip(outlines, (palette.concrete.lit(1.1), palette.paint, blue), strict=True):
        canvas.fill(outline, surface)
    for x in (-1.5, 1.5):
        bed = pool.box(x, -6.0, 0.8, 2.0)
        canvas.stand(bed, 0.5, [(bed, palette.paint)])
    for _ in range(rng.randint(3, 8)):
        tree(canvas, palette, *frame.at(rng.uniform(-18, 18), rng.choice([-15.5, 17])), rng.uniform(1.2, 2.2))
    return {"access": "private"}


def _public_pool(canvas: Canvas, palette: Palette, frame: Pose, blue: Surface) -> dict[str, str]:
    rng, side = canvas.rng, canvas.side
    length, width = (25, 12.5) if side < 90 else (50, 22)
    canvas.fill(frame.box(0, 0, side * 0.74, side * 0.62), palette.lawn)
    canvas.taken.add(frame.box(0, 0, side * 0.76, side * 0.64))
    canvas.fill(frame.box(0, 0, length + side * 0.14, side * 0.56), palette.concrete.lit(1.15))
    main = frame.turned(0, -side * 0.06)
    canvas.fill(main.box(0, 0, length + 1.6, width + 1.6), palette.paint)
    canvas.fill(main.box(0, 0, length, width), blue)
    canvas.fill(main.box(length * 0.3, 0, length * 0.4, width), blue.lit(0.9))
    for lane in range(1, 6):
        y = width * (lane / 6 - 0.5)
        canvas.line(main.path([(-length / 2, y), (length / 2, y)]), canvas.mark(0.2) * 0.8, blue.lit(0.66))
    small = main.turned(rng.uniform(-0.25, 0.25) * length, width / 2 + side * 0.11)
    if rng.random() < 0.5:
        canvas.fill(small.disc(0, 0, side * 0.065), palette.paint)
        canvas.fill(small.disc(0, 0, side * 0.058), blue.lit(1.1))
    else:
        canvas.fill(small.box(0, 0, side * 0.2, side * 0.09), blue.lit(1.1))
    for x in spread(-length / 2 - 3, length / 2 + 3, 3.2):
        if rng.random() < 0.7:
            bed = main.turned(x, -width / 2 - side * 0.06).box(0, 0, 0.9, 2.0)
            canvas.stand(bed, 0.5, [(bed, rng.choice([palette.paint, blue.lit(0.6)]))])
    for _ in range(rng.randint(2, 7)):
        spot = frame.turned(rng.uniform(-0.33, 0.33) * side, rng.choice([-1, 1]) * side * 0.285)
        tree(canvas, palette, spot.x, spot.y, side * rng.uniform(0.015, 0.03))
    return {"access": "public"}


def wastewater_plant(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw round settling tanks with their arms, and rows of oblong basins."""
    rng, side = canvas.rng, canvas.side
    wide, deep = side * rng.uniform(0.68, 0.8), side * rng.uniform(0.56, 0.7)
    canvas.fill(frame.box(0, 0, wide, deep), palette.lawn)
    canvas.taken.add(frame.box(0, 0, wide + 6, deep + 6))
    count = rng.choice([2, 3, 3, 4])
    radius = min(wide / count, deep * 0.52) * 0.42
    sludge = Surface(rng.choice([(84, 90, 70), (98, 92, 72), (70, 86, 82)]), 0.05, 0.05)
    lane = frame.path([(-wide / 2, -deep * 0.02), (wide / 2, -deep * 0.02)])
    canvas.line(lane, deep * 0.07, palette.asphalt.lit(1.1))
    for x in spread(-wide / 2, wide / 2, wide / count):
        _clarifier(canvas, palette, frame.turned(x, deep * 0.25), radius, sludge)
    for x in spread(-wide / 2, wide * 0.22, wide * 0.15):
        basin = frame.turned(x, -deep * 0.27)
        rim, inner = basin.box(0, 0, wide * 0.13, deep * 0.38), basin.box(0, 0, wide * 0.105, deep * 0.35)
        canvas.stand(rim, 2, [(rim, palette.concrete.lit(1.1)), (inner, rng.choice([sludge, sludge.lit(1.25)]))])
    hall(canvas, palette, frame.turned(wide * 0.36, -deep * 0.27), wide * 0.18, deep * 0.26, 6)
    return {"man_made": "wastewater_plant"}


def _clarifier(canvas: Canvas, palette: Palette, frame: Pose, radius: float, sludge: Surface) -> None:
    """Draw a round settling tank with its turning arm."""
    arm = frame.turned(0, 0, canvas.rng.uniform(0, math.tau))
    rim = frame.disc(0, 0, radius)
    surfaces: list[tuple[Shape, Surface]] = [
        (rim, palette.concrete.lit(1.1)),
        (frame.disc(0, 0, radius * 0.9), sludge.lit(0.8)),
        (frame.disc(0, 0, radius * 0.8), sludge),
        (frame.disc(0, 0, radius * 0.14), palette.concrete),
        (arm.box(radius / 2, 0, radius, max(1.0, 1.3 * canvas.gsd)), palette.steel),
    ]
    canvas.stand(rim, 2.5, surfaces)
