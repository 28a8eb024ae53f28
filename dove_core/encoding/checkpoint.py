"""The files of a checkpoint of any family, in a folder or a bucket, and their fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dove_core.encoding.dove_text import CONFIG, FAMILY
from dove_core.encoding.families import HINT, family_named, family_of
from dove_core.errors import CheckpointError, reason_of
from dove_core.files import fingerprint_of_files
from dove_core.places import Place


def settled_place(place: Place) -> Place:
    """Return the place of a checkpoint, or of its predecessor NAME.old if it is incomplete.

    `model.json` is written last, so a checkpoint without it is incomplete.
    """
    old = place.parent / f"{place.name}.old"
    return old if not place.has(CONFIG) and old.has(CONFIG) else place


@contextmanager
def checkpoint_here(place: Place) -> Iterator[Path]:
    """Give the folder of a checkpoint on this machine; files in a bucket are downloaded to the cache.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or its family is not installed.
        UsageError, DownloadError: the bucket cannot be read.
    """
    place = settled_place(place)
    try:
        content = json.loads(place.read(CONFIG))
        name = str(content.get("family", FAMILY)) if isinstance(content, dict) else FAMILY
        files = place.local_files(family_named(name, Path(CONFIG)).files)
    except FileNotFoundError as error:
        raise CheckpointError(f"{place} is not a checkpoint: it has no {CONFIG}", hint=HINT) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place.where(CONFIG)} cannot be read: {reason_of(error)}", hint=HINT) from error
    with files:
        yield files.folder


def fingerprint_of(folder: Path) -> str:
    """Return 16 hexadecimal digits that change when a file of the checkpoint changes.

    Raises:
        OSError: a file is missing.
        CheckpointError: `model.json` is missing or damaged, or its family is not installed.
    """
    return fingerprint_of_files(folder, family_of(folder).files)
