"""Captions in SkyScript's style: `value of key`, and the same with its surroundings."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dove_core.data.scenes.kinds import Kind

SPOKEN = ("surface", "leaf_type")
"""Further tags that are visible in an image, so that a title may name them."""

MOST = 4
"""Most surroundings in one caption."""


class Captions(NamedTuple):
    """Both captions of an image, and the tags of the surroundings that the second one names."""

    title: str
    title_multi_objects: str
    surroundings: tuple[str, ...]


def caption(rng: random.Random, kind: Kind, extra: Mapping[str, str], seen: Sequence[str]) -> Captions:
    """Write the captions of an image of `kind`; `extra` are its further tags, `seen` the tags around it."""
    title = rng.choice(kind.titles)
    for key in SPOKEN:
        if key in extra and rng.random() < 0.4 and extra[key] not in title:
            title = f"{title}, {words(key)} of {words(extra[key])}"
    named = tuple(tag for tag in seen if tag != "=".join(kind.tag))[:MOST]
    if not named:
        return Captions(title, title, ())
    return Captions(title, f"{title}, surrounded by {'; '.join(map(phrase, named))}", named)


def phrase(tag: str) -> str:
    """Return a tag as in a caption: `highway=service` becomes `road of service`."""
    key, value = tag.split("=")
    return f"{'road' if key == 'highway' else words(key)} of {words(value)}"


def words(text: str) -> str:
    """Return a tag's key or value in words."""
    return text.replace("_", " ").replace(":", " ")
