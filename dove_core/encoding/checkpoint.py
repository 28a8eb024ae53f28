"""The files of a checkpoint of any family, in a folder or a bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dove_core.encoding.dove_text import CONFIG
from dove_core.encoding.families import HINT, Family, family_in
from dove_core.errors import CheckpointError, reason_of
from dove_core.places import Place


def settled_place(place: Place) -> Place:
    """Return the place of a checkpoint, or of its predecessor NAME.old if it is incomplete.

    `model.json` is written last, so a checkpoint without it is incomplete.
    """
    old = place.parent / f"{place.name}.old"
    return old if not place.has(CONFIG) and old.has(CONFIG) else place


@contextmanager
def checkpoint_here(place: Place) -> Iterator[tuple[Path, Family]]:
    """Give the folder of a checkpoint on this machine, and its family; files in a bucket are downloaded to the cache.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or its family is not installed.
        UsageError, DownloadError: the bucket cannot be read.
    """
    place = settled_place(place)
    try:
        family = family_in(json.loads(place.read(CONFIG)), place.where(CONFIG))
        files = place.local_files(family.files)
    except FileNotFoundError as error:
        raise CheckpointError(f"{place} is not a checkpoint: it has no {CONFIG}", hint=HINT) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place.where(CONFIG)} cannot be read: {reason_of(error)}", hint=HINT) from error
    with files:
        yield files.folder, family
