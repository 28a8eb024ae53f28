"""Shards held against their manifest, byte by byte."""

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
    SIZES,
    STATUSES,
    ShardEntry,
    ShardManifest,
    ShardMarker,
    read_manifest,
    read_marker,
)
from dove_core.data.sharding.shards import PLANS
from dove_core.data.sharding.sidecar import read_sidecar
from dove_core.data.sharding.task import OUTPUT, marker_name, sidecar_name, tar_name
from dove_core.errors import DataError
from dove_core.events import Advanced, Report, Started, silent
from dove_core.executors import LOCAL, Executor, executing
from dove_core.files import sha256_of_stream
from dove_core.places import Place


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file of a split."""

    file: str
    reason: str


def verify_shards(
    shards: Address, config: ShardConfig, *, execution: ExecutorConfig = LOCAL, report: Report = silent
) -> list[Fault]:
    """Read every byte of a split, or of all splits of a release, and hold it to manifest and markers.

    Args:
        shards: a split's folder, a release's folder, or such a place in a bucket.
        config: `workers` says how many processes read.
        execution: who reads.
        report: receives Started and Advanced.

    Returns:
        Every missing, damaged and foreign file; nothing if all is as it was written.

    Raises:
        DataError: there is no manifest, or it is damaged.
    """
    with executing(execution) as executor:
        return _verify(place_of(shards), config.workers, executor, report)


def _verify(place: Place, workers: int, executor: Executor, report: Report) -> list[Fault]:
    if MANIFEST in place.sizes():
        return _verify_split(place, workers, executor, report)
    splits = [place / name for name in place.folders()]
    is_whole = [MANIFEST in split.sizes() for split in splits]
    if not any(is_whole):
        raise DataError(f"{place.url} holds no manifest.json", hint="`dove shard` writes it when all shards are done")
    faults = [Fault(place.where(name), "it is no part of a release's shards") for name in place.sizes()]
    for split, has_manifest in zip(splits, is_whole, strict=True):
        if has_manifest:
            faults += _verify_split(split, workers, executor, report)
        else:
            faults.append(Fault(split.url, "it has no manifest.json: its shards are not all done, or it is no split"))
    return faults


def _verify_split(place: Place, workers: int, executor: Executor, report: Report) -> list[Fault]:
    manifest, name = read_manifest(place), f"verify {place.name}"
    report(Started(name, len(manifest.shards), "shards"))
    faults: list[Fault] = []
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


def _verify_sums(place: Place, manifest: ShardManifest, markers: list[ShardMarker]) -> Iterator[Fault]:
    """Yield a fault where manifest or sizes are not what the markers add up to."""
    if len(markers) == len(manifest.shards):
        counts = {status: sum(marker.counts[status] for marker in markers) for status in STATUSES}
        dropped = sum(marker.dropped_captions for marker in markers)
        problems = sum(sum(marker.meta_problems.values()) for marker in markers)
        told = (manifest.rows, dict(manifest.counts), manifest.dropped_captions, manifest.meta_problems)
        if told != (sum(marker.rows for marker in markers), counts, dropped, problems):
            yield Fault(place.where(MANIFEST), "its sums are not those of the done-markers")
    try:
        sizes = json.loads(place.read(SIZES))
    except (OSError, ValueError, RecursionError):
        sizes = None
    if sizes != {shard.name: shard.samples for shard in manifest.shards}:
        yield Fault(place.where(SIZES), "it is missing, or not what the manifest says")


def _verify_shard(
    place: Place, fingerprint: str, numbered: tuple[int, ShardEntry]
) -> tuple[ShardMarker | None, list[Fault]]:
    """Return a shard's marker, if it can be read, and its faults, whose files are named without their folder."""
    shard, entry = numbered
    faults = list(_differs(place, entry.name, entry.sha256))
    try:
        marker = read_marker(place, marker_name(shard))
    except DataError as error:
        return None, [Fault(marker_name(shard), error.message), *faults]
    if (marker.sha256, marker.samples, marker.fingerprint) != (entry.sha256, entry.samples, fingerprint):
        faults.append(Fault(marker_name(shard), "it does not belong to the manifest"))
    broken = list(_differs(place, sidecar_name(shard), marker.sidecar_sha256))
    if not broken:
        found = Counter(row["status"] for row in read_sidecar(place.read(sidecar_name(shard))))
        if any(found[status] != marker.counts[status] for status in STATUSES):
            broken = [Fault(sidecar_name(shard), "its rows are not those its done-marker counts")]
    return marker, faults + broken


def _differs(place: Place, name: str, sha256: str) -> Iterator[Fault]:
    """Yield a fault if a file is not there, or not the one with this sum."""
    try:
        with place.open(name) as stream:
            found = sha256_of_stream(stream)
    except FileNotFoundError:
        yield Fault(name, "it is missing")
    except OSError as error:
        yield Fault(name, f"it cannot be read: {error.strerror or error}")
    else:
        if found != sha256:
            yield Fault(name, "its bytes have changed: its SHA-256 is not the one it was written with")


def _foreign(place: Place, shards: int) -> Iterator[Fault]:
    own = {MANIFEST, SIZES}
    for shard in range(shards):
        own |= {tar_name(shard), sidecar_name(shard), marker_name(shard)}
    for name in sorted(place.sizes().keys() - own):
        reason = "it is of a shard that the manifest does not have" if OUTPUT.fullmatch(name) else "it is no part of it"
        yield Fault(place.where(name), reason)
    folders = set(place.folders()) - {PLANS}
    for name in sorted(folders):
        yield Fault(place.where(name), "it is a folder, and no part of it")
