"""Buildings and other works: homes, warehouses, tanks, solar farms, turbines, greenhouses, cemeteries."""

from __future__ import annotations

import math

from dove_core.data.scenes.canvas import Canvas
from dove_core.data.scenes.objects import car, hall, house, traffic, tree
from dove_core.data.scenes.palette import Palette, Surface
from dove_core.data.scenes.shapes import Disc, Pose, Shape, spread


def residential(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw streets in a grid with rows of houses, gardens, drives and street trees."""
    rng, side = canvas.rng, canvas.side
    block, plot = rng.uniform(54, 64), rng.uniform(17, 22)
    top = side * rng.uniform(0.28, 0.42)
    canvas.fill(frame.box(0, top - side, side * 2, side * 2), palette.lawn)
    canvas.taken.add(frame.box(0, top - side, side * 2, side * 2))
    streets = [top - 6 - i * block for i in range(int(1.3 * side / block) + 1)]
    avenue = rng.uniform(-0.3, 0.3) * side
    tiles = rng.sample(palette.tiles, 3)
    for y in streets:
        for hand in (-1, 1):
            for x in spread(-0.75 * side, 0.75 * side, plot):
                if abs(x - avenue) > 14 and y + hand * 14 < top:
                    _home(canvas, palette, frame.turned(x, y + hand * 17, 0), plot, hand, rng.choice(tiles))
        _street(canvas, palette, frame.turned(0, y))
    canvas.fill(frame.turned(avenue, top - side).box(0, 0, 13, side * 2), palette.concrete)
    canvas.fill(frame.turned(avenue, top - side).box(0, 0, 9, side * 2), palette.asphalt)
    for y in streets:
        canvas.fill(frame.box(avenue, y, 20, 7), palette.asphalt)
    return {"building": "house"}


def _street(canvas: Canvas, palette: Palette, frame: Pose) -> None:
    side = canvas.side
    canvas.fill(frame.box(0, 0, side * 2, 11), palette.concrete)
    canvas.fill(frame.box(0, 0, side * 2, 7.5), palette.asphalt)
    traffic(canvas, palette, [frame.at(-side * 0.7, 0), frame.at(side * 0.7, 0)], 2.6, 22)


def _home(canvas: Canvas, palette: Palette, frame: Pose, plot: float, hand: int, tiles: Surface) -> None:
    """Draw one plot; the street lies `hand` times below it."""
    rng = canvas.rng
    drive = plot * 0.33
    canvas.fill(frame.box(drive, -hand * 7, 3.2, 12), palette.concrete)
    if rng.random() < 0.4:
        car(canvas, palette, frame.turned(drive, -hand * 7, math.pi / 2))
    turn = rng.choice([0, 0, math.pi / 2])
    house(canvas, palette, frame.turned(rng.uniform(-1.5, 0.5), hand * rng.uniform(-0.5, 2), turn), rng.uniform(10, 13),
          rng.uniform(8, 9.5), tiles)  # fmt: skip
    if rng.random() < 0.6:
        tree(
            canvas, palette, *frame.at(rng.uniform(-0.4, 0.4) * plot, hand * rng.uniform(9, 12)), rng.uniform(1.8, 3.6)
        )
    if rng.random() < 0.1:
        canvas.fill(frame.box(-plot * 0.25, hand * 9, 6, 3), Surface((84, 176, 202)))


def warehouse(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw large halls with loading docks, lorries and wide yards."""
    rng, side = canvas.rng, canvas.side
    wide, deep = side * rng.uniform(0.66, 0.8), side * rng.uniform(0.6, 0.76)
    canvas.taken.add(frame.box(0, 0, wide + 6, deep + 6))
    canvas.fill(frame.box(0, 0, wide, deep), palette.asphalt.lit(1.12))
    count = rng.choice([1, 2, 2])
    for i in range(count):
        share = deep / count
        spot = frame.turned(0, -deep / 2 + share * (i + 0.5) + share * 0.12)
        length, width = wide * rng.uniform(0.78, 0.92), share * (0.58 if count == 2 else 0.66)
        hall(canvas, palette, spot, length, width, 13)
        for x in spread(-length / 2, length / 2, 5.2):
            if rng.random() < 0.55:
                lorry = spot.turned(x, -width / 2 - 9.5)
                box = lorry.box(0, 1, 2.9, 14)
                cab = lorry.box(0, -8, 2.6, 2.6)
                canvas.stand(box, 4, [(box, rng.choice([palette.paint, palette.paint, *palette.cars])),
                                      (cab, rng.choice(palette.cars))])  # fmt: skip
            else:
                canvas.line([spot.at(x - 2.4, -width / 2), spot.at(x - 2.4, -width / 2 - 16)], canvas.mark(0.2) * 0.6,
                            palette.paint)  # fmt: skip
    return {"building": "warehouse"}


def storage_tank(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw white round tanks in rows behind low walls."""
    rng, side = canvas.rng, canvas.side
    rows = rng.choice([2, 3, 3])
    area = side * rng.uniform(0.64, 0.78)
    cell = area / rows
    canvas.taken.add(frame.box(0, 0, area + 6, area + 6))
    canvas.fill(frame.box(0, 0, area, area), rng.choice([palette.gravel, palette.concrete, palette.soil]))
    for x in spread(-area / 2, area / 2, cell):
        for y in spread(-area / 2, area / 2, cell):
            canvas.fill(frame.box(x, y, cell * 0.97, cell * 0.97), palette.concrete.lit(0.75))
            canvas.fill(frame.box(x, y, cell * 0.92, cell * 0.92), palette.gravel.lit(0.95))
            if rng.random() < 0.9:
                _tank(canvas, palette, frame.turned(x, y), cell * rng.uniform(0.27, 0.4))
    for x in spread(-area / 2, area / 2, cell)[1:]:
        canvas.line(
            frame.path([(x - cell / 2, -area / 2), (x - cell / 2, area / 2)]), max(1.2, canvas.gsd), palette.steel
        )
    return {"content": rng.choice(["oil", "fuel", "water"])}


def _tank(canvas: Canvas, palette: Palette, frame: Pose, radius: float) -> None:
    rng, sun = canvas.rng, canvas.sun
    shell = rng.choice([palette.paint, palette.paint, palette.steel, palette.flats[4]])
    base = frame.disc(0, 0, radius)
    dx, dy = math.cos(sun.angle) * radius, math.sin(sun.angle) * radius
    surfaces: list[tuple[Shape, Surface]] = [(base, shell.lit(0.8)), (frame.disc(0, 0, radius * 0.95), shell)]
    if rng.random() < 0.4:
        # A floating roof lies lower: the rim shades its sunny side.
        surfaces.append((frame.disc(0, 0, radius * 0.9), shell.lit(0.5)))
        surfaces.append((Disc(base.x - dx * 0.12, base.y - dy * 0.12, radius * 0.78), shell.lit(0.86)))
    else:
        surfaces.append((Disc(base.x + dx * 0.3, base.y + dy * 0.3, radius * 0.5), shell.lit(1.1)))
    surfaces.append((frame.disc(0, 0, radius * 0.08), palette.metal))
    stair = Pose(base.x, base.y, rng.uniform(0, math.tau))
    surfaces.append((stair.box(radius * 0.5, 0, radius, max(0.8, 0.6 * canvas.gsd)), palette.metal))
    canvas.stand(base, radius * 0.75, surfaces)


def solar(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw long rows of dark blue panels in blocks with gravel paths between."""
    rng, side = canvas.rng, canvas.side
    wide, deep = side * rng.uniform(0.7, 0.84), side * rng.uniform(0.62, 0.78)
    canvas.taken.add(frame.box(0, 0, wide + 6, deep + 6))
    canvas.fill(frame.box(0, 0, wide + 4, deep + 4), rng.choice([palette.grass, palette.soil, palette.sand]))
    blue = Surface(rng.choice([(44, 58, 96), (38, 52, 82), (54, 66, 108)]), 0.03, 0.03)
    pitch, panel = max(7.5, 8.0 * canvas.gsd), max(4.4, 4.8 * canvas.gsd)
    way = rng.uniform(-0.2, 0.2) * wide
    for low, high in ((-wide / 2, way - 4), (way + 4, wide / 2)):
        middle, length = (low + high) / 2, high - low
        for y in spread(-deep / 2, deep / 2, pitch):
            row = frame.box(middle, y, length - 2, panel)
            surfaces: list[tuple[Shape, Surface]] = [(row, blue)]
            surfaces.append((frame.box(middle, y + panel * 0.42, length - 2, panel * 0.14), blue.lit(1.7)))
            if canvas.gsd < 1:
                surfaces.extend((frame.box(x, y, 0.35, panel), blue.lit(1.45)) for x in spread(low + 2, high - 2, 12))
            canvas.stand(row, 2.2, surfaces, afloat=True)
    canvas.line(frame.path([(way, -deep / 2), (way, deep / 2)]), 4.5, palette.gravel.lit(1.1))
    hut = frame.box(way, deep * 0.4, 5, 8)
    canvas.stand(hut, 3, [(hut, palette.paint)])
    return {"plant:source": "solar"}


def wind_turbine(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw turbines seen from above: white blades, a long shadow of the mast with the blades' shadow at its end."""
    rng, side = canvas.rng, canvas.side
    count = 1 if side < 260 else rng.choice([1, 2, 3])
    reach = side * {1: 0.23, 2: 0.17, 3: 0.13}[count]
    for i, x in enumerate(spread(-side * 0.5, side * 0.5, side * 0.9 / count)):
        spot = frame.turned(x, side * rng.uniform(-0.12, 0.12) * (1 if i % 2 else -1), rng.uniform(0, 0.4))
        canvas.taken.add(spot.disc(0, 0, reach * 0.5))
        canvas.fill(spot.box(0, -side * 0.75, max(4.5, 2 * canvas.gsd), side * 1.5), palette.gravel.lit(1.15))
        canvas.fill(spot.box(reach * 0.1, 0, reach * 0.45, reach * 0.35), palette.gravel.lit(1.15))
        _turbine(canvas, palette, spot, reach)
    return {"generator:source": "wind"}


def _turbine(canvas: Canvas, palette: Palette, frame: Pose, reach: float) -> None:
    rng = canvas.rng
    thick, white = max(reach * 0.06, 1.5 * canvas.gsd), Surface((248, 248, 246), 0.0, 0.0)
    # The height is chosen so that the whole shadow stays in view whatever the sun.
    height = reach * 1.25 / max(canvas.sun.reach, 0.6)
    canvas.stand(frame.disc(0, 0, thick * 0.7), height, [(frame.disc(0, 0, thick * 1.2), palette.concrete)])
    start = rng.uniform(0, math.tau)
    for k in range(3):
        blade = frame.turned(0, 0, start + k * math.tau / 3)
        shape = blade.path([(0, -thick * 0.6), (reach * 0.3, -thick * 0.75), (reach, 0), (reach * 0.2, thick * 0.5)])
        canvas.stand(shape, height, [(shape, white)], afloat=True)
    hub = frame.disc(0, 0, thick)
    canvas.stand(
        hub, height, [(hub, white), (frame.box(-thick, 0, thick * 3, thick * 1.2), white.lit(0.92))], afloat=True
    )


def greenhouse(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw long glass or plastic tunnels side by side."""
    rng, side = canvas.rng, canvas.side
    wide, deep = side * rng.uniform(0.68, 0.8), side * rng.uniform(0.6, 0.74)
    canvas.taken.add(frame.box(0, 0, wide + 6, deep + 6))
    canvas.fill(frame.box(0, 0, wide + 4, deep + 4), palette.soil)
    glass = Surface(rng.choice([(214, 224, 224), (196, 214, 216), (228, 230, 224)]), 0.03, 0.05)
    span = max(8.0, 7.0 * canvas.gsd) * rng.uniform(0.95, 1.2)
    blocks = rng.choice([1, 2, 2])
    facing = math.cos(frame.angle + math.pi / 2 - canvas.sun.angle)
    for i in range(blocks):
        length = wide / blocks - 5
        x = -wide / 2 + (i + 0.5) * wide / blocks
        for y in spread(-deep / 2, deep / 2, span):
            if rng.random() < 0.06:
                continue
            tint = glass.lit(rng.choice([0.92, 1.0, 1.0, 1.06]))
            outline = frame.box(x, y, length, span * 0.92)
            surfaces = [(frame.box(x, y + span * 0.23, length, span * 0.46), tint.lit(1 + 0.12 * facing)),
                        (frame.box(x, y - span * 0.23, length, span * 0.46), tint.lit(1 - 0.12 * facing)),
                        (frame.box(x, y, length, max(0.4, 0.5 * canvas.gsd)), palette.paint.lit(1.05))]  # fmt: skip
            surfaces += [(frame.box(v, y, max(0.3, 0.4 * canvas.gsd), span * 0.92), tint.lit(0.86))
                         for v in spread(x - length / 2, x + length / 2, 9)]  # fmt: skip
            canvas.stand(outline, 4, surfaces)
    return {"building": "greenhouse"}


def cemetery(canvas: Canvas, palette: Palette, frame: Pose) -> dict[str, str]:
    """Draw plots of small graves in rows between crossing paths, with dark trees and a chapel."""
    rng, side = canvas.rng, canvas.side
    wide, deep = side * rng.uniform(0.7, 0.8), side * rng.uniform(0.62, 0.74)
    canvas.taken.add(frame.box(0, 0, wide + 3, deep + 3))
    wall = frame.box(0, 0, wide + 2, deep + 2)
    canvas.fill(wall, palette.concrete.lit(0.8))
    canvas.fill(frame.box(0, 0, wide, deep), palette.gravel.lit(1.08))
    across, down = rng.choice([2, 3]), rng.choice([2, 3])
    stones = (palette.paint, palette.steel, palette.dark, palette.concrete)
    for px in spread(-wide / 2, wide / 2, wide / across):
        for py in spread(-deep / 2, deep / 2, deep / down):
            w, d = wide / across - side * 0.03, deep / down - side * 0.03
            canvas.fill(frame.box(px, py, w, d), palette.lawn)
            gap = max(2.4, 4.5 * canvas.gsd)
            for y in spread(py - d / 2, py + d / 2, gap * 1.5):
                for x in spread(px - w / 2, px + w / 2, gap):
                    if rng.random() < 0.8:
                        canvas.fill(frame.box(x, y, gap * 0.5, gap * 0.85), rng.choice(stones))
    chapel = frame.turned(0, 0)
    canvas.fill(frame.disc(0, 0, side * 0.07), palette.gravel.lit(1.08))
    house(canvas, palette, chapel, side * 0.1, side * 0.055, palette.tiles[0])
    for x in spread(-wide / 2, wide / 2, wide / across)[1:]:
        for y in spread(-deep / 2, deep / 2, side * 0.07):
            if abs(y) > side * 0.07:
                tree(canvas, palette, *frame.at(x - wide / across / 2, y), side * 0.016, palette.needle)
    return {"religion": "christian"}
