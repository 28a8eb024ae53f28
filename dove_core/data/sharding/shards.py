"""From captions and images to shards: first a plan, then independent tasks, each finished or absent.

A plan fixes which rows make which shard before anything is written. So an interrupted run can resume, several processes
or machines can share the work, and equal input gives equal bytes.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dove_core.addresses import Address, place_of
from dove_core.config import ExecutorConfig, ShardConfig
from dove_core.data.csv_tables import csv_files, release_tables, several_tables
from dove_core.data.manifest import IN_PROGRESS, ShardManifest, tar_name
from dove_core.data.parquet_images import ENDING
from dove_core.data.sharding.archive_sources import ArchiveSources
from dove_core.data.sharding.caption_files import read_captions
from dove_core.data.sharding.caption_table import CaptionTable
from dove_core.data.sharding.finish import BadRowsError, finish, remove_manifest
from dove_core.data.sharding.kept_shards import finished_shards, kept_shards, refuse_foreign_files, refuse_other_table
from dove_core.data.sharding.parquet_sources import ParquetSources
from dove_core.data.sharding.parquet_table import (
    describe_split,
    parquet_names,
    parquet_splits,
    read_parquet_captions,
)
from dove_core.data.sharding.shard_plan import ShardPlan, Sources, make_plan
from dove_core.data.sharding.shard_task import ShardJob, close, make_shard
from dove_core.errors import DataError, UsageError
from dove_core.events import Advanced, Noted, Report, Saved, Started, silent
from dove_core.executors import LOCAL, Executor, executing
from dove_core.files import LocalPath
from dove_core.places import Place
from dove_core.processes import EVERYTHING, Share

_Split = tuple[CaptionTable, Sources]
PLANS = ".plan"
"""Name of the folder of plans, which is in the split's folder while its shards are made."""


def shard_release(
    release_folder: LocalPath,
    out: Address,
    sharding: ShardConfig = ShardConfig(),
    *,
    share: Share = EVERYTHING,
    retry_failed: bool = False,
    overwrite: bool = False,
    execution: ExecutorConfig = LOCAL,
    report: Report = silent,
) -> list[ShardManifest]:
    """Make shards of a release as fetched: `images*.zip` or `images*/`, `meta*.zip`, `dataframe/*.csv`.

    A release without CSVs is one of Parquet files with images inside, such as `data/train-00000-of-00001.parquet`.
    Finished shards of the same plan are kept.

    Args:
        release_folder: the release.
        out: a folder or an address such as `s3://bucket/shards`; each split goes into a folder of its name in it.
        sharding: how shards are made.
        share: which of the shards this run makes.
        retry_failed: keep the shards of the same rows even if the zips have changed, and try only missing and damaged
            images again.
        overwrite: replace shards that were made from other captions.
        execution: what makes the shards: this machine or a cluster.
        report: receives Started, Advanced, Skipped, Noted and Saved.

    Returns:
        The manifest of each split whose shards are all done.

    Raises:
        DataError: tables or images are missing or unreadable, or too many rows are unusable.
        SpaceError: the disk is full.
        UsageError: `out` cannot be written, or has shards made from other captions.

    >>> train, val, test = dove.shard_release("data/sample", "shards/sample")
    >>> train.samples, test.split
    (8, 'test')
    """
    folder = Path(release_folder)
    if folder.is_dir() and not csv_files(folder) and parquet_names(folder):
        splits = _in_parquet(folder, None, report)
    else:
        splits = _in_archives(_release_captions(folder, report), folder, report)
    with executing(execution) as executor:
        return _shard_splits(splits, place_of(out), _Run(sharding, share, retry_failed, overwrite, executor, report))


def shard_captions(
    captions: LocalPath,
    images: LocalPath | None,
    out: Address,
    sharding: ShardConfig = ShardConfig(),
    *,
    split: str | None = None,
    share: Share = EVERYTHING,
    retry_failed: bool = False,
    overwrite: bool = False,
    execution: ExecutorConfig = LOCAL,
    report: Report = silent,
) -> list[ShardManifest]:
    """Make shards of one caption file, a CSV or a JSON in the Karpathy form, and the images in a zip or folder.

    Or of a Parquet file with images inside, or a folder of them; `images` is then None. `split` names the split of a
    CSV or of Parquet files whose names do not, or chooses one of several splits. The other arguments and the result are
    those of `shard_release`.

    Raises:
        DataError: captions or images are missing or unreadable, or too many rows are unusable.
        SpaceError: the disk is full.
        UsageError: `out` cannot be written or has shards made from other captions, or `images` is missing or
            superfluous.

    >>> manifests = dove.shard_captions("dataset_shapes.json", "images", "shards/other", split="test")
    >>> [manifest.samples for manifest in manifests]
    [24]
    """
    file = Path(captions)
    if is_parquet(file):
        if images is not None:
            raise UsageError(f"{file} has its images inside", hint="remove --images")
        splits = _in_parquet(file, split, report)
    elif images is None:
        raise UsageError(f"the images of {file} are missing", hint="give a zip or a folder with --images")
    else:
        splits = _in_archives(read_captions(file, split, report), Path(images), report)
    with executing(execution) as executor:
        return _shard_splits(splits, place_of(out), _Run(sharding, share, retry_failed, overwrite, executor, report))


