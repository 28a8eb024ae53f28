"""Default folders: data/<release> -> shards/<release>/<split> -> runs/<name>, models/<name> -> index/<name>.

If an option is left out and exactly one folder fits, that folder is used and shown on standard error.
"""

from __future__ import annotations

import os
from pathlib import Path

from dove_cli.render import note
from dove_core.addresses import place_of
from dove_core.config import CacheConfig
from dove_core.errors import CheckpointError, DataError, DoveError, SearchIndexError, UsageError
from dove_core.places import Folder, Place

DATA, SHARDS, RUNS, MODELS, INDEX = Path("data"), Path("shards"), Path("runs"), Path("models"), Path("index")
CARD = "model.json"  # written last into a checkpoint
_MODELS = "fetch a model, such as `dove fetch remoteclip-vit-b32` (605 MB), or train one with `dove train`"


def only_release() -> Path:
    """Return the only fetched release below data/.

    Raises:
        DataError: there is none.
        UsageError: there are several.
    """
    found = [path for path in DATA.glob("*/") if any(path.iterdir())]
    return _only(
        found, "a fetched release", "dove shard NAME", "run `dove fetch` or `dove fetch sample` first", DataError
    )


def only_split(split: str) -> Place:
    """Return the only shards of a split below shards/.

    Raises:
        DataError: there are none.
        UsageError: there are several.
    """
    found = [path.parent for path in SHARDS.glob(f"*/{split}/manifest.json")]
    return Folder(_only(found, f"a {split} split", "--shards", "run `dove shard` first", DataError))


def find_checkpoint(given: Place | None, option: str = "--checkpoint") -> Place:
    """Return the checkpoint that `option` names; without it, the only one of runs/*/best and models/*.

    A name without a slash is a folder here, a run (`NAME` is `runs/NAME/best`) or a model below models/.

    Raises:
        CheckpointError: there is none, or none of that name.
        UsageError: there are several.
    """
    if given is None:
        return Folder(_only(_checkpoints(), "a checkpoint", option, _MODELS, CheckpointError))
    if given.is_remote or "/" in given.url:
        return given
    from dove_core.encoding.checkpoint import settled_place

    places = [Folder(path) for path in (Path(given.url), RUNS / given.url / "best", MODELS / given.url)]
    there = [place for place in places if settled_place(place).has(CARD)]
    if len(there) > 1:
        listed = ", ".join(str(place.absolute) for place in there)
        raise UsageError(f"{given} may be any of {listed}", hint="write the path of one of them")
    if not (there or given.exists()):
        names = [name_of_checkpoint(Folder(path)) for path in _checkpoints()]
        hint = f"choose from {', '.join(sorted(names))}" if names else _MODELS
        message = f"there is no checkpoint {given} here, in {RUNS}/ or in {MODELS}/"
        raise CheckpointError(message, hint=f"{hint}, or give a path")
    return there[0] if there else given


def say_doubt(place: Place) -> None:
    """Show on standard error that the activation of a checkpoint is not verified, and how to find out."""
    if isinstance(place, Folder) and place.has(CARD):
        from dove_core.pretrained.doubt import doubt_about

        if doubt := doubt_about(place.path):
            say_default(doubt)


def name_of_checkpoint(place: Place) -> str:
    """Return the name of a checkpoint: that of the run of `runs/NAME/best`, otherwise that of its folder."""
    name = place.resolved.name
    return name_above(place) if name in ("best", "last") else name


def only_run() -> Place:
    """Return the only run below runs/ that can be resumed.

    Raises:
        CheckpointError: there is none.
        UsageError: there are several.
    """
    found = [path.parent for path in RUNS.glob("*/settings.json")]
    return Folder(_only(found, "a training run", "--run", "run `dove train` first", CheckpointError))


def find_index(given: str | None, cache: CacheConfig, option: str = "--index") -> Place:
    """Return the index that `option` names; without it, the only one below index/.

    Raises:
        SearchIndexError: there is none, or none of that name among others.
        UsageError: there are several.
    """
    found = [path.parent for path in INDEX.glob("*/index.json")]
    if given is None:
        return Folder(_only(found, "an index", option, "run `dove embed` first", SearchIndexError))
    place = named(INDEX, given, cache)
    if found and "/" not in given and not place.exists():
        names = ", ".join(sorted(path.name for path in found))
        raise SearchIndexError(f"there is no index {given} in {INDEX}/", hint=f"choose from {names}, or give a path")
    return place


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


def _checkpoints() -> list[Path]:
    return [path.parent for path in (*RUNS.glob(f"*/best/{CARD}"), *MODELS.glob(f"*/{CARD}"))]


def _only(found: list[Path], what: str, option: str, hint: str, missing: type[DoveError]) -> Path:
    if not found:
        raise missing(f"{what} is needed, and none was found", hint=f"{hint}, or {_choose(option)}")
    if len(found) > 1:
        listed = ", ".join(sorted(map(str, found)))
        raise UsageError(f"{what} is needed, and there are several: {listed}", hint=_choose(option))
    say_default(f"using {found[0]}")
    return found[0]


def _choose(option: str) -> str:
    """Return how to choose: with an option, or with the first argument of a command."""
    return f"choose one with {option}" if option.startswith("--") else f"name it: `{option}`"
