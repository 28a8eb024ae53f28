"""Shards held against their manifest, byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from dove_core.config import ShardConfig
from dove_core.data.manifest import MANIFEST, OK, SIZES, ShardEntry, read_manifest, read_marker
from dove_core.data.sharding.finish import OUTPUT
from dove_core.data.sharding.shards import PLANS, cores
from dove_core.data.sharding.sidecar import read_sidecar
from dove_core.data.sharding.task import marker_name, sidecar_name, tar_name
from dove_core.errors import DataError
from dove_core.events import Advanced, Report, Started, silent
from dove_core.places import Folder, Place, place_of
from dove_core.processes import each

_AT_ONCE = 4 * 2**20


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file of a split."""

    file: str
    reason: str


def verify_shards(shards: Path | str, config: ShardConfig, *, report: Report = silent) -> list[Fault]:
    """Read every byte of a split, or of all splits of a release, and hold it to manifest and markers.

    Args:
        shards: a split's folder, a release's folder, or such a place in a bucket.
        config: `workers` says how many processes read.
        report: receives Started and Advanced.

    Returns:
        Every missing, damaged and foreign file; nothing if all is as it was written.

    Raises:
        DataError: there is no manifest, or it is damaged.
    """
    return [fault for place in _splits(place_of(shards)) for fault in _verify_split(place, config.workers, report)]


def _splits(place: Place) -> list[Place]:
    if MANIFEST in place.sizes():
        return [place]
    found: list[Place] = [place / name for name in place.folders() if MANIFEST in (place / name).sizes()]
    if not found:
        raise DataError(f"{place.url} holds no manifest.json", hint="`dove shard` writes it when all shards are done")
    return found


def _verify_split(place: Place, workers: int, report: Report) -> list[Fault]:
    manifest, name = read_manifest(place), f"verify {place.name}"
    report(Started(name, len(manifest.shards), "shards"))
    faults: list[Fault] = []
    numbered = list(enumerate(manifest.shards))
    lost = "out of memory? Try fewer --workers"
    for _, found in each(partial(_verify_shard, place, manifest.fingerprint), numbered, workers or cores(), lost=lost):
        faults += found
        report(Advanced(name))
    return sorted([*faults, *_foreign(place, len(numbered))], key=lambda fault: fault.file)


def _verify_shard(place: Place, fingerprint: str, numbered: tuple[int, ShardEntry]) -> list[Fault]:
    shard, entry = numbered
    try:
        marker = read_marker(place, marker_name(shard))
    except DataError as error:
        return [Fault(place.where(marker_name(shard)), error.message), *_differs(place, entry.name, entry.sha256)]
    faults = []
    if (marker.sha256, marker.samples, marker.fingerprint) != (entry.sha256, entry.samples, fingerprint):
        faults.append(Fault(place.where(marker_name(shard)), "it does not belong to the manifest"))
    faults += _differs(place, entry.name, entry.sha256)
    broken = list(_differs(place, sidecar_name(shard), marker.sidecar_sha256))
    if not broken:
        rows = read_sidecar(place.read(sidecar_name(shard)))
        if sum(row["status"] == OK for row in rows) != entry.samples:
            broken = [Fault(place.where(sidecar_name(shard)), f"it does not have {entry.samples} samples")]
    return faults + broken


def _differs(place: Place, name: str, sha256: str) -> Iterator[Fault]:
    """Yield a fault if a file is not there, or not the one with this sum."""
    try:
        with place.open(name) as stream:
            found = _sha256(stream)
    except FileNotFoundError:
        yield Fault(place.where(name), "it is missing")
    except OSError as error:
        yield Fault(place.where(name), f"it cannot be read: {error.strerror or error}")
    else:
        if found != sha256:
            yield Fault(place.where(name), "its bytes have changed: its SHA-256 is not the one it was written with")


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while data := stream.read(_AT_ONCE):
        digest.update(data)
    return digest.hexdigest()


def _foreign(place: Place, shards: int) -> Iterator[Fault]:
    own = {MANIFEST, SIZES}
    for shard in range(shards):
        own |= {tar_name(shard), sidecar_name(shard), marker_name(shard)}
    for name in sorted(place.sizes().keys() - own):
        reason = "it is of a shard that the manifest does not have" if OUTPUT.fullmatch(name) else "it is no part of it"
        yield Fault(place.where(name), reason)
    folders = set(place.folders()) - ({PLANS} if isinstance(place, Folder) else set())
    for name in sorted(folders):
        yield Fault(place.where(name), "it is a folder, and no part of it")
