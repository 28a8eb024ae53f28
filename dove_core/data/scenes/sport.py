"""Sport grounds: running track, baseball field, tennis courts, golf course."""

from __future__ import annotations

import math

from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.objects import tree
from dove_core.data.scenes.palette import Palette, Surface
from dove_core.data.scenes.shapes import Point, Pose, arc, blob, spread


def track(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw an oval running track round a football pitch, sometimes with stands."""
    rng, side = canvas.rng, canvas.side
    straight, bend_radius = 42.2, 36.5
    scale = min(1.0, side * 0.9 / 180)
    straight, bend_radius, lanes = straight * scale, bend_radius * scale, 9.8 * scale
    rubber = Surface(rng.choice([(176, 86, 66), (164, 74, 60), (188, 100, 74), (72, 108, 150)]), 0.04, 0.04)
    outer = bend_radius + lanes
    canvas.taken.add(frame.box(0, 0, 2 * (straight + outer) + 6, 2 * outer + 6))
    canvas.fill(frame.path(_oval(straight, outer + 4 * scale)), palette.lawn.lit(0.9))
    canvas.fill(frame.path(_oval(straight, outer)), rubber)
    for i in range(9):
        ring = frame.path(_oval(straight, bend_radius + lanes * i / 8))
        width = canvas.mark(0.2) * (0.9 if i in (0, 8) else 0.45)
        canvas.line([*ring, ring[0]], width, palette.paint)
    grass = palette.lawn.with_rows(frame.angle + math.pi / 2, 11 * scale, 0.07)
    canvas.fill(
        frame.path(_oval(straight, bend_radius)), rubber.lit(0.95) if rng.random() < 0.4 else palette.lawn.lit(0.92)
    )
    _pitch(canvas, palette, frame, 100 * scale, 62 * scale, grass)
    for hand in (-1, 1):
        if rng.random() < 0.5:
            _stand(canvas, palette, frame.turned(0, hand * (outer + 10 * scale)), straight * 2, 13 * scale)
    return {"sport": "athletics"}


def _stand(canvas: Canvas, palette: Palette, frame: Pose, length: float, depth: float) -> None:
    outline = frame.box(0, 0, length, depth)
    canvas.taken.add(frame.box(0, 0, length + 4, depth + 4))
    seats = canvas.rng.choice([palette.cars[5], palette.cars[4], palette.metal])
    rows = [(frame.box(0, y, length, depth / 8), seats) for y in spread(-depth / 2, depth / 2, depth / 4)]
    canvas.stand(outline, 9, [(outline, palette.concrete), *rows])


def _oval(straight: float, radius: float) -> list[Point]:
    right = arc(straight, 0, radius, -math.pi / 2, math.pi / 2, 28)
    return right + arc(-straight, 0, radius, math.pi / 2, 3 * math.pi / 2, 28)


def _pitch(canvas: Canvas, palette: Palette, frame: Pose, length: float, width: float, grass: Surface) -> None:
    canvas.fill(frame.box(0, 0, length, width), grass)
    thick = canvas.mark(0.15) * 0.7
    ring = arc(frame.x, frame.y, length * 0.09, 0, math.tau, 30)
    boxes = [frame.box(0, 0, length, width)]
    for hand in (-1, 1):
        boxes.append(frame.box(hand * length * 0.42, 0, length * 0.16, width * 0.6))
        boxes.append(frame.box(hand * length * 0.47, 0, length * 0.06, width * 0.28))
    for outline in (ring, *boxes):
        canvas.line([*outline, outline[0]], thick, palette.paint)
    canvas.line(frame.path([(0, -width / 2), (0, width / 2)]), thick, palette.paint)


def baseball(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a baseball field: a fan of grass, the brown infield with its diamond, the warning track."""
    rng, side = canvas.rng, canvas.side
    reach = side * rng.uniform(0.62, 0.72)
    scale = reach / 100
    home = frame.turned(-reach * 0.46, -reach * 0.46)
    dirt = Surface(rng.choice([(178, 126, 88), (166, 112, 80), (190, 146, 108)]), 0.05, 0.05)
    fan = [(0.0, 0.0), *arc(0, 0, reach, 0, math.pi / 2, 30)]
    canvas.taken.add(home.path([(x * 1.06 - 3, y * 1.06 - 3) for x, y in fan]))
    canvas.fill(home.path([(x * 1.05 - 6 * scale, y * 1.05 - 6 * scale) for x, y in fan]), dirt)
    stripes = palette.lawn.with_rows(home.angle + math.pi / 4, 9 * scale, 0.06)
    canvas.fill(home.path([(x * 0.99, y * 0.99) for x, y in fan]), stripes)
    base = 27.4 * scale * rng.uniform(1.0, 1.2)
    middle = home.turned(base * 0.62, base * 0.62)
    arc_radius = base * 1.05
    infield = [(x, y) for x, y in arc(base * 0.62, base * 0.62, arc_radius, -0.9, math.pi / 2 + 0.9, 30)]
    canvas.fill(
        home.path([(-3 * scale, -3 * scale), *((max(x, -3 * scale), max(y, -3 * scale)) for x, y in infield)]), dirt
    )
    canvas.fill(home.box(base * 0.5, base * 0.5, base * 0.8, base * 0.8), stripes)
    for x, y in ((base * 0.5, base * 0.5), (0, 0)):
        canvas.fill(home.disc(x, y, 3.6 * scale), dirt)
    for end in ((reach, 0.0), (0.0, reach)):
        canvas.line([home.at(0, 0), home.at(*end)], canvas.mark(0.3), palette.paint)
    for x, y in ((base, 0), (base, base), (0, base), (0, 0), (base * 0.5, base * 0.5)):
        canvas.fill(home.disc(x, y, max(1.2, 0.9 * canvas.gsd)), palette.paint)
    for turn in (0.0, math.pi / 2):
        bench = Pose(middle.x, middle.y, home.angle + turn)
        box = bench.box(0, -base * 0.95 if turn == 0 else base * 0.95, base * 0.4, 3)
        canvas.stand(box, 3, [(box, palette.metal)])
    return {"sport": "baseball"}


def tennis(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw a block of tennis courts with white lines and nets."""
    rng, side = canvas.rng, canvas.side
    columns = 1 if side < 60 else rng.choice([2, 3, 4])
    rows = 1 if side < 90 else rng.choice([1, 2])
    colour, name = rng.choice([((178, 100, 70), "clay"), ((62, 100, 150), "acrylic"), ((84, 122, 80), "asphalt"),
                               ((186, 112, 78), "clay")])  # fmt: skip
    court = Surface(colour, 0.03, 0.03)
    apron = rng.choice([court.lit(0.88), Surface((86, 124, 84), 0.03, 0.03), court.lit(1.12)])
    wide, deep = columns * 17.0, rows * 36.0
    shrink = min(1.0, side * 0.86 / max(wide, deep))
    canvas.taken.add(frame.box(0, 0, wide * shrink + 4, deep * shrink + 4))
    canvas.fill(frame.box(0, 0, wide * shrink + 1.5, deep * shrink + 1.5), palette.dark.lit(1.3))
    canvas.fill(frame.box(0, 0, wide * shrink, deep * shrink), apron)
    for x in spread(-wide / 2, wide / 2, 17):
        for y in spread(-deep / 2, deep / 2, 36):
            _court(canvas, palette, frame.turned(x * shrink, y * shrink), shrink, court)
    for x in spread(-wide / 2, wide / 2, 8):
        if rng.random() < 0.3:
            tree(canvas, palette, *frame.at(x * shrink, (deep / 2 + 4) * shrink), rng.uniform(1.6, 3))
    return {"sport": "tennis", "surface": name}


def _court(canvas: Canvas, palette: Palette, frame: Pose, scale: float, court: Surface) -> None:
    length, width, thick = 23.8 * scale, 11.0 * scale, canvas.mark(0.1) * 0.6
    canvas.fill(frame.box(0, 0, width, length), court)
    for outline in (frame.box(0, 0, width, length), frame.box(0, 0, width * 0.75, length)):
        canvas.line([*outline, outline[0]], thick, palette.paint)
    service = length * 0.27
    for y in (-service, service):
        canvas.line(frame.path([(-width * 0.375, y), (width * 0.375, y)]), thick, palette.paint)
    canvas.line(frame.path([(0, -service), (0, service)]), thick, palette.paint)
    net = frame.box(0, 0, width * 1.1, max(0.2, 0.5 * canvas.gsd))
    canvas.stand(net, 1.1, [(net, palette.dark)])


def golf(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw fairways with greens, sand bunkers, ponds and rows of trees."""
    rng, side = canvas.rng, canvas.side
    rough = palette.grass.lit(0.9)
    edge = frame.path(blob(rng, 0, -side * 0.08, side * 0.56, 0.12))
    canvas.fill(edge, rough)
    canvas.taken.add(edge)
    fair = Surface((118, 158, 84), 0.03, 0.04) if palette.season != "bare" else Surface((128, 148, 88), 0.03, 0.04)
    lanes = spread(-0.48 * side, 0.34 * side, side * rng.uniform(0.24, 0.3))
    sand = Surface((232, 218, 180), 0.03, 0.03)
    for i, y in enumerate(lanes):
        hand = 1 if i % 2 else -1
        curve = side * rng.uniform(-0.07, 0.07)
        path = [(x * side, y + curve * math.cos(x * 4)) for x in (-0.34, -0.24, -0.12, 0, 0.12, 0.24, 0.34)]
        width = side * rng.uniform(0.09, 0.13)
        stripe = fair.with_rows(frame.angle + 0.8, side * 0.035, 0.05)
        canvas.line(frame.path(path), width, stripe)
        for x, v in (path[0], path[-1]):
            canvas.fill(frame.disc(x, v, width / 2), stripe)
        green = frame.turned(hand * 0.36 * side, path[-1 if hand > 0 else 0][1])
        canvas.fill(blob(rng, green.x, green.y, side * 0.05, 0.15), fair.lit(1.2))
        canvas.fill(green.disc(0, 0, max(0.9, canvas.gsd)), palette.paint)
        for _ in range(rng.randint(2, 3)):
            turn = rng.uniform(0, math.tau)
            x, v = green.at(side * 0.075 * math.cos(turn), side * 0.075 * math.sin(turn))
            canvas.fill(blob(rng, x, v, side * rng.uniform(0.018, 0.03), 0.35), sand)
        for x in spread(-0.45 * side, 0.45 * side, side * 0.05):
            if rng.random() < 0.6:
                tree(canvas, palette, *frame.at(x, y + side * 0.14 + rng.uniform(-0.02, 0.02) * side),
                     max(3.5, 1.6 * canvas.gsd) * rng.uniform(0.8, 1.3))  # fmt: skip
    if rng.random() < 0.5:
        x, v = frame.at(rng.uniform(-0.2, 0.2) * side, lanes[0] + side * 0.13)
        canvas.fill(blob(rng, x, v, side * 0.06, 0.3), palette.water)
    return {"leisure": "golf_course"}
