"""The shards that earlier runs finished: which are kept, which are updated, and whether the files are dove's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dove_core.data.manifest import (
    FAILED,
    IN_PROGRESS,
    MANIFEST,
    SHARD_FILE,
    ShardMarker,
    marker_name,
    read_manifest,
    read_marker,
    sidecar_name,
    tar_name,
)
from dove_core.data.sharding.caption_table import CaptionTable
from dove_core.data.sharding.shard_plan import ShardPlan
from dove_core.errors import DataError, UsageError
from dove_core.events import Noted, Report
from dove_core.places import Place


def refuse_foreign_files(place: Place) -> None:
    """Refuse a folder with numbered files that dove did not write: they would be overwritten.

    Raises:
        UsageError: there are such files.
    """
    names = place.sizes()
    numbered = [name for name in names if SHARD_FILE.fullmatch(name)]
    if not numbered or IN_PROGRESS in names or next(read_markers(place), None) is not None:
        return
    if MANIFEST in names:
        try:
            read_manifest(place)
        except DataError:
            pass
        else:
            return
    message = f"{place.url} holds files that dove did not make, such as {numbered[0]}"
    raise UsageError(message, hint="they would be overwritten: choose another --out or --name, or move them away")


def refuse_other_table(place: Place, table: CaptionTable) -> None:
    """Refuse to replace shards that were made from other captions; markers of earlier versions do not say.

    Raises:
        UsageError: there are such shards.
    """
    captions = ""
    for _, marker in read_markers(place):
        captions = captions or table.digest()
        if marker.captions and marker.captions != captions:
            name = table.file.name
            was = marker.table if marker.table != name else f"an earlier version of {name}"
            message = f"{place.url} has shards made from {was}, which shards of {name} would replace"
            hint = "choose the split with --split, or another --name; --overwrite replaces the shards"
            raise UsageError(message, hint=hint)


def read_markers(place: Place, start: int = 0) -> Iterator[tuple[int, ShardMarker]]:
    """Yield number and marker of every shard from number `start` whose done-marker can be read."""
    for name in place.sizes():
        match = SHARD_FILE.fullmatch(name)
        if match is not None and match.group(2) == "done" and int(match.group(1)) >= start:
            try:
                yield int(match.group(1)), read_marker(place, name)
            except DataError:
                continue


def kept_shards(
    place: Place, plan: ShardPlan, *, strict: bool, retry: bool, report: Report
) -> tuple[dict[int, ShardMarker], set[int]]:
    """Return the shards of earlier runs that are kept as they are, and those that are updated.

    With `retry`, shards of the same rows are kept even if the zips have changed; those with missing or damaged images
    are updated.

    Raises:
        DataError: `strict`, and there are shards made with other captions or settings.
    """
    found = _whole_shards(place)
    _check_others(found, place, plan, strict, report)
    finished = {shard: marker for shard, marker in found.items() if marker.rows_fingerprint == plan.rows_fingerprint}
    same = {shard: marker for shard, marker in finished.items() if marker.fingerprint == plan.fingerprint}
    if not retry:
        if other := len(finished) - len(same):
            report(Noted(
                f"{place.url}: {other} shards were made from other zips or folders and are made again; with "
                "--retry-failed they are kept, and only missing or damaged images are tried again"
            ))  # fmt: skip
        return same, set()
    updated = {shard for shard, marker in finished.items() if any(marker.counts[status] for status in FAILED)}
    kept = {shard: marker for shard, marker in finished.items() if shard not in updated}
    for shard in kept.keys() - same.keys():
        kept[shard] = replace(kept[shard], fingerprint=plan.fingerprint)
        kept[shard].write(place, marker_name(shard))
    return kept, updated


def finished_shards(place: Place, plan: ShardPlan) -> dict[int, ShardMarker]:
    """Return the markers of whole shards of a plan."""
    return {n: marker for n, marker in _whole_shards(place).items() if marker.fingerprint == plan.fingerprint}


def _whole_shards(place: Place) -> dict[int, ShardMarker]:
    """Return the markers of all shards whose files are there and have the right lengths."""
    sizes = place.sizes()
    return {
        shard: marker
        for shard, marker in read_markers(place)
        if sizes.get(tar_name(shard)) == marker.bytes and sidecar_name(shard) in sizes
    }


def _check_others(found: dict[int, ShardMarker], place: Place, plan: ShardPlan, strict: bool, report: Report) -> None:
    """Report shards of other captions or settings; with `strict`, refuse them."""
    others = sum(marker.rows_fingerprint != plan.rows_fingerprint for marker in found.values())
    if not others:
        return
    message = f"{place.url}: {others} shards were made with other captions or settings"
    if strict:
        hint = "give the options they were made with, or run without --retry-failed and --finish"
        raise DataError(message, hint=hint)
    report(Noted(f"{message} and are made again"))
