"""From captions and pictures to shards: plan first, then one shard after another, each finished or absent.

A plan fixes which rows make which shard before anything is written, so a run that was killed goes on where it stopped,
and equal input gives equal bytes.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from dove_core.config import ShardConfig, check
from dove_core.data.manifest import (
    MANIFEST,
    OK,
    SIZES,
    STATUSES,
    ShardEntry,
    ShardManifest,
    ShardMarker,
    read_manifest,
    read_marker,
)
from dove_core.data.sharding.archives import Archives, open_metas, open_pictures
from dove_core.data.sharding.captions import CaptionTable
from dove_core.data.sharding.karpathy import read_karpathy
from dove_core.data.sharding.plan import Sources, make_plan
from dove_core.data.sharding.row import Prepared, Row, prepare
from dove_core.data.sharding.sidecar import sidecar_row, write_sidecar
from dove_core.data.sharding.skyscript import read_csv, release_tables
from dove_core.data.sharding.tar import TarWriter
from dove_core.errors import DataError
from dove_core.events import Advanced, Report, Saved, Skipped, Started, silent
from dove_core.files import atomic_file, make_folder

__all__ = ["OK", "STATUSES", "ShardEntry", "ShardManifest", "read_manifest", "shard_captions", "shard_release"]

_EVENT_ROWS = 64
_DROPPED = "empty caption"
_OUTPUT = re.compile(r"(\d{5,})\.(tar|parquet|done)|\.\d{5,}\.(tar|parquet|done)\.\d+\.tmp")

In = TypeVar("In")
Out = TypeVar("Out")


def shard_release(
    release_folder: Path, out: Path, config: ShardConfig, *, report: Report = silent
) -> list[ShardManifest]:
    """Make shards of a release as fetched: `images*.zip` or `images*/`, `meta*.zip`, `dataframe/*.csv`.

    Each split goes into a folder of its name below `out`; finished shards of the same plan are kept.

    Raises:
        DataError: tables or pictures are missing or unreadable, or too many rows are unusable.
        SpaceError: the disk is full.
        UsageError: a setting is out of bounds.
    """
    check(config)
    tables = [read_csv(file) for file in release_tables(release_folder)]
    return _shard_tables(tables, release_folder, out, config, report)


def shard_captions(
    captions: Path, images: Path, out: Path, config: ShardConfig, *, split: str | None = None, report: Report = silent
) -> list[ShardManifest]:
    """Make shards of one caption file, a CSV or a JSON in the Karpathy form, and the pictures in a zip or folder.

    `split` names a CSV's split, where its file name does not tell, or chooses one of a JSON's splits.

    Raises:
        DataError: captions or pictures are missing or unreadable, or too many rows are unusable.
        SpaceError: the disk is full.
        UsageError: a setting is out of bounds.
    """
    check(config)
    if captions.suffix.lower() == ".json":
        tables = read_karpathy(captions, split)
    elif captions.suffix.lower() == ".csv":
        tables = [read_csv(captions, split)]
    else:
        raise DataError(f"{captions} is neither a .csv nor a .json", hint="see docs/formats.md for both forms")
    return _shard_tables(tables, images, out, config, report)


def _shard_tables(
    tables: Iterable[CaptionTable], images: Path, out: Path, config: ShardConfig, report: Report
) -> list[ShardManifest]:
    with ExitStack() as stack:
        pictures = stack.enter_context(open_pictures(images))
        metas = open_metas(images)
        sources = Sources(pictures, stack.enter_context(metas) if metas is not None else None)
        pool = stack.enter_context(ThreadPoolExecutor(min(8, os.cpu_count() or 1)))
        return [_shard_split(table, sources, out, config, pool, report) for table in tables]


def _shard_split(
    table: CaptionTable, sources: Sources, out: Path, config: ShardConfig, pool: ThreadPoolExecutor, report: Report
) -> ShardManifest:
    plan, folder, task = make_plan(table, sources, config), out / table.split, f"shard {table.split}"
    make_folder(folder)
    kept = {shard: marker for shard in range(len(plan)) if (marker := _kept(folder, shard, plan.fingerprint))}
    if len(kept) < len(plan):
        _remove_manifest(folder)
    report(Started(task, len(table), "pictures", done=sum(marker.rows for marker in kept.values())))

    def ready(row: Row) -> Prepared:
        return prepare(row, sources.pictures, sources.metas, quality=config.jpeg_quality)

    markers = []
    for shard in range(len(plan)):
        marker = kept.get(shard)
        if marker is None:
            prepared = _counted(_in_order(pool, ready, plan.rows(shard)), task, report)
            marker = _write_shard(folder, shard, prepared, plan.fingerprint)
            report(Saved(folder / f"{shard:05d}.tar"))
        markers.append(marker)
    manifest = _sum_up(table, out.name, markers, plan.fingerprint)
    _report_skips(markers, task, report)
    try:
        _check_share(manifest, folder, table, sources.pictures, config.max_bad)
    except DataError:
        _remove_manifest(folder)
        raise
    _remove_stale(folder, len(plan))
    manifest.write(folder)
    report(Saved(folder / MANIFEST))
    return manifest


def _kept(folder: Path, shard: int, fingerprint: str) -> ShardMarker | None:
    """Return the marker of a shard that an earlier run of the same plan finished."""
    try:
        marker = read_marker(folder / f"{shard:05d}.done")
        size = (folder / f"{shard:05d}.tar").stat().st_size
    except (DataError, OSError):
        return None
    is_whole = size == marker.bytes and (folder / f"{shard:05d}.parquet").exists()
    return marker if is_whole and marker.fingerprint == fingerprint else None


def _write_shard(folder: Path, shard: int, prepared: Iterable[Prepared], fingerprint: str) -> ShardMarker:
    """Write tar, sidecar and done-marker, in this order."""
    done = folder / f"{shard:05d}.done"
    done.unlink(missing_ok=True)
    rows, counts, problems, examples = [], Counter[str](), Counter[str](), dict[str, str]()
    dropped = 0
    with warnings.catch_warnings(), atomic_file(folder / f"{shard:05d}.tar") as stream:
        warnings.simplefilter("ignore")  # Pillow's, of odd but readable pictures; set here, since threads share filters
        tar = TarWriter(stream)
        for item in prepared:
            key, offset = item.sample.key, None
            if item.picture is not None:
                offset = tar.add(f"{key}.jpg", item.picture.jpeg)
                tar.add(f"{key}.json", item.sample.to_json())
            rows.append(sidecar_row(item, offset))
            counts[item.status] += 1
            problems.update(item.meta_problems)
            dropped += item.dropped_captions
            for reason in (item.status, *item.meta_problems, *([_DROPPED] if item.dropped_captions else [])):
                examples.setdefault(reason, f"{item.sample.path}: {item.error}" if item.error else item.sample.path)
        sha256 = tar.finish()
    write_sidecar(folder / f"{shard:05d}.parquet", rows)
    examples.pop(OK, None)
    by_status = {status: counts[status] for status in STATUSES}
    marker = ShardMarker(
        len(rows), counts[OK], by_status, dropped, dict(problems), examples, tar.size, sha256, fingerprint
    )
    marker.write(done)
    return marker


def _in_order(pool: ThreadPoolExecutor, function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Yield `function(item)` in the items' order, a few ahead in threads: a whole shard would not fit into memory."""
    waiting: deque[Future[Out]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= 32:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _counted(items: Iterable[Prepared], task: str, report: Report) -> Iterator[Prepared]:
    """Pass the items on and report their number now and then."""
    count = 0
    for count, item in enumerate(items, start=1):
        yield item
        if count % _EVENT_ROWS == 0:
            report(Advanced(task, _EVENT_ROWS))
    if count % _EVENT_ROWS:
        report(Advanced(task, count % _EVENT_ROWS))


def _sum_up(table: CaptionTable, release: str, markers: list[ShardMarker], fingerprint: str) -> ShardManifest:
    return ShardManifest(
        release=release,
        split=table.split,
        caption_fields=tuple(sorted(table.fields)),
        samples=sum(marker.samples for marker in markers),
        rows=len(table),
        counts={status: sum(marker.counts[status] for marker in markers) for status in STATUSES},
        dropped_captions=sum(marker.dropped_captions for marker in markers),
        meta_problems=sum(sum(marker.meta_problems.values()) for marker in markers),
        fingerprint=fingerprint,
        shards=tuple(
            ShardEntry(f"{i:05d}.tar", marker.samples, marker.bytes, marker.sha256) for i, marker in enumerate(markers)
        ),
    )


def _report_skips(markers: list[ShardMarker], task: str, report: Report) -> None:
    """Report what was left out, by reason, with the first example of each."""
    counts, examples = Counter[str](), dict[str, str]()
    for marker in markers:
        counts.update({status: count for status, count in marker.counts.items() if status != OK})
        counts.update(marker.meta_problems)
        counts[_DROPPED] += marker.dropped_captions
        examples = {**marker.examples, **examples}
    for reason, count in sorted(counts.items()):
        if count:
            report(Skipped(task, reason, count, examples.get(reason, "")))


def _check_share(
    manifest: ShardManifest, folder: Path, table: CaptionTable, pictures: Archives, max_bad: float
) -> None:
    """Refuse a split of which nothing, or too little, can be used."""
    bad = manifest.rows - manifest.samples
    reasons = ", ".join(f"{count} {status}" for status, count in manifest.counts.items() if count and status != OK)
    if not manifest.samples:
        wanted = table.paths[0].as_py()
        message = f"no row of {table.file} for {table.split} can be used: {reasons}"
        hint = f"expected pictures such as {wanted!r}; seen: {len(pictures)} pictures such as {pictures.example()!r}"
        raise DataError(message, hint=hint)
    if bad > max_bad * manifest.rows:
        message = f"{bad} of {manifest.rows} rows for {table.split} cannot be used: {reasons}"
        hint = f"status and error of each row are in {folder}/*.parquet; allow more with --max-bad (now {max_bad:g})"
        raise DataError(message, hint=hint)


def _remove_manifest(folder: Path) -> None:
    for name in (MANIFEST, SIZES):
        (folder / name).unlink(missing_ok=True)


def _remove_stale(folder: Path, shards: int) -> None:
    """Remove the shards of a larger plan, and what a killed run left half written."""
    for path in folder.iterdir():
        match = _OUTPUT.fullmatch(path.name)
        if match and (match.group(1) is None or int(match.group(1)) >= shards):
            path.unlink()
