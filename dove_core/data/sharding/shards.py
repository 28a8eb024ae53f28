"""From captions and pictures to shards: plan first, then independent tasks, each finished or absent.

A plan fixes which rows make which shard before anything is written, so a run that was killed goes on where it stopped,
several processes or machines share the work, and equal input gives equal bytes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dove_core.config import ShardConfig, check
from dove_core.data.manifest import (
    FAILED,
    OK,
    STATUSES,
    ShardEntry,
    ShardManifest,
    ShardMarker,
    read_manifest,
    read_marker,
)
from dove_core.data.sharding import task
from dove_core.data.sharding.captions import CaptionTable
from dove_core.data.sharding.finish import finish, remove_manifest
from dove_core.data.sharding.karpathy import read_karpathy
from dove_core.data.sharding.picture import Look
from dove_core.data.sharding.plan import ShardPlan, Sources, make_plan
from dove_core.data.sharding.skyscript import read_csv, release_tables
from dove_core.data.sharding.task import ShardJob, marker_name, sidecar_name, tar_name
from dove_core.errors import DataError, UsageError
from dove_core.events import Advanced, Noted, Report, Saved, Started, silent
from dove_core.places import Folder, Place, place_of
from dove_core.processes import each

__all__ = [
    "ALL", "OK", "STATUSES", "Part", "ShardEntry", "ShardManifest", "read_manifest", "shard_captions", "shard_release"
]  # fmt: skip

PLANS = ".plan"
"""Folder of plans, in the split's folder while its shards are made."""


@dataclass(frozen=True)
class Part:
    """Which shards this run makes: those of task `number` of `count`; `none` only looks whether all are there.

    Machines that share a folder can each take one part of the same plan; the last to finish writes the manifest.
    """

    number: int = 0
    count: int = 1
    none: bool = False

    def __post_init__(self) -> None:
        """Hold the number to its bounds.

        Raises:
            UsageError: there is no such part.
        """
        if not 0 <= self.number < self.count:
            message = f"--task-id {self.number} is not one of --num-tasks {self.count}"
            raise UsageError(message, hint=f"number the tasks from 0 to {self.count - 1}")

    def shards(self, total: int) -> list[int]:
        """Return the numbers of the shards of this part."""
        return [] if self.none else list(range(self.number, total, self.count))


ALL = Part()


def shard_release(
    release_folder: Path,
    out: Path | str,
    config: ShardConfig,
    *,
    part: Part = ALL,
    retry_failed: bool = False,
    report: Report = silent,
) -> list[ShardManifest]:
    """Make shards of a release as fetched: `images*.zip` or `images*/`, `meta*.zip`, `dataframe/*.csv`.

    Each split goes into a folder of its name below `out`, a folder or an address such as `s3://bucket/shards`; finished
    shards of the same plan are kept. With `retry_failed` shards of the same rows are kept whatever became of the zips
    since, and only pictures that were missing or damaged are tried again.

    Returns:
        The manifest of each split whose shards are all done.

    Raises:
        DataError: tables or pictures are missing or unreadable, or too many rows are unusable.
        SpaceError: the disk is full.
        UsageError: a setting is out of bounds, or `out` cannot be written.
    """
    check(config)
    tables = [read_csv(file) for file in release_tables(release_folder)]
    return _shard_tables(tables, release_folder, out, config, part, retry_failed, report)


def shard_captions(
    captions: Path,
    images: Path,
    out: Path | str,
    config: ShardConfig,
    *,
    split: str | None = None,
    part: Part = ALL,
    retry_failed: bool = False,
    report: Report = silent,
) -> list[ShardManifest]:
    """Make shards of one caption file, a CSV or a JSON in the Karpathy form, and the pictures in a zip or folder.

    `split` names a CSV's split, where its file name does not tell, or chooses one of a JSON's splits. The rest is as in
    `shard_release`.

    Raises:
        DataError: captions or pictures are missing or unreadable, or too many rows are unusable.
        SpaceError: the disk is full.
        UsageError: a setting is out of bounds, or `out` cannot be written.
    """
    check(config)
    if captions.suffix.lower() == ".json":
        tables = read_karpathy(captions, split)
    elif captions.suffix.lower() == ".csv":
        tables = [read_csv(captions, split)]
    else:
        raise DataError(f"{captions} is neither a .csv nor a .json", hint="see docs/formats.md for both forms")
    return _shard_tables(tables, images, out, config, part, retry_failed, report)


def _shard_tables(
    tables: Sequence[CaptionTable],
    images: Path,
    out: Path | str,
    config: ShardConfig,
    part: Part,
    retry_failed: bool,
    report: Report,
) -> list[ShardManifest]:
    sources, root = Sources(images), place_of(out)
    manifests = [_shard_split(table, sources, root, config, part, retry_failed, report) for table in tables]
    return [manifest for manifest in manifests if manifest is not None]


