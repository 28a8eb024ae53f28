"""Noise fields that repeat seamlessly; made once in a process, then cut at random positions."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]

SIZE = 512
"""Rows and columns of a field: twice those of an image, so that cuts differ."""

_SEED = 20240229


class Bumps(NamedTuple):
    """A sunlit surface: its slopes to the east and north, and its hollows (darker than 0)."""

    east: Field
    north: Field
    hollow: Field


class Fields(NamedTuple):
    """Every texture, mean 0 and standard deviation 1."""

    grain: Field
    speckle: Field
    patch: Field
    tint: Field
    bumps: tuple[Bumps, ...]


BUMP_PIXELS = (4.0, 8.0, 15.0)
"""Distance from bump to bump of the first members of `Fields.bumps`, tree crowns; the last one is broken rock."""


@functools.cache
def fields() -> Fields:
    """Make all fields: about 0.2 s, once in a process."""
    rng = np.random.default_rng(_SEED)
    crowns = tuple(_bumps(_band(rng, width, 0.45)) for width in BUMP_PIXELS)
    rock = _bumps(_fractal(rng, 60.0, 1.6))
    return Fields(_band(rng, 3.0, 0.7), _band(rng, 9.0, 0.8), _fractal(rng, 90.0, 1.7), _fractal(rng, 130.0, 1.9),
                  (*crowns, rock))  # fmt: skip


def _radii() -> Field:
    rows, columns = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :]
    radii: Field = np.hypot(rows, columns).astype(np.float32)
    return radii


def _shaped(rng: np.random.Generator, weights: Field) -> Field:
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * weights, (SIZE, SIZE))
    return _unit(noise.astype(np.float32))


def _unit(field: Field) -> Field:
    unit: Field = ((field - field.mean()) / field.std()).astype(np.float32)
    return unit


def _band(rng: np.random.Generator, width: float, spread: float) -> Field:
    """Return noise whose waves are about `width` pixels long."""
    octaves = np.log2(np.maximum(_radii(), 1e-6) * width)
    return _shaped(rng, np.exp(-((octaves / spread) ** 2)).astype(np.float32))


def _fractal(rng: np.random.Generator, longest: float, power: float) -> Field:
    """Return noise with waves of every length up to `longest` pixels, the long ones strongest."""
    radii = np.maximum(_radii(), 1 / longest)
    return _shaped(rng, np.where(_radii() > 0, radii**-power, 0).astype(np.float32))


def _bumps(height: Field) -> Bumps:
    east = (np.roll(height, -1, 1) - np.roll(height, 1, 1)).astype(np.float32)
    north = (np.roll(height, 1, 0) - np.roll(height, -1, 0)).astype(np.float32)
    scale = np.hypot(east, north).std() + np.float32(1e-6)
    return Bumps((east / scale / 2).astype(np.float32), (north / scale / 2).astype(np.float32),
                 np.minimum(height + np.float32(0.2), 0))  # fmt: skip
