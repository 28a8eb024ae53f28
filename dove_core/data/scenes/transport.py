"""Roads and rails: junction, roundabout, bridge, car park, rail yard."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.objects import car, rails, traffic, train, tree
from dove_core.data.scenes.palette import Palette, Surface
from dove_core.data.scenes.shapes import Point, Pose, arc, bend, beside, blob, spread, wave


def motorway_junction(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw two motorways that cross on two levels, with the loops of a cloverleaf or the ramps of a diamond."""
    rng, side = canvas.rng, canvas.side
    loop = side * rng.uniform(0.095, 0.13)
    clover = rng.random() < 0.7
    verge = palette.lawn
    canvas.taken.add(frame.disc(0, 0, loop * 3.0))
    canvas.fill(blob(rng, *frame.at(0, 0), loop * 2.7, 0.16), verge)
    for turn in range(4):
        quarter = frame.turned(0, 0, turn * math.pi / 2)
        if clover:
            ring = [quarter.at(x + loop * 1.1, y + loop * 1.1) for x, y in arc(0, 0, loop, 0, math.tau, 36)]
            _carriageway(canvas, palette, ring, 9, 1)
        ramp = quarter.path(bend((loop * 4.5, 12), (loop * 0.9, loop * 0.9), (12, loop * 4.5)))
        _carriageway(canvas, palette, ramp, 9, 1)
    upper = frame.turned(0, 0, math.pi / 2 + rng.uniform(-0.1, 0.1))
    _motorway(canvas, palette, frame)
    span = side * 0.11
    canvas.deck(upper.box(0, 0, span, 36), 9)
    _motorway(canvas, palette, upper)
    for way in (frame, upper):
        canvas.taken.add(way.box(0, 0, 2 * side, 52))
    return {"highway": "motorway_junction"}