def _shard_split(
    table: CaptionTable,
    sources: Sources,
    root: Place,
    config: ShardConfig,
    part: Part,
    retry_failed: bool,
    report: Report,
) -> ShardManifest | None:
    place = root / table.split
    place.make()
    with _plan_folder(place) as folder:
        plan = make_plan(table, sources, config, folder)
        kept, again = _before(place, plan, retry_failed, report)
        own = part.shards(len(plan))
        to_do = [(shard, shard in again) for shard in own if shard not in kept]
        if to_do:
            remove_manifest(place)
        done = sum(kept[shard].rows for shard in own if shard in kept)
        rows = sum(min(config.shard_size, plan.rows - shard * config.shard_size) for shard in own)
        report(Started(f"shard {plan.split}", rows, "pictures", done))
        job = _job(plan, sources, place, config)
        for shard, marker in _made(job, to_do, config.workers, report):
            kept[shard] = marker
        if len(kept) < len(plan):  # others may have finished theirs meanwhile
            kept = {**_finished(place, plan), **kept}
        if len(kept) < len(plan):
            _say_what_is_missing(sorted(set(range(len(plan))) - set(kept)), plan, place, part, report)
            return None
        markers = [kept[shard] for shard in range(len(plan))]
        manifest = finish(plan, table, sources, place, markers, config.max_bad, root.name, report=report)
        shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _job(plan: ShardPlan, sources: Sources, place: Place, config: ShardConfig) -> ShardJob:
    look = Look(config.verify, config.image_size, config.image_format, config.quality)
    pictures, metas = tuple(sources.pictures), tuple(sources.metas)
    return ShardJob(plan.file, pictures, metas, place, look, plan.fingerprint, plan.rows_fingerprint)


def _made(
    job: ShardJob, to_do: list[tuple[int, bool]], workers: int, report: Report
) -> Iterator[tuple[int, ShardMarker]]:
    """Make the shards that are left to do; those with True are gone on from."""
    split = job.place.name
    try:
        lost = "out of memory? Try fewer --workers: finished shards are kept"
        for (shard, _), marker in each(partial(task.do, job), to_do, workers or cores(), lost=lost):
            report(Advanced(f"shard {split}", marker.rows))
            report(Saved(job.place.at(tar_name(shard))))
            yield shard, marker
    finally:
        task.close()


def _before(
    place: Place, plan: ShardPlan, retry_failed: bool, report: Report
) -> tuple[dict[int, ShardMarker], set[int]]:
    """Return the shards of earlier runs that are kept as they are, and those that are gone on from."""
    finished = _finished(place, plan, same_rows=True)
    same = {shard: marker for shard, marker in finished.items() if marker.fingerprint == plan.fingerprint}
    if not retry_failed:
        if other := len(finished) - len(same):
            report(Noted(
                f"{place.url}: {other} shards were made from other zips or folders and are made anew; with "
                "--retry-failed they are kept, but for pictures that were missing or damaged"
            ))  # fmt: skip
        return same, set()
    again = {shard for shard, marker in finished.items() if any(marker.counts[status] for status in FAILED)}
    kept = {shard: marker for shard, marker in finished.items() if shard not in again}
    for shard in kept.keys() - same.keys():
        kept[shard] = replace(kept[shard], fingerprint=plan.fingerprint)
        kept[shard].write(place, marker_name(shard))
    return kept, again


def _finished(place: Place, plan: ShardPlan, *, same_rows: bool = False) -> dict[int, ShardMarker]:
    """Return the markers of whole shards of this plan or, with `same_rows`, of any plan with the same rows."""
    sizes, found = place.sizes(), {}
    for shard in range(len(plan)):
        if marker_name(shard) not in sizes or sidecar_name(shard) not in sizes:
            continue
        try:
            marker = read_marker(place, marker_name(shard))
        except DataError:
            continue
        fits = marker.rows_fingerprint == plan.rows_fingerprint if same_rows else marker.fingerprint == plan.fingerprint
        if fits and sizes.get(tar_name(shard)) == marker.bytes:
            found[shard] = marker
    return found


def _say_what_is_missing(missing: list[int], plan: ShardPlan, place: Place, part: Part, report: Report) -> None:
    """Report that other tasks are not done yet; to a run that was only asked to finish, that is an error."""
    names = ", ".join(map(tar_name, missing[:5])) + (" and more" if len(missing) > 5 else "")
    message = f"{place.url}: {len(missing)} of {len(plan)} shards are not there yet: {names}"
    if part.none:
        raise DataError(message, hint="run the tasks that make them, or `dove shard` for all that is missing")
    report(Noted(f"{message}; the last task to finish, or dove shard --finish, writes the manifest"))


@contextmanager
def _plan_folder(place: Place) -> Iterator[Path]:
    """Give a folder for plans: in the split's own, where other runs find it, or a passing one beside a bucket."""
    if isinstance(place, Folder):
        yield place.path / PLANS
        return
    with tempfile.TemporaryDirectory(prefix="dove-") as folder:
        yield Path(folder)


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
