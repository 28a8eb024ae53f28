"""What earlier runs left in a split's folder: shards to keep, shards to go on from, and files that are not ours."""

from __future__ import annotations

from dataclasses import replace

from dove_core.data.manifest import FAILED, MANIFEST, ShardMarker, read_manifest, read_marker
from dove_core.data.sharding.plan import ShardPlan
from dove_core.data.sharding.task import OUTPUT, SIGN, marker_name, sidecar_name, tar_name
from dove_core.errors import DataError, UsageError
from dove_core.events import Noted, Report
from dove_core.places import Place


def hold_own(place: Place) -> None:
    """Refuse a folder with numbered files that no run of ours made: they would be overwritten.

    Raises:
        UsageError: there are such files.
    """
    names = place.sizes()
    numbered = [name for name in names if OUTPUT.fullmatch(name)]
    if not numbered or SIGN in names:
        return
    for name in numbered:
        if name.endswith(".done") and _is_ours(place, name):
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


def sign(place: Place) -> None:
    """Mark a folder as ours before the first file is written."""
    with place.writing(SIGN):
        pass


def earlier_shards(
    place: Place, plan: ShardPlan, *, strict: bool, retry: bool, report: Report
) -> tuple[dict[int, ShardMarker], set[int]]:
    """Return the shards of earlier runs that are kept as they are, and those that are gone on from.

    With `retry` shards of the same rows are kept whatever became of the zips since; those with missing or damaged
    images are gone on from.

    Raises:
        DataError: `strict`, and there are shards made with other captions or settings.
    """
    found = _whole_shards(place)
    _look_for_others(found, place, plan, strict, report)
    finished = {shard: marker for shard, marker in found.items() if marker.rows_fingerprint == plan.rows_fingerprint}
    same = {shard: marker for shard, marker in finished.items() if marker.fingerprint == plan.fingerprint}
    if not retry:
        if other := len(finished) - len(same):
            report(Noted(
                f"{place.url}: {other} shards were made from other zips or folders and are made anew; with "
                "--retry-failed they are kept, but for images that were missing or damaged"
            ))  # fmt: skip
        return same, set()
    again = {shard for shard, marker in finished.items() if any(marker.counts[status] for status in FAILED)}
    kept = {shard: marker for shard, marker in finished.items() if shard not in again}
    for shard in kept.keys() - same.keys():
        kept[shard] = replace(kept[shard], fingerprint=plan.fingerprint)
        kept[shard].write(place, marker_name(shard))
    return kept, again


def finished_shards(place: Place, plan: ShardPlan) -> dict[int, ShardMarker]:
    """Return the markers of whole shards of a plan."""
    return {n: marker for n, marker in _whole_shards(place).items() if marker.fingerprint == plan.fingerprint}


def _whole_shards(place: Place) -> dict[int, ShardMarker]:
    """Return the markers of all shards whose files are there with the lengths they should have."""
    sizes, found = place.sizes(), {}
    for name in sizes:
        match = OUTPUT.fullmatch(name)
        if match is None or match.group(2) != "done":
            continue
        shard = int(match.group(1))
        try:
            marker = read_marker(place, name)
        except DataError:
            continue
        if sizes.get(tar_name(shard)) == marker.bytes and sidecar_name(shard) in sizes:
            found[shard] = marker
    return found


def _look_for_others(
    found: dict[int, ShardMarker], place: Place, plan: ShardPlan, strict: bool, report: Report
) -> None:
    """Say that shards of other captions or settings are here; refuse to go on from them."""
    others = sum(marker.rows_fingerprint != plan.rows_fingerprint for marker in found.values())
    if not others:
        return
    message = f"{place.url}: {others} shards were made with other captions or settings"
    if strict:
        hint = "give the options they were made with, or run without --retry-failed and --finish"
        raise DataError(message, hint=hint)
    report(Noted(f"{message} and are made anew"))


def _is_ours(place: Place, name: str) -> bool:
    try:
        read_marker(place, name)
    except DataError:
        return False
    return True
