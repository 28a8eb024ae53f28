"""Provenance of an evaluation: what is needed to check and to repeat it."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dove_core.addresses import place_of
from dove_core.data.reader import Shards
from dove_core.encoding.checkpoint import settled_place
from dove_core.errors import DataError, DownloadError, UsageError
from dove_core.places import Place

_DISTRIBUTIONS = {"dove": "dove-eo", "torch": "torch", "torchvision": "torchvision", "numpy": "numpy"}
"""Name in a result -> name under which pip installs it."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name, distribution in _DISTRIBUTIONS.items():
        with suppress(PackageNotFoundError):
            found[name] = version(distribution)
    return found


def provenance_of(checkpoint: Place, shards: Shards, command: str) -> dict[str, Any]:
    """Return the facts that a result has besides its metrics."""
    return {
        "seen": seen_in_training(checkpoint, shards),
        "data": shards.manifest.fingerprint,
        "checkpoint": str(checkpoint),
        "shards": str(shards.folder),
        "command": command,
        "versions": versions(),
    }


def seen_in_training(checkpoint: Place, shards: Shards) -> str:
    """Return how the training of a checkpoint used the images of a split.

    `trained on`; `chosen on` if they chose the best epoch; empty if not at all; `unknown` if the checkpoint is not in a
    run folder. Images are compared by key and size, so they are found in other shards and splits too.
    """
    place = settled_place(checkpoint).resolved
    try:
        settings: dict[str, Any] = json.loads(place.parent.read("settings.json"))
        data = settings["data"]
        if data == shards.manifest.fingerprint or _shares_images(place_of(settings["shards"], place.cache), shards):
            return "trained on"
        chosen = settings["validation"]
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
    is_chosen = chosen and place.name == "best" and _shares_images(place_of(chosen, place.cache), shards)
    return "chosen on" if is_chosen else ""


def _shares_images(folder: Place, shards: Shards) -> bool:
    """Return whether more than 1 % of the images of a split are also in the shards of a folder."""
    try:
        other = Shards(folder)
    except (DataError, UsageError, DownloadError):
        return False
    if other.manifest.fingerprint == shards.manifest.fingerprint:
        return True
    own = set(zip(shards.column("key"), shards.column("size"), strict=True))
    shared = own.intersection(zip(other.column("key"), other.column("size"), strict=True))
    return len(shared) > len(own) / 100