def _motorway(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    side = canvas.side
    canvas.fill(frame.box(0, 0, 2 * side, 42), palette.lawn.lit(0.9))
    for hand in (-1, 1):
        _carriageway(canvas, palette, frame.path([(-hand * side, hand * 10), (hand * side, hand * 10)]), 15, 3)


def _carriageway(canvas: Canvas, palette: Palette, points: Sequence[Point], width: float, lanes: int) -> None:
    canvas.line(points, width + 2.5, palette.gravel)
    canvas.line(points, width, palette.asphalt)
    if lanes > 1:
        for shift in (-width / 6, width / 6):
            canvas.line(beside(points, shift), max(0.3, 0.34 * canvas.gsd), palette.asphalt.lit(1.5))
    for shift in spread(-width / 2, width / 2, width / lanes):
        traffic(canvas, palette, beside(points, -shift), 0.01, 110)


def roundabout(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a roundabout with three to five arms, splitter islands and a green middle."""
    rng, side = canvas.rng, canvas.side
    outer = min(side * rng.uniform(0.15, 0.22), 34)
    lane = max(outer * rng.uniform(0.3, 0.38), 5.5)
    arms = rng.choice([3, 4, 4, 4, 5])
    canvas.taken.add(frame.disc(0, 0, outer + 3))
    canvas.fill(frame.disc(0, 0, outer + 3), palette.gravel)
    headings = [math.tau * (i + rng.uniform(-0.12, 0.12)) / arms for i in range(arms)]
    for heading in headings:
        arm = frame.turned(0, 0, heading)
        canvas.taken.add(arm.box(side / 2, 0, side, lane * 2 + 4))
        mouth = [(0, -lane * 1.7), (outer * 1.7, -lane * 0.85), (side, -lane * 0.85), (side, lane * 0.85),
                 (outer * 1.7, lane * 0.85), (0, lane * 1.7)]  # fmt: skip
        canvas.fill(arm.path([(x, y * 1.18) for x, y in mouth]), palette.gravel)
        canvas.fill(arm.path(mouth), palette.asphalt)
        canvas.dashes(arm.at(outer * 1.9, 0), arm.at(side, 0), canvas.mark(0.3), 4, 4, palette.paint)
        canvas.fill(arm.path([(outer + 1, -lane * 0.35), (outer + 1, lane * 0.35), (outer * 1.8, 0)]), palette.lawn)
        for offset in (-lane * 0.42, lane * 0.42):
            traffic(canvas, palette, [arm.at(outer * 1.3, 0), arm.at(side, 0)], offset, 22)
    canvas.fill(frame.disc(0, 0, outer), palette.asphalt)
    ring = arc(frame.x, frame.y, outer - lane / 2, 0, math.tau, 40)
    for i in range(0, 40, 2):
        canvas.line(ring[i : i + 2], canvas.mark(0.3), palette.paint)
    canvas.fill(frame.disc(0, 0, outer - lane + 0.8), palette.paint)
    canvas.fill(frame.disc(0, 0, outer - lane), palette.lawn)
    traffic(canvas, palette, ring, 0.0, 20)
    planting = rng.choice(["tree", "beds", "none"])
    if planting == "tree":
        tree(canvas, palette, frame.x, frame.y, (outer - lane) * 0.5)
    elif planting == "beds":
        canvas.fill(frame.disc(0, 0, (outer - lane) * 0.55), palette.soil)
    return {"junction": "roundabout"}


def bridge(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a road bridge that crosses a wide river."""
    rng, side = canvas.rng, canvas.side
    stream = frame.turned(rng.uniform(-0.08, 0.08) * side, 0, math.pi / 2 + rng.uniform(-0.25, 0.25))
    width = side * rng.uniform(0.3, 0.48)
    course = stream.path(wave(rng, side * 2, side * 0.02))
    surfaces = ((1.12, palette.scrub.lit(0.9)), (1.05, palette.gravel), (1.0, palette.shallow), (0.88, palette.water))
    for share, surface in surfaces:
        half = width * share / 2
        canvas.fill([*beside(course, half), *reversed(beside(course, -half))], surface)
    canvas.taken.add_line(course, width * 1.15)
    deck = max(14.0, side * rng.uniform(0.075, 0.12))
    canvas.taken.add(frame.box(0, 0, side * 2, deck + 8))
    canvas.fill(frame.box(0, 0, side * 2, deck + 6), palette.gravel)
    canvas.deck(frame.box(0, 0, width * 1.1, deck + 2), max(9.0, side * 0.045))
    for x in spread(-width / 2, width / 2, width / rng.randint(2, 5)):
        canvas.fill(frame.box(x, 0, 4, deck + 7), palette.concrete.lit(0.9))
    canvas.fill(frame.box(0, 0, width * 1.15, deck + 2), palette.concrete.lit(1.1))
    canvas.fill(frame.box(0, 0, side * 2, deck - 1), palette.asphalt)
    ends = frame.at(-side, 0), frame.at(side, 0)
    canvas.line(ends, canvas.mark(0.3), palette.yellow)
    for hand in (-1, 1):
        canvas.dashes(frame.at(-side, hand * deck / 4), frame.at(side, hand * deck / 4), canvas.mark(0.25), 5, 6,
                      palette.paint)  # fmt: skip
        for lane in (0.14, 0.36):
            traffic(canvas, palette, ends, hand * deck * lane, 30)
    return {"bridge": "yes"}


def parking(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a car park: double rows of bays, most of them taken."""
    rng, side = canvas.rng, canvas.side
    length, rows = side * rng.uniform(0.62, 0.82), max(1, int(side * rng.uniform(0.5, 0.68) / 17))
    depth = rows * 17
    area = frame.box(0, 0, length + 6, depth + 8)
    canvas.taken.add(frame.box(0, 0, length + 10, depth + 12))
    canvas.fill(frame.box(0, 0, length + 9, depth + 11), palette.concrete)
    canvas.fill(area, palette.asphalt)
    full, bay = rng.uniform(0.35, 0.92), 2.7
    for y in spread(-depth / 2, depth / 2, 17):
        ends = [(-length / 2 + 6, y), (length / 2 - 6, y)]
        green = rng.random() < 0.4
        if green:
            canvas.line(frame.path(ends), 2.0, palette.lawn)
        for x in spread(-length / 2 + 6, length / 2 - 6, bay):
            canvas.line(frame.path([(x - bay / 2, y - 5.4), (x - bay / 2, y + 5.4)]), canvas.mark(0.15) * 0.55,
                        palette.paint)  # fmt: skip
            for hand in (-1, 1):
                if rng.random() < full:
                    car(canvas, palette, frame.turned(x, y + hand * 3.1, hand * math.pi / 2))
        if green:
            for x in spread(-length / 2 + 6, length / 2 - 6, 16):
                tree(canvas, palette, *frame.at(x, y), rng.uniform(1.5, 2.4))
    return {"surface": "asphalt"}


def rail_yard(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw many parallel tracks with trains, joined by switches at one end."""
    rng, side = canvas.rng, canvas.side
    gap = max(5.2, 4.6 * canvas.gsd)
    count = max(5, min(int(side * rng.uniform(0.42, 0.62) / gap), 13))
    bed = rng.choice([Surface((128, 112, 98), 0.12, 0.08), Surface((112, 104, 100), 0.12, 0.08)])
    canvas.fill(frame.box(0, 0, side * 2, (count + 1.4) * gap), bed)
    canvas.taken.add(frame.box(0, 0, side * 2, (count + 2) * gap))
    throat = rng.uniform(0.1, 0.4) * side
    colours = [Surface(c) for c in ((128, 66, 50), (86, 92, 98), (172, 120, 62), (60, 92, 126), (196, 196, 190))]
    lanes = spread(-count * gap / 2, count * gap / 2, gap)
    for y in lanes:
        rails(canvas, palette, frame.path([(-side, y), (side, y)]), bed.lit(0.84))
    for low, high in itertools.pairwise(lanes):
        start = throat + rng.uniform(-0.1, 0.1) * side
        rails(canvas, palette, frame.path([(start, low), (start + gap * 6, high)]), bed.lit(0.84))
    for y in lanes:
        if rng.random() < 0.6:
            train(canvas, palette, frame.turned(rng.uniform(-0.75, 0.2) * side, y), rng.randint(3, 12), colours)
    return {"service": "yard"}
