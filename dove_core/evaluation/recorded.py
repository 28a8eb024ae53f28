"""Results that a run folder remembers, so that nothing is measured twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dove_core.data.reader import Shards
from dove_core.encoding.checkpoint import checkpoint_here, fingerprint_of
from dove_core.errors import CheckpointError, DownloadError, SpaceError, UsageError
from dove_core.evaluation.provenance import versions, what_it_saw
from dove_core.files import json_bytes
from dove_core.places import Place

FOLDER = "evaluations"
"""Folder of results, in the run's folder."""

_WITHOUT_EFFECT = ("batch_size", "workers", "gpus", "compile", "decode")
"""Settings that no number depends on."""


def once(
    checkpoint: Place,
    shards: Place,
    settings: Sequence[Any],
    measure: Callable[[], dict[str, Any]],
    *,
    force: bool,
) -> tuple[dict[str, Any], bool]:
    """Return the result of `measure`, or the one that the checkpoint's run folder has of the same measurement.

    The same means: equal weights, shards, settings and versions of packages. Results are kept only for a checkpoint
    that lies in a run folder, here or in a bucket, that can be written.

    Returns:
        The result, and whether it was known before.

    Raises:
        DataError: there are no shards.
    """
    run = checkpoint.resolved.parent
    if not run.has("settings.json") or not (key := _key(checkpoint, shards, settings)):
        return measure(), False
    folder, name = run / FOLDER, f"{key}.json"
    if not force:
        with suppress(OSError, ValueError, RecursionError):  # there is none, or a damaged one: measured again
            return json.loads(folder.read(name)), True
    result = measure()
    with suppress(OSError, SpaceError, UsageError, DownloadError), folder.writing(name) as stream:
        stream.write(json_bytes(result))
    return result, False


def _key(checkpoint: Place, shards: Place, settings: Sequence[Any]) -> str:
    """Return a digest of all that the result depends on; nothing where the checkpoint cannot be read."""
    chosen = {
        name: value
        for config in settings
        for name, value in dataclasses.asdict(config).items()
        if name not in _WITHOUT_EFFECT
    }
    if chosen.get("class_names"):
        with suppress(OSError):
            chosen["class_names"] = Path(chosen["class_names"]).read_text("utf-8", "replace")
    try:
        with checkpoint_here(checkpoint) as folder:
            model = fingerprint_of(folder)
    except (OSError, CheckpointError):
        return ""
    split = Shards(shards)
    data, seen = split.manifest.fingerprint, what_it_saw(checkpoint, split)
    facts = {"model": model, "data": data, "seen": seen, "settings": chosen, "versions": versions()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
