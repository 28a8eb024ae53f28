"""Results kept in the run folder, so that nothing is measured twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dove_core.data.reader import Shards
from dove_core.encoding.checkpoint import checkpoint_here
from dove_core.errors import CheckpointError, DownloadError, SpaceError, UsageError
from dove_core.evaluation.provenance import seen_in_training, versions
from dove_core.files import fingerprint_of_files, json_bytes
from dove_core.places import Place

FOLDER = "evaluations"
"""Folder of the results in a run folder."""

_WITHOUT_EFFECT = ("batch_size", "workers", "gpus", "compile", "decode")
"""Settings that do not change a result."""


def measure_once(
    checkpoint: Place,
    shards: Place,
    settings: Mapping[str, Any],
    measure: Callable[[], dict[str, Any]],
    *,
    force: bool,
) -> tuple[dict[str, Any], bool]:
    """Return the result that the run folder has of the same measurement, or call `measure` and keep its result.

    Measurements are the same if weights, shards, settings and package versions are equal. Results are kept only in a
    run folder, local or in a bucket, that can be written.

    Returns:
        The result, and whether it is from the run folder.

    Raises:
        DataError: the shards are missing.
    """
    run = checkpoint.resolved.parent
    if not run.has("settings.json") or not (key := _key(checkpoint, shards, settings)):
        return measure(), False
    folder, name = run / FOLDER, f"{key}.json"
    if not force:
        with suppress(OSError, ValueError, RecursionError):  # missing or damaged: measure
            return json.loads(folder.read(name)), True
    result = measure()
    with suppress(OSError, SpaceError, UsageError, DownloadError), folder.writing(name) as stream:
        stream.write(json_bytes(result))
    return result, False


def _key(checkpoint: Place, shards: Place, settings: Mapping[str, Any]) -> str:
    """Return a digest of all that the result depends on; empty if the checkpoint cannot be read."""
    chosen = {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}
    if chosen.get("class_names"):
        with suppress(OSError):
            chosen["class_names"] = Path(chosen["class_names"]).read_text("utf-8", "replace")
    try:
        with checkpoint_here(checkpoint) as (folder, family):
            model = fingerprint_of_files(folder, family.files)
    except (OSError, CheckpointError):
        return ""
    split = Shards(shards)
    data, seen = split.manifest.fingerprint, seen_in_training(checkpoint, split)
    facts = {"model": model, "data": data, "seen": seen, "settings": chosen, "versions": versions()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
