"""The check of every byte of shards against their manifest and done-markers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from dove_core.addresses import Address, place_of
from dove_core.config import ExecutorConfig, ShardConfig
from dove_core.data.manifest import (
    MANIFEST,
    SHARD_FILE,
    SIZES,
    STATUSES,
    ShardEntry,
    ShardManifest,
    ShardMarker,
    marker_name,
    read_manifest,
    read_marker,
    sidecar_name,
    tar_name,
)
from dove_core.data.sharding.shards import PLANS
from dove_core.data.sharding.sidecar import read_sidecar
from dove_core.errors import DataError
from dove_core.events import Advanced, Report, Started, silent
from dove_core.executors import LOCAL, Executor, executing
from dove_core.files import sha256_of_stream
from dove_core.places import Place


@dataclass(frozen=True)
class ShardFault:
    """A missing, damaged or foreign file of a split, and the reason."""

    file: str
    reason: str


def verify_shards(
    shards: Address, config: ShardConfig, *, execution: ExecutorConfig = LOCAL, report: Report = silent
) -> list[ShardFault]:
    """Read every byte of a split, or of all splits of a release, and check it against manifest and markers.

    Args:
        shards: the folder of a split or of a release, on a disk or in a bucket.
        config: `workers` is the number of processes that read.
        execution: what reads the shards: this machine or a cluster.
        report: receives Started and Advanced.

    Returns:
        Every missing, damaged and foreign file; an empty list if all files are as they were written.

    Raises:
        DataError: there is no manifest, or it is damaged.
    """
    with executing(execution) as executor:
        return _verify(place_of(shards), config.workers, executor, report)


def _verify(place: Place, workers: int, executor: Executor, report: Report) -> list[ShardFault]:
    if MANIFEST in place.sizes():
        return _verify_split(place, workers, executor, report)
    splits = [place / name for name in place.folders()]
    is_whole = [MANIFEST in split.sizes() for split in splits]
    if not any(is_whole):
        raise DataError(
            f"{place.url} holds no manifest.json",
            hint="`dove shard` writes it after the last shard",
        )
    faults = [ShardFault(place.where(name), "it does not belong to a release's shards") for name in place.sizes()]
    for split, has_manifest in zip(splits, is_whole, strict=True):
        if has_manifest:
            faults += _verify_split(split, workers, executor, report)
        else:
            faults.append(ShardFault(split.url, "it has no manifest.json: shards are missing, or it is not a split"))
    return faults


def _verify_split(place: Place, workers: int, executor: Executor, report: Report) -> list[ShardFault]:
    manifest, name = read_manifest(place), f"verify {place.name}"
    report(Started(name, len(manifest.shards), "shards"))
    faults: list[ShardFault] = []
    markers: list[ShardMarker] = []
    numbered = list(enumerate(manifest.shards))
    lost = "out of memory? Try fewer --workers"
    task = partial(_verify_shard, place, manifest.fingerprint)
    for _, (marker, found) in executor.each(task, numbered, workers, lost=lost):
        markers += [marker] if marker is not None else []
        faults += [replace(fault, file=place.where(fault.file)) for fault in found]
        report(Advanced(name))
    faults += _verify_sums(place, manifest, markers)
    return sorted([*faults, *_foreign(place, len(numbered))], key=lambda fault: fault.file)


def _verify_sums(place: Place, manifest: ShardManifest, markers: list[ShardMarker]) -> Iterator[ShardFault]:
    """Yield a fault if manifest or sizes do not agree with the markers."""
    if len(markers) == len(manifest.shards):
        counts = {status: sum(marker.counts[status] for marker in markers) for status in STATUSES}
        dropped = sum(marker.dropped_captions for marker in markers)
        problems = sum(marker.refused_meta for marker in markers)
        expected = (manifest.rows, dict(manifest.counts), manifest.dropped_captions, manifest.meta_problems)
        if expected != (sum(marker.rows for marker in markers), counts, dropped, problems):
            yield ShardFault(place.where(MANIFEST), "its sums do not agree with the done-markers")
    try:
        sizes = json.loads(place.read(SIZES))
    except (OSError, ValueError, RecursionError):
        sizes = None
    if sizes != {shard.name: shard.samples for shard in manifest.shards}:
        yield ShardFault(place.where(SIZES), "it is missing, or does not agree with the manifest")


def _verify_shard(
    place: Place, fingerprint: str, numbered: tuple[int, ShardEntry]
) -> tuple[ShardMarker | None, list[ShardFault]]:
    """Return a shard's marker, None if it cannot be read, and its faults; files are named without their folder."""
    shard, entry = numbered
    faults = list(_differs(place, entry.name, entry.sha256))
    try:
        marker = read_marker(place, marker_name(shard))
    except DataError as error:
        return None, [ShardFault(marker_name(shard), error.message), *faults]
    if (marker.sha256, marker.samples, marker.fingerprint) != (entry.sha256, entry.samples, fingerprint):
        faults.append(ShardFault(marker_name(shard), "it does not belong to the manifest"))
    broken = list(_differs(place, sidecar_name(shard), marker.sidecar_sha256))
    if not broken:
        found = Counter(row["status"] for row in read_sidecar(place.read(sidecar_name(shard))))
        if any(found[status] != marker.counts[status] for status in STATUSES):
            broken = [ShardFault(sidecar_name(shard), "its rows do not agree with its done-marker")]
    return marker, faults + broken


def _differs(place: Place, name: str, sha256: str) -> Iterator[ShardFault]:
    """Yield a fault if a file is missing, or its SHA-256 is another."""
    try:
        with place.open(name) as stream:
            found = sha256_of_stream(stream)
    except FileNotFoundError:
        yield ShardFault(name, "it is missing")
    except OSError as error:
        yield ShardFault(name, f"it cannot be read: {error.strerror or error}")
    else:
        if found != sha256:
            yield ShardFault(name, "its bytes have changed: its SHA-256 is not the one of the file that was written")


def _foreign(place: Place, shards: int) -> Iterator[ShardFault]:
    own = {MANIFEST, SIZES}
    for shard in range(shards):
        own |= {tar_name(shard), sidecar_name(shard), marker_name(shard)}
    for name in sorted(place.sizes().keys() - own):
        reason = "its shard is not in the manifest" if SHARD_FILE.fullmatch(name) else "it does not belong to the split"
        yield ShardFault(place.where(name), reason)
    folders = set(place.folders()) - {PLANS}
    for name in sorted(folders):
        yield ShardFault(place.where(name), "it is a folder that does not belong to the split")