def is_parquet(captions: Path) -> bool:
    """Tell whether captions are in Parquet: a file of that ending, or a folder."""
    return captions.is_dir() or captions.suffix.lower() == ENDING


def _release_captions(folder: Path, report: Report) -> list[CaptionTable]:
    """Read the tables of a release; one without a split in its name or its rows is of train."""
    tables = [table for file in release_tables(folder) for table in read_captions(file, None, report)]
    by_split = Counter(table.split for table in tables)
    for table in tables:
        if by_split[table.split] > 1:
            names = ", ".join(other.file.name for other in tables if other.split == table.split)
            raise several_tables(folder, table.split, names)
    return tables


def _in_archives(tables: Sequence[CaptionTable], images: Path, report: Report) -> list[_Split]:
    sources = ArchiveSources(images, report)
    return [(table, sources) for table in tables]


def _in_parquet(path: Path, split: str | None, report: Report) -> list[_Split]:
    splits: list[_Split] = []
    for one in parquet_splits(path, split):
        files = describe_split(one, report)
        splits.append((read_parquet_captions(one, files), ParquetSources(one, files)))
    return splits


@dataclass(frozen=True)
class _Run:
    """The arguments of a run that are the same for every split."""

    config: ShardConfig
    share: Share
    retry_failed: bool
    overwrite: bool
    executor: Executor
    report: Report


def _shard_splits(splits: Sequence[_Split], root: Place, run: _Run) -> list[ShardManifest]:
    """Make every split; one with too many unusable rows is an error after the others are done."""
    manifests: list[ShardManifest] = []
    failed: list[BadRowsError] = []
    for table, sources in splits:
        try:
            manifest = _shard_split(table, sources, root, run)
        except BadRowsError as error:
            failed.append(error)
        else:
            manifests += [manifest] if manifest is not None else []
    if failed:
        message = "; ".join(error.message for error in failed)
        raise DataError(message, hint=failed[0].hint)
    return manifests


def _shard_split(table: CaptionTable, sources: Sources, root: Place, run: _Run) -> ShardManifest | None:
    place, config, share, report = root / table.split, run.config, run.share, run.report
    strict = run.retry_failed or share.none
    refuse_foreign_files(place)
    if not (strict or run.overwrite):
        refuse_other_table(place, table)
    place.make()
    place.sweep()
    with place.scratch(PLANS) as folder:
        plan = make_plan(table, sources, config, folder)
        kept, updated = kept_shards(place, plan, strict=strict, retry=run.retry_failed, report=report)
        own = share.of(len(plan))
        to_do = [(shard, shard in updated) for shard in own if shard not in kept]
        if to_do:
            with place.writing(IN_PROGRESS):  # an empty file
                pass
            remove_manifest(place)
        done = sum(kept[shard].rows for shard in own if shard in kept)
        rows = sum(min(config.shard_size, plan.rows - shard * config.shard_size) for shard in own)
        report(Started(f"shard {plan.split}", rows, "images", done))
        files = place_of(plan.file), tuple(sources.images), tuple(sources.metas)
        prints = plan.fingerprint, plan.rows_fingerprint, plan.table, plan.captions
        _make(ShardJob(*files, place, config, *prints), to_do, run)
        place.sweep()  # partial files of killed workers
        markers = finished_shards(place, plan)  # read again: other runs may have written meanwhile
        if missing := sorted(set(range(len(plan))) - set(markers)):
            _report_missing(missing, plan, place, share, report)
            return None
        ordered = [markers[shard] for shard in range(len(plan))]
        manifest = finish(plan, table, sources, place, ordered, config.max_bad, root.name, report=report)
        shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _make(job: ShardJob, to_do: list[tuple[int, bool]], run: _Run) -> None:
    """Make the shards that are left to do, given by number and whether they are updated."""
    lost = "out of memory? Try fewer --workers: finished shards are kept"
    try:
        with _readable_plan(job, run) as own:
            make = partial(make_shard, own)
            for (shard, _), marker in run.executor.each(make, to_do, run.config.workers, lost=lost):
                run.report(Advanced(f"shard {job.place.name}", marker.rows))
                run.report(Saved(job.place.where(tar_name(shard))))
    finally:
        close()


@contextmanager
def _readable_plan(job: ShardJob, run: _Run) -> Iterator[ShardJob]:
    """Yield the job with a plan that its tasks can read: for remote tasks that write to a bucket, a copy there."""
    if not job.place.is_remote or not run.executor.is_remote or job.plan.is_remote:
        yield job
        return
    name = f".plan-{job.fingerprint[:16]}-{run.share.number}.parquet"
    with job.plan.parent.open(job.plan.name) as plan, job.place.writing(name) as stream:
        shutil.copyfileobj(plan, stream)
    try:
        yield replace(job, plan=job.place / name)
    finally:
        job.place.remove(name)


def _report_missing(missing: list[int], plan: ShardPlan, place: Place, share: Share, report: Report) -> None:
    """Report that other tasks are not done yet; for a run that only finishes, this is an error."""
    names = ", ".join(map(tar_name, missing[:5])) + (" and more" if len(missing) > 5 else "")
    message = f"{place.url}: {len(missing)} of {len(plan)} shards are missing: {names}"
    if share.none:
        raise DataError(message, hint="run the tasks that make them, or `dove shard` for all that is missing")
    report(Noted(f"{message}; the last task to finish, or dove shard --finish, writes the manifest"))
