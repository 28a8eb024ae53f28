"""Making one shard: a task that any process on any machine can do alone, and do again without harm."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from dove_core.data.manifest import FAILED, OK, STATUSES, ShardMarker, read_marker
from dove_core.data.sharding.image import Look
from dove_core.data.sharding.members import LostSourceError, Members
from dove_core.data.sharding.plan import PlannedRows
from dove_core.data.sharding.row import Prepared, prepare
from dove_core.data.sharding.sidecar import read_sidecar, sidecar_bytes, sidecar_row
from dove_core.data.sharding.tar import TarWriter, read_sample
from dove_core.errors import DataError
from dove_core.files import sha256_of_stream
from dove_core.places import Place

DROPPED = "empty caption"
OUTPUT = re.compile(r"(\d{5,})\.(tar|parquet|done)")
"""Names of the files that shards are made of."""

SIGN = ".dove"
"""Name of an empty file in a split's folder while its shards are made: what lies there is ours."""


@dataclass(frozen=True)
class ShardJob:
    """What the shards of a split have in common; it travels to other processes. The plan may lie in a bucket."""

    plan: Place
    images: tuple[Path, ...]
    metas: tuple[Path, ...]
    place: Place
    look: Look
    fingerprint: str
    rows_fingerprint: str


@dataclass
class _Tally:
    """What became of the rows of a shard so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, item: Prepared, offset: int | None) -> None:
        self.rows.append(sidecar_row(item, offset))
        self.problems.update(item.meta_problems)
        self.dropped += item.dropped_captions
        for reason in (*item.meta_problems, *([DROPPED] if item.dropped_captions else [])):
            self.examples.setdefault(reason, item.sample.path)

    def marker(self, job: ShardJob, tar_bytes: int, sha256: str, sidecar_sha256: str) -> ShardMarker:
        counts = Counter(row["status"] for row in self.rows)
        examples = dict(self.examples)
        for row in self.rows:
            if row["status"] != OK:
                examples.setdefault(row["status"], f"{row['path']}: {row['error']}" if row["error"] else row["path"])
        by_status = {status: counts[status] for status in STATUSES}
        return ShardMarker(
            len(self.rows), counts[OK], by_status, self.dropped, dict(self.problems), examples, tar_bytes, sha256,
            sidecar_sha256, job.fingerprint, job.rows_fingerprint,
        )  # fmt: skip


@dataclass(frozen=True)
class _Before:
    """A shard as an earlier run left it: what was fine there need not be read again."""

    marker: ShardMarker
    rows: list[dict[str, Any]]
    tar: BinaryIO


def tar_name(shard: int) -> str:
    """Return the name of a shard's tar."""
    return f"{shard:05d}.tar"


def sidecar_name(shard: int) -> str:
    """Return the name of a shard's sidecar."""
    return f"{shard:05d}.parquet"


def marker_name(shard: int) -> str:
    """Return the name of a shard's done-marker."""
    return f"{shard:05d}.done"


def do(job: ShardJob, what: tuple[int, bool]) -> ShardMarker:
    """Write tar, sidecar and done-marker of a shard, in this order, each whole or absent.

    `what` is the shard's number, and whether to go on from the shard that is there: then only images that were
    missing or damaged are read, and the others come from its tar.

    Raises:
        DataError: the plan, or the old shard, is damaged.
        SpaceError: the disk is full.
    """
    shard, go_on = what
    try:
        with _earlier(job, shard) if go_on else nullcontext() as before:
            return _write(job, shard, before)
    except LostSourceError as error:
        raise DataError(str(error), hint="mend that and run again: finished shards are kept") from error


@contextmanager
def _earlier(job: ShardJob, shard: int) -> Iterator[_Before | None]:
    """Give a shard as an earlier run left it; nothing if a byte of it has changed since, or is gone."""
    try:
        marker = read_marker(job.place, marker_name(shard))
        sidecar = job.place.read(sidecar_name(shard))
        tar = job.place.open(tar_name(shard))
    except (DataError, OSError):
        yield None
        return
    with tar:
        is_whole = hashlib.sha256(sidecar).hexdigest() == marker.sidecar_sha256
        is_whole = is_whole and sha256_of_stream(tar) == marker.sha256
        yield _Before(marker, read_sidecar(sidecar), tar) if is_whole else None


def close() -> None:
    """Close what this process opened for its shards."""
    _opened.cache_clear()


def _write(job: ShardJob, shard: int, before: _Before | None) -> ShardMarker:
    rows, images, metas = _opened(job.plan, job.images, job.metas)
    planned = list(rows.of_shard(shard))
    images.expect([row.image for row in planned if row.image is not None])
    tally = _Tally()
    if before is not None:
        tally.problems.update(before.marker.meta_problems)
        tally.examples = _lasting(before.marker.examples)
    with warnings.catch_warnings(), job.place.writing(tar_name(shard)) as stream, TarWriter(stream) as tar:
        warnings.simplefilter("ignore")  # Pillow's, of odd but readable images
        for number, row in enumerate(planned):
            if before is not None and before.rows[number]["status"] not in FAILED:
                tally.rows.append(_copied(tar, before, before.rows[number]))
                continue
            item = prepare(row, images, metas, job.look)
            tally.add(item, _added(tar, item))
        images.hold()
        sha256 = tar.finish()
        job.place.remove(marker_name(shard))  # from here on, tar and sidecar may not belong together
    if before is not None:
        tally.dropped = before.marker.dropped_captions
    sidecar = sidecar_bytes(tally.rows)
    with job.place.writing(sidecar_name(shard)) as stream:
        stream.write(sidecar)
    marker = tally.marker(job, tar.size, sha256, hashlib.sha256(sidecar).hexdigest())
    marker.write(job.place, marker_name(shard))
    return marker


def _added(tar: TarWriter, item: Prepared) -> int | None:
    if item.image is None:
        return None
    offset = tar.add(item.sample.key + item.image.ending, item.image.data)
    tar.add(f"{item.sample.key}.json", item.sample.to_json())
    return offset


def _copied(tar: TarWriter, before: _Before, row: dict[str, Any]) -> dict[str, Any]:
    """Copy a sample from the old tar; return its sidecar row."""
    if row["offset"] is None:
        return row
    before.tar.seek(row["offset"] - 512)
    name = before.tar.read(100).rstrip(b"\0").decode("ascii")
    image, json = read_sample(before.tar, row["offset"], row["size"])
    offset = tar.add(name, image)
    tar.add(f"{row['key']}.json", json)
    return {**row, "offset": offset}


def _lasting(examples: Mapping[str, str]) -> dict[str, str]:
    """Return the examples that are not of a status: those are found anew."""
    return {reason: example for reason, example in examples.items() if reason not in STATUSES}


@lru_cache(maxsize=1)
def _opened(
    plan: Place, images: tuple[Path, ...], metas: tuple[Path, ...]
) -> tuple[PlannedRows, Members, Members | None]:
    return PlannedRows(plan), Members(images), Members(metas) if metas else None
