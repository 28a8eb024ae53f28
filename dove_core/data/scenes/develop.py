"""From inks and shadows to pixels: texture, sunlight, haze, noise."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from dove_core.data.scenes.canvas import FINE, PIXELS, Canvas, Ink
from dove_core.data.scenes.texture import BUMP_PIXELS, SIZE, Field, fields

CROWN_METRES = 7.0
"""Distance from crown to crown in a wood."""

_TINT = np.array([12.0, 1.0, -6.0], np.float32)
"""Change of red, green and blue by one unit of tint: from fresh to dry."""

_SHADOW = np.array([0.44, 0.48, 0.56], np.float32)
"""Light in a shadow, bluish like the sky."""


def develop(canvas: Canvas) -> Image.Image:
    """Return the finished image, RGB, PIXELS by PIXELS."""
    rng = canvas.rng
    colours = canvas.drawn.copy()
    colours.putpalette([value for ink in canvas.inks for value in ink.material.rgb])
    pixels: Field = np.asarray(colours.convert("RGB").reduce(FINE), np.float32)
    inks = _inks(canvas)
    pixels = pixels * _tone(canvas, inks, rng)[..., None]
    tint = _amount([ink.material.tint for ink in canvas.inks])[inks] * _cut(fields().tint, rng)
    pixels += tint[..., None] * _TINT
    shade = np.asarray(canvas.shadows.reduce(FINE).filter(ImageFilter.BoxBlur(0.5)), np.float32) / 255
    pixels *= 1 - shade[..., None] * (1 - _SHADOW)
    return Image.fromarray(_exposed(pixels, rng))


def shares(canvas: Canvas) -> dict[str, float]:
    """Return the share of the finished image that each label covers, 0 to 1."""
    counts = np.bincount(_inks(canvas).ravel(), minlength=len(canvas.inks)) / PIXELS**2
    found: dict[str, float] = {}
    for ink, count in zip(canvas.inks, counts.tolist(), strict=True):
        found[ink.label] = found.get(ink.label, 0.0) + count
    return found


def _inks(canvas: Canvas) -> npt.NDArray[np.uint8]:
    """Return the ink in the middle of every pixel."""
    return np.asarray(canvas.drawn)[FINE // 2 :: FINE, FINE // 2 :: FINE]


def _tone(canvas: Canvas, inks: npt.NDArray[np.uint8], rng: random.Random) -> Field:
    """Return the factor of every pixel's brightness, from texture and rows."""
    materials = [ink.material for ink in canvas.inks]
    grain = 0.8 * _cut(fields().grain, rng) + 0.6 * _cut(fields().speckle, rng)
    tone: Field = np.float32(1) + _amount([m.grain for m in materials])[inks] * grain
    tone += _amount([m.patch for m in materials])[inks] * _cut(fields().patch, rng)
    size = min(range(len(BUMP_PIXELS)), key=lambda i: abs(BUMP_PIXELS[i] - CROWN_METRES / canvas.gsd))
    for amounts, which in (([m.crowns for m in materials], size), ([m.rock for m in materials], -1)):
        if any(amounts):
            tone += _amount(amounts)[inks] * _sunlit(which, canvas.sun.angle, rng)
    _add_rows(tone, canvas.inks, inks, canvas.gsd)
    return tone


def _sunlit(which: int, angle: float, rng: random.Random) -> Field:
    bumps = fields().bumps[which]
    row, column = rng.randrange(SIZE - PIXELS), rng.randrange(SIZE - PIXELS)
    window = np.s_[row : row + PIXELS, column : column + PIXELS]
    slope = bumps.east[window] * np.float32(-np.cos(angle)) + bumps.north[window] * np.float32(-np.sin(angle))
    lit: Field = slope + np.float32(0.5) * bumps.hollow[window]
    return lit


def _add_rows(tone: Field, drawn: Sequence[Ink], inks: npt.NDArray[np.uint8], gsd: float) -> None:
    right, down, strength = (np.zeros(len(drawn), np.float32) for _ in range(3))
    for number, ink in enumerate(drawn):
        if ink.material.rows is not None:
            angle, period, strength[number] = ink.material.rows
            # Rows narrower than two pixels would only make false patterns: widen them to what the image can hold.
            per_pixel = gsd / max(period, 2.2 * gsd) * 2 * np.pi
            right[number], down[number] = np.sin(angle) * per_pixel, np.cos(angle) * per_pixel
    if strength.any():
        steps = np.arange(PIXELS, dtype=np.float32)
        tone += strength[inks] * np.sin(right[inks] * steps + down[inks] * steps[:, None])


def _exposed(pixels: Field, rng: random.Random) -> npt.NDArray[np.uint8]:
    """Return the pixels as bytes, with the light's warmth, contrast, haze and the sensor's noise."""
    warmth = rng.uniform(-0.05, 0.05)
    gain = rng.uniform(0.86, 1.14)
    light = np.array([gain * (1 + warmth), gain, gain * (1 - warmth)], np.float32)
    haze = rng.uniform(0.0, 0.14)
    pixels = pixels * (light * np.float32(1 - haze)) + np.float32(haze * 190)
    noise = _cut(fields().grain, rng) * np.float32(rng.uniform(0.8, 3.0))
    return np.clip(pixels + noise[..., None], 0, 255).astype(np.uint8)


def _cut(field: Field, rng: random.Random) -> Field:
    """Return a window of a field, at a random place and turned at random."""
    row, column = rng.randrange(SIZE - PIXELS), rng.randrange(SIZE - PIXELS)
    window = field[row : row + PIXELS, column : column + PIXELS]
    window = window[:: rng.choice([1, -1]), :: rng.choice([1, -1])]
    return window.T if rng.random() < 0.5 else window


def _amount(values: Sequence[float]) -> Field:
    return np.array(values, np.float32)
