"""One image from its number: pixels, captions and metadata."""

from __future__ import annotations

import io
import math
import pickle
import random
from typing import Any, NamedTuple

from dove_core.data.sample import METRES_PER_PIXEL
from dove_core.data.scenes.canvas import Canvas, Sun
from dove_core.data.scenes.develop import develop, shares
from dove_core.data.scenes.kinds import KINDS, Kind
from dove_core.data.scenes.palette import SEASONS, Palette
from dove_core.data.scenes.scene_captions import Captions, caption
from dove_core.data.scenes.shapes import Pose
from dove_core.data.scenes.surroundings import LINES, SETTINGS, cross, fill_in, ground

METRES_PER_DEGREE = 111_320.0
"""Metres of a degree along a meridian; along a parallel, multiply by the cosine of the latitude."""

VISIBLE = 0.03
"""Least share of the image of a kind of land that a caption names; lines need a third of it."""

QUALITY = 90
"""Quality of the JPEGs."""

_PRIME = 899_999_963

_NORTH = ((-105, 33, -85, 45), (1, 45, 4, 49), (9, 47, 28, 53))
_SOUTH = ((-65, -36, -60, -28), (140, -35, 148, -28), (22, -31, 28, -28))
"""Stretches of land as west, south, east, north: prairie, France, middle Europe; pampas, New South Wales, the Karoo."""


class Order(NamedTuple):
    """What to draw: `serial` counts through all splits, `kind` is a position in `KINDS`."""

    seed: int
    serial: int
    kind: int


class Drawn(NamedTuple):
    """A finished image; `stem` is its name in SkyScript's form, `meta` its pickle."""

    stem: str
    jpeg: bytes
    meta: bytes
    captions: Captions


def draw(order: Order) -> Drawn:
    """Draw one image: equal orders give equal bytes."""
    rng = random.Random(f"{order.seed}/{order.serial}")
    kind = KINDS[order.kind]
    source, season = rng.choice(kind.sources), rng.choice(sorted(SEASONS))
    south = rng.random() < 0.4
    time = _time(rng, season, south)
    canvas = Canvas(rng, METRES_PER_PIXEL[source], _sun(rng, time[3], south))
    extra = _compose(canvas, Palette(rng, season), kind)
    captions = caption(rng, kind, extra, _seen(canvas))
    buffer = io.BytesIO()
    develop(canvas).save(buffer, "JPEG", quality=QUALITY)
    key, value = kind.tag
    meta = {
        "box": _box(rng, south, canvas.side),
        "time": time,
        "center_tags": {key: value, **extra},
        "surrounding_tags": [dict([tag.split("=")]) for tag in captions.surroundings],
    }
    return Drawn(_stem(rng, order.serial, source, time[0]), buffer.getvalue(), _pickled(meta), captions)


def object_number(serial: int) -> int:
    """Return a nine-digit number like OpenStreetMap's, different for every serial."""
    # Multiplication modulo a prime scatters serials and keeps them distinct.
    return 100_000_000 + (serial + 1) * 48_271_337 % _PRIME


def _compose(canvas: Canvas, palette: Palette, kind: Kind) -> dict[str, str]:
    """Draw land, lines, the object and its surroundings; return the object's further tags."""
    rng = canvas.rng
    frame = Pose(
        rng.uniform(-0.05, 0.05) * canvas.side, rng.uniform(-0.05, 0.05) * canvas.side, rng.uniform(0, math.tau)
    )
    setting = rng.choice([tag for tag in SETTINGS if tag not in kind.avoid])
    ground(canvas, palette, frame, setting)
    lines = [tag for tag in LINES if tag not in kind.avoid]
    for line in rng.sample(lines, rng.choice([0, 1, 1, 2])):
        cross(canvas, palette, frame, line, along=kind.along)
    extra = kind.draw(canvas, palette, frame)
    fill_in(canvas, palette, frame, setting)
    canvas.finish()
    return extra


def _seen(canvas: Canvas) -> list[str]:
    """Return the tags of the visible surroundings, the largest first."""
    found = sorted(shares(canvas).items(), key=lambda pair: (-pair[1], pair[0]))
    return [tag for tag, share in found if tag and share >= (VISIBLE / 3 if tag in LINES else VISIBLE)]


def _time(rng: random.Random, season: str, south: bool) -> tuple[int, int, int, int, int]:
    """Return year, month, day, hour and minute of a day in a season."""
    month = rng.choice(SEASONS[season])
    if south:
        month = (month + 5) % 12 + 1
    return rng.randint(2014, 2021), month, rng.randint(1, 28), rng.randint(8, 15), rng.randrange(60)


def _sun(rng: random.Random, hour: int, south: bool) -> Sun:
    """Return the sun of an hour: in the east before noon, and towards the equator."""
    bearing = math.radians(180 - (hour + rng.random() - 4) * 15)
    reach = rng.uniform(0.5, 0.9) + 0.12 * abs(hour + 0.5 - 12)
    return Sun(-bearing + math.pi if south else bearing + math.pi, reach)


def _box(rng: random.Random, south: bool, side: float) -> tuple[float, float, float, float]:
    """Return west, south, east and north in degrees of a place on land of `side` metres."""
    west, low, east, top = rng.choice(_SOUTH if south else _NORTH)
    lat, lon = rng.uniform(low, top), rng.uniform(west, east)
    high = side / METRES_PER_DEGREE
    wide = high / math.cos(math.radians(lat))
    return lon - wide / 2, lat - high / 2, lon + wide / 2, lat + high / 2


def _stem(rng: random.Random, serial: int, source: str, year: int) -> str:
    """Return a file name in SkyScript's form."""
    return f"{rng.choice('aaawn')}{object_number(serial)}_{source}_{year % 100:02d}"


def _pickled(meta: dict[str, Any]) -> bytes:
    """Return a pickle that depends on values alone.

    Without `fast`, equal strings are written once if they are one object and twice if they are two, which differs
    between processes.
    """
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=4)
    pickler.fast = True
    pickler.dump(meta)
    return buffer.getvalue()
