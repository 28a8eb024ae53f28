"""Making one shard: a task that any process on any machine can run, and run again."""

from __future__ import annotations

import hashlib
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from dove_core.config import ShardConfig
from dove_core.data.manifest import (
    DEEP_IMAGE,
    FAILED,
    OK,
    STATUSES,
    WARNED_IMAGE,
    ShardMarker,
    marker_name,
    read_marker,
    sidecar_name,
    tar_name,
)
from dove_core.data.sharding.member_reader import LostSourceError, MemberReader
from dove_core.data.sharding.prepare import ImageReader, Prepared, prepare
from dove_core.data.sharding.row_images import RowImages
from dove_core.data.sharding.shard_plan import PlannedRows
from dove_core.data.sharding.sidecar import read_sidecar, sidecar_bytes, sidecar_row
from dove_core.data.sharding.tar import BLOCK, TarWriter
from dove_core.errors import DataError
from dove_core.files import sha256_of_stream
from dove_core.places import Place

DROPPED = "empty caption"


@dataclass(frozen=True)
class ShardJob:
    """What the shards of a split have in common; it is sent to other processes. The plan may be in a bucket."""

    plan: Place
    images: tuple[Path, ...]
    metas: tuple[Path, ...]
    place: Place
    config: ShardConfig
    fingerprint: str
    rows_fingerprint: str
    table: str
    captions: str


@dataclass
class _Tally:
    """The sidecar's rows so far, and counts for the marker."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, item: Prepared, offset: int | None) -> None:
        self.rows.append(sidecar_row(item, offset))
        self.problems.update(item.meta_problems)
        self.dropped += item.dropped_captions
        if item.image is not None:
            for reason, text in ((WARNED_IMAGE, item.image.warning), (DEEP_IMAGE, item.image.note)):
                if text:
                    self.examples.setdefault(reason, f"{item.sample.path}: {text}")
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
            sidecar_sha256, job.fingerprint, job.rows_fingerprint, job.table, job.captions,
        )  # fmt: skip


@dataclass(frozen=True)
class _EarlierShard:
    """A whole shard of an earlier run: its samples are copied instead of read again."""

    marker: ShardMarker
    rows: list[dict[str, Any]]
    tar: BinaryIO


def make_shard(job: ShardJob, item: tuple[int, bool]) -> ShardMarker:
    """Write tar, sidecar and done-marker of a shard, in this order, each whole or absent.

    `item` is the shard's number, and whether to update the shard that is there: then only images that were missing or
    damaged are read, and the other samples are copied from its tar.

    Raises:
        DataError: the plan, or the old shard, is damaged.
        SpaceError: the disk is full.
    """
    shard, update = item
    try:
        with _earlier_shard(job, shard) if update else nullcontext() as earlier:
            return _write(job, shard, earlier)
    except LostSourceError as error:
        raise DataError(str(error), hint="repair it and run again: finished shards are kept") from error


@contextmanager
def _earlier_shard(job: ShardJob, shard: int) -> Iterator[_EarlierShard | None]:
    """Open the shard of an earlier run; None if any byte of it is missing or has changed since."""
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
        yield _EarlierShard(marker, read_sidecar(sidecar), tar) if is_whole else None


def close() -> None:
    """Close the files that this process opened for its shards."""
    _opened.cache_clear()


def _write(job: ShardJob, shard: int, earlier: _EarlierShard | None) -> ShardMarker:
    rows, images, metas = _opened(job.plan, job.images, job.metas)
    planned = list(rows.of_shard(shard))
    images.expect([row.image for row in planned if row.image is not None])
    tally = _Tally()
    if earlier is not None:
        tally.problems.update(earlier.marker.meta_problems)
        # Examples of a status are found again.
        tally.examples = {why: path for why, path in earlier.marker.examples.items() if why not in STATUSES}
    with warnings.catch_warnings(), job.place.writing(tar_name(shard)) as stream, TarWriter(stream) as tar:
        warnings.simplefilter("ignore")  # Pillow's, of odd but readable images
        for number, row in enumerate(planned):
            if earlier is not None and earlier.rows[number]["status"] not in FAILED:
                tally.rows.append(_copy_sample(tar, earlier.tar, earlier.rows[number]))
                continue
            item = prepare(row, images, metas, job.config)
            tally.add(item, _add_sample(tar, item))
        images.check_unchanged()
        sha256 = tar.finish()
        job.place.remove(marker_name(shard))  # until the new one is written, tar and sidecar may not fit each other
    if earlier is not None:
        tally.dropped = earlier.marker.dropped_captions
    sidecar = sidecar_bytes(tally.rows)
    with job.place.writing(sidecar_name(shard)) as stream:
        stream.write(sidecar)
    marker = tally.marker(job, tar.size, sha256, hashlib.sha256(sidecar).hexdigest())
    marker.write(job.place, marker_name(shard))
    return marker


def _add_sample(tar: TarWriter, item: Prepared) -> int | None:
    """Write an image and its JSON, if there is an image; return the image's offset."""
    if item.image is None:
        return None
    offset = tar.add(item.sample.key + item.image.ending, item.image.data)
    tar.add(f"{item.sample.key}.json", item.sample.to_json())
    return offset


def _copy_sample(tar: TarWriter, old: BinaryIO, row: dict[str, Any]) -> dict[str, Any]:
    """Copy the sample of a sidecar row, if it has one, from an old tar; return the row with the new offset."""
    if row["offset"] is None:
        return row
    old.seek(row["offset"] - BLOCK)
    offsets = []
    for _ in ("image", "JSON"):
        member = tarfile.TarInfo.frombuf(old.read(BLOCK), "ascii", "strict")
        offsets.append(tar.add(member.name, old.read(member.size + -member.size % BLOCK)[: member.size]))
    return {**row, "offset": offsets[0]}


@lru_cache(maxsize=1)
def _opened(
    plan: Place, images: tuple[Path, ...], metas: tuple[Path, ...]
) -> tuple[PlannedRows, ImageReader, MemberReader | None]:
    rows = PlannedRows(plan)
    reader: ImageReader = RowImages(images) if rows.are_in_parquet else MemberReader(images)
    return rows, reader, MemberReader(metas) if metas else None
