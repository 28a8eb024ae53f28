"""The files of a checkpoint of any family: brought here from a folder or a bucket, and their fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dove_core.encoding.dove_text import CONFIG, FAMILY
from dove_core.encoding.families import family_named, family_of
from dove_core.errors import CheckpointError
from dove_core.files import fingerprint_of_files
from dove_core.places import Place

_HINT = "a checkpoint is a folder such as runs/NAME/best, made by `dove train`"


def settled_place(place: Place) -> Place:
    """Return a checkpoint's place, or the older one beside it if it is not whole: the configuration comes last."""
    old = place.parent / f"{place.name}.old"
    return old if not place.has(CONFIG) and old.has(CONFIG) else place


@contextmanager
def checkpoint_here(place: Place) -> Iterator[Path]:
    """Give a checkpoint's folder on this machine: its own, or one with copies of its files from a bucket.

    Raises:
        CheckpointError: there is none, or its family is not installed.
        UsageError, DownloadError: the bucket cannot be reached, or refuses.
    """
    place = settled_place(place)
    try:
        content = json.loads(place.read(CONFIG))
        name = str(content.get("family", FAMILY)) if isinstance(content, dict) else FAMILY
        copies = place.hold(family_named(name, Path(CONFIG)).files)
    except FileNotFoundError as error:
        raise CheckpointError(f"{place} is not a checkpoint: it has no {CONFIG}", hint=_HINT) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place.where(CONFIG)} cannot be read: {error}", hint=_HINT) from error
    with copies:
        yield copies.folder


def fingerprint_of(folder: Path) -> str:
    """Return 16 hexadecimal digits that change when any file of the checkpoint does.

    Raises:
        OSError: a file is missing.
        CheckpointError: `model.json` is missing or damaged, or its family is not installed.
    """
    return fingerprint_of_files(folder, family_of(folder).files)
