"""Where an evaluation comes from: what a reader needs to believe it, and to make it again."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dove_core.data.manifest import read_manifest
from dove_core.data.reader import Shards
from dove_core.errors import DataError

_PACKAGES = ("dove", "torch", "torchvision", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def provenance_of(checkpoint: Path, shards: Shards, command: str) -> dict[str, Any]:
    """Return what goes into a result beside its numbers."""
    return {
        "seen": what_it_saw(checkpoint, shards),
        "data": shards.manifest.fingerprint,
        "checkpoint": str(checkpoint),
        "shards": str(shards.folder),
        "command": command,
        "versions": versions(),
    }


def what_it_saw(checkpoint: Path, shards: Shards) -> str:
    """Return how a checkpoint in its run folder knows a split: `trained on`, `chosen on`, or an empty text.

    A checkpoint that was moved out of its run folder cannot tell.
    """
    try:
        settings: dict[str, Any] = json.loads((checkpoint.resolve().parent / "settings.json").read_text("utf-8"))
        if settings["data"] == shards.manifest.fingerprint:
            return "trained on"
        chosen = settings["validation"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return "chosen on" if chosen and checkpoint.name == "best" and _is_same(Path(chosen), shards) else ""


def _is_same(folder: Path, shards: Shards) -> bool:
    """Tell whether a folder is, or holds a copy of, a split's shards."""
    if folder.resolve() == shards.folder.resolve():
        return True
    with suppress(DataError):
        return read_manifest(folder).fingerprint == shards.manifest.fingerprint
    return False
