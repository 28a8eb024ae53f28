"""Runway and apron."""

from __future__ import annotations

import math

from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.objects import hall, plane
from dove_core.data.scenes.palette import Palette, Surface
from dove_core.data.scenes.shapes import Point, Pose, bend, spread

_STROKES: dict[str, str] = {
    "0": "abcdef", "1": "bc", "2": "abged", "3": "abgcd", "4": "fgbc", "5": "afgcd", "6": "afgedc", "7": "abc",
    "8": "abcdefg", "9": "abcfgd",
}  # fmt: skip
"""Strokes of each digit, named as those of a seven-segment display."""

_ENDS: dict[str, tuple[Point, Point]] = {
    "a": ((0, 2), (1, 2)), "b": ((1, 2), (1, 1)), "c": ((1, 1), (1, 0)), "d": ((0, 0), (1, 0)), "e": ((0, 1), (0, 0)),
    "f": ((0, 2), (0, 1)), "g": ((0, 1), (1, 1)),
}  # fmt: skip


def runway(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a runway across the whole image, its threshold most often in view."""
    rng, side = canvas.rng, canvas.side
    width = rng.uniform(38, 58) if side > 180 else rng.uniform(36, 48)
    surface = rng.choice(["asphalt", "asphalt", "concrete"])
    paving = palette.concrete if surface == "concrete" else palette.asphalt
    frame = frame.turned(0, rng.uniform(-0.12, 0.12) * side)
    verge = palette.lawn.with_rows(frame.angle, rng.uniform(8, 14), 0.04)
    canvas.fill(frame.box(0, 0, 2 * side, width + min(70, side * 0.3)), verge)
    canvas.taken.add(frame.box(0, 0, 2 * side, width + min(90, side * 0.4)))
    if rng.random() < 0.65:
        _taxiway(canvas, palette, frame, width)
    start = -side * rng.uniform(0.28, 0.44) if rng.random() < 0.8 else -2 * side
    lead = rng.uniform(8, 60)
    canvas.fill(frame.box(start - lead + 1.5 * side, 0, 3 * side, width + 8), paving.lit(0.84))
    canvas.fill(frame.box(start - lead + 1.5 * side, 0, 3 * side, width), paving)
    _marks(canvas, palette, frame.turned(start, 0), width, paving)
    return {"surface": surface}


def _marks(canvas: Canvas, palette: Palette, frame: Pose, width: float, paving: Surface) -> None:
    rng, white = canvas.rng, palette.paint
    rubber = paving.lit(0.8)._replace(grain=0.08)
    for y in (-0.16, 0.02, 0.14):
        canvas.fill(frame.box(rng.uniform(180, 260), y * width, rng.uniform(180, 300), width * 0.09), rubber)
    for side in (-1, 1):
        canvas.line(frame.path([(0, side * (width / 2 - 1)), (2000, side * (width / 2 - 1))]), canvas.mark(0.9), white)
        for x in (75, 150, 225):
            for row in range(3):
                canvas.fill(frame.box(x, side * (0.16 * width + row * 3), 22, 1.8), white)
        canvas.fill(frame.box(300, side * width * 0.22, 46, 8), white)
    for i in range(6):
        for side in (-1, 1):
            canvas.fill(frame.box(18, side * (0.06 + i * 0.074) * width, 28, 0.036 * width), white)
    number = f"{rng.randint(1, 36):02d}"
    for i, digit in enumerate(number):
        _digit(canvas, palette, frame.turned(40, (0.09 - i * 0.18 + 0.06) * width), digit, width)
    first = max(60.0, rng.uniform(56, 70))
    canvas.dashes(frame.at(first, 0), frame.at(first + 2000, 0), canvas.mark(1.1), 30, 20, white)
    canvas.dashes(frame.at(-1, 0), frame.at(-1200, 0), canvas.mark(1.1), 30, 20, white)
    canvas.line(frame.path([(0, -width / 2), (0, width / 2)]), canvas.mark(1.6), white)


def _digit(canvas: Canvas, palette: Palette, frame: Pose, digit: str, width: float) -> None:
    """Paint a digit that is read when landing along the heading."""
    for stroke in _STROKES[digit]:
        (ax, ay), (bx, by) = _ENDS[stroke]
        ends = frame.path([(ay * 5, -ax * width * 0.11), (by * 5, -bx * width * 0.11)])
        canvas.line(ends, max(1.4, 1.1 * canvas.gsd), palette.paint)


def _taxiway(canvas: Canvas, palette: Palette, frame: Pose, width: float) -> None:
    rng, side = canvas.rng, canvas.side
    hand = rng.choice([-1, 1])
    away = hand * (width / 2 + rng.uniform(28, 55) * (1.5 if side > 300 else 1))
    exit_at, lean = rng.uniform(-0.3, 0.3) * side, rng.choice([0, 30, 60])
    main = frame.path([(-side, away), (side, away)])
    link = frame.path(bend((exit_at - lean - 20, 0), (exit_at, hand * 5), (exit_at, away)))
    for path in (main, link):
        canvas.taken.add_line(path, 26)
        canvas.line(path, 21, palette.asphalt.lit(0.86))
        canvas.line(path, 16, palette.asphalt.lit(1.12))
    for path in (main, link):
        canvas.line(path, canvas.mark(0.4), palette.yellow)


def apron(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw aircraft parked on a concrete apron, before a terminal or in two rows."""
    rng, side = canvas.rng, canvas.side
    depth = side * rng.uniform(0.58, 0.72)
    slab = palette.concrete.with_rows(frame.angle, 7.5, 0.025)
    area = frame.box(0, 0, 2 * side, depth)
    canvas.fill(area, slab)
    canvas.taken.add(frame.box(0, 0, 2 * side, depth + 8))
    for x in spread(-0.8 * side, 0.8 * side, 15):
        canvas.line(frame.path([(x, -depth / 2), (x, depth / 2)]), max(0.3, 0.34 * canvas.gsd), slab.lit(0.84))
    lane = -depth * 0.36
    canvas.line(frame.path([(-side, lane), (side, lane)]), canvas.mark(0.5), palette.yellow)
    length = rng.choice([26, 33, 38]) * (1 if side < 180 else 1.15)
    terminal = rng.random() < 0.6
    front = depth * 0.26 if terminal else depth * 0.42
    if terminal:
        hall(canvas, palette, frame.turned(0, depth * 0.40), side * 1.1, depth * 0.2, 12)
    for x in spread(-side * 0.62, side * 0.62, length * 1.12):
        canvas.line(frame.path(bend((x - length * 0.6, lane), (x, lane), (x, front), 8)), canvas.mark(0.4),
                    palette.yellow)  # fmt: skip
        if rng.random() < 0.82:
            plane(canvas, palette, frame.turned(x, front - length / 2, math.pi / 2), length * rng.uniform(0.85, 1.05))
            if terminal:
                canvas.stand(
                    frame.box(x + 5, front + 1, 2.6, 12), 5, [(frame.box(x + 5, front, 2.6, 14), palette.metal)]
                )
        for _ in range(rng.randint(0, 3)):
            cart = frame.turned(x + length * rng.uniform(0.35, 0.5), front - rng.uniform(0, length), rng.uniform(0, 3))
            canvas.stand(
                cart.box(0, 0, 6, 2.6), 2, [(cart.box(0, 0, 6, 2.6), rng.choice([palette.yellow, palette.paint]))]
            )
    return {"surface": "concrete"}
