"""The chain of default folders: data/<release> -> shards/<release>/<split> -> runs/<name> -> index/<name>.

A path that is not given is found if exactly one candidate exists, and named on standard error.
"""

from __future__ import annotations

import os
from pathlib import Path

from dove_cli.render import note
from dove_core.addresses import place_of
from dove_core.config import CacheConfig
from dove_core.errors import UsageError
from dove_core.places import Folder, Place

DATA, SHARDS, RUNS, INDEX = Path("data"), Path("shards"), Path("runs"), Path("index")


def only_release() -> Path:
    """Return the only fetched release below data/.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [path for path in DATA.glob("*/") if any(path.iterdir())]
    return _only(found, "a release", "its name", "`dove fetch` or `dove fetch sample` brings one")


def only_split(split: str) -> Place:
    """Return the only shards of a split below shards/.

    Raises:
        UsageError: there are none, or several.
    """
    found = [path.parent for path in SHARDS.glob(f"*/{split}/manifest.json")]
    return Folder(_only(found, f"shards of a {split} split", "--shards", "`dove shard` makes them"))


def only_checkpoint() -> Place:
    """Return `best/` of the only run below runs/.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [path.parent for path in RUNS.glob("*/best/model.json")]
    return Folder(_only(found, "a checkpoint", "--checkpoint", "`dove train` makes one"))


def only_run() -> Place:
    """Return the only run below runs/ that can go on.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [path.parent for path in RUNS.glob("*/settings.json")]
    return Folder(_only(found, "a run", "--run", "`dove train` starts one"))


def only_index() -> Place:
    """Return the only index below index/.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [path.parent for path in INDEX.glob("*/index.json")]
    return Folder(_only(found, "an index", "--index", "`dove embed` makes one"))


def say_default(message: str) -> None:
    """Name a choice on standard error; under torchrun one process of several speaks."""
    if os.environ.get("RANK", "0") == "0":
        note(message)


def named(parent: Path, name: str, cache: CacheConfig) -> Place:
    """Return `parent/name` for a bare name, and the place at any path or address with a slash in it."""
    return place_of(name, cache) if "/" in name else Folder(parent / name)


def name_above(place: Place) -> str:
    """Return the name of the folder above: of a split's release, of a checkpoint's run."""
    return place.resolved.parent.name


def _only(found: list[Path], what: str, option: str, hint: str) -> Path:
    if not found:
        raise UsageError(f"this needs {what}, and none is here", hint=f"{hint}; or choose with {option}")
    if len(found) > 1:
        listed = ", ".join(sorted(map(str, found)))
        raise UsageError(f"this needs {what}, and there are several: {listed}", hint=f"choose with {option}")
    say_default(f"using {found[0]}")
    return found[0]
