"""Default folders: data/<release> -> shards/<release>/<split> -> runs/<name> -> index/<name>.

If an option is left out and exactly one folder fits, that folder is used and shown on standard error.
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
    return _only(found, "a fetched release", "RELEASE", "run `dove fetch` or `dove fetch sample` first")


def only_split(split: str) -> Place:
    """Return the only shards of a split below shards/.

    Raises:
        UsageError: there are none, or several.
    """
    found = [path.parent for path in SHARDS.glob(f"*/{split}/manifest.json")]
    return Folder(_only(found, f"a {split} split", "--shards", "run `dove shard` first"))


def only_checkpoint() -> Place:
    """Return `best/` of the only run below runs/.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [path.parent for path in RUNS.glob("*/best/model.json")]
    return Folder(_only(found, "a checkpoint", "--checkpoint", "run `dove train` first"))


def only_run() -> Place:
    """Return the only run below runs/ that can be resumed.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [path.parent for path in RUNS.glob("*/settings.json")]
    return Folder(_only(found, "a training run", "--run", "run `dove train` first"))


def only_index(option: str = "--index") -> Place:
    """Return the only index below index/; `option` is what chooses another one.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [path.parent for path in INDEX.glob("*/index.json")]
    return Folder(_only(found, "an index", option, "run `dove embed` first"))


def say_default(message: str) -> None:
    """Show a choice on standard error; under torchrun only the first process shows it."""
    if os.environ.get("RANK", "0") == "0":
        note(message)


def named(parent: Path, name: str, cache: CacheConfig) -> Place:
    """Return `parent/name` for a name without a slash, and otherwise the place with that path or address."""
    return place_of(name, cache) if "/" in name else Folder(parent / name)


def name_above(place: Place) -> str:
    """Return the name of the parent folder: the release of a split, the run of a checkpoint."""
    return place.resolved.parent.name


def _only(found: list[Path], what: str, option: str, hint: str) -> Path:
    if not found:
        raise UsageError(f"{what} is needed, and none was found", hint=f"{hint}, or choose one with {option}")
    if len(found) > 1:
        listed = ", ".join(sorted(map(str, found)))
        raise UsageError(f"{what} is needed, and there are several: {listed}", hint=f"choose one with {option}")
    say_default(f"using {found[0]}")
    return found[0]
