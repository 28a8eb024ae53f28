"""The end of a split's sharding: skipped rows are reported, and the manifest says that all shards are whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dove_core.data.manifest import (
    DAMAGED_IMAGE,
    DEEP_IMAGE,
    IN_PROGRESS,
    MANIFEST,
    MERGED,
    NO_CAPTION,
    OK,
    SIZES,
    STATUSES,
    WARNED_IMAGE,
    ShardEntry,
    ShardManifest,
    ShardMarker,
    marker_name,
    sidecar_name,
    tar_name,
)
from dove_core.data.sharding.caption_table import CaptionTable
from dove_core.data.sharding.kept_shards import read_markers
from dove_core.data.sharding.shard_plan import ShardPlan, Sources
from dove_core.data.sharding.shard_task import DROPPED
from dove_core.errors import DataError
from dove_core.events import Noted, Report, Saved, Skipped
from dove_core.places import Place


class BadRowsError(DataError):
    """Too many rows of a split cannot be used; raised as a DataError after the other splits are made."""


def finish(
    plan: ShardPlan,
    table: CaptionTable,
    sources: Sources,
    place: Place,
    markers: Sequence[ShardMarker],
    max_bad: float,
    release: str,
    *,
    report: Report,
) -> ShardManifest:
    """Write the manifest of a split whose shards are all done, and remove the shards of a larger plan.

    Raises:
        DataError: nothing, or too little, of the split can be used.
        SpaceError: the disk is full.
    """
    task = f"shard {plan.split}"
    manifest = _sum_up(table, release, markers, plan.fingerprint)
    _report_skips(markers, task, report)
    try:
        _check_share(manifest, place, table, sources, max_bad)
    except BadRowsError:
        remove_manifest(place)
        raise
    _remove_stale(place, len(plan))
    place.sweep()
    manifest.write(place)
    place.remove(IN_PROGRESS)
    report(Saved(place.where(MANIFEST)))
    return manifest


def remove_manifest(place: Place) -> None:
    """Remove the manifest, because its shards are about to change."""
    for name in (MANIFEST, SIZES):
        place.remove(name)


def _sum_up(table: CaptionTable, release: str, markers: Sequence[ShardMarker], fingerprint: str) -> ShardManifest:
    return ShardManifest(
        release=release,
        split=table.split,
        caption_fields=tuple(sorted(table.fields)),
        samples=sum(marker.samples for marker in markers),
        rows=len(table),
        counts={status: sum(marker.counts[status] for marker in markers) for status in STATUSES},
        dropped_captions=sum(marker.dropped_captions for marker in markers),
        meta_problems=sum(marker.refused_meta for marker in markers),
        fingerprint=fingerprint,
        shards=tuple(
            ShardEntry(tar_name(i), marker.samples, marker.bytes, marker.sha256) for i, marker in enumerate(markers)
        ),
    )


def _report_skips(markers: Sequence[ShardMarker], task: str, report: Report) -> None:
    """Report skipped rows and metadata by reason, with the first example of each."""
    counts, examples = Counter[str](), dict[str, str]()
    for marker in markers:
        counts.update({status: count for status, count in marker.counts.items() if status not in (OK, MERGED)})
        counts.update(marker.meta_problems)
        counts[DROPPED] += marker.dropped_captions
        examples = {**marker.examples, **examples}
    if warned := counts.pop(WARNED_IMAGE, 0):
        message = f"{task}: {warned} JPEGs are odd, and may be damaged in part; they are kept as viewers show them"
        report(Noted(f"{message}, such as {examples[WARNED_IMAGE]}"))
    if deep := counts.pop(DEEP_IMAGE, 0):
        message = f"{task}: {deep} images have more than 8 bits, or other bands than red, green and blue; they are read"
        report(Noted(f"{message} as scenes are, each by its own values, such as {examples[DEEP_IMAGE]}"))
    for reason, count in sorted(counts.items()):
        if count:
            report(Skipped(task, reason, count, examples.get(reason, "")))


def _check_share(manifest: ShardManifest, place: Place, table: CaptionTable, sources: Sources, max_bad: float) -> None:
    """Refuse a split with no usable row, or with too few."""
    bad = manifest.rows - manifest.samples - manifest.counts[MERGED]
    reasons = ", ".join(f"{count} {status}" for status, count in manifest.counts.items() if count and status != OK)
    if not manifest.samples:
        message = f"no row of {table.file} for {table.split} can be used: {reasons}"
        left = manifest.rows - manifest.counts[MERGED]
        if manifest.counts[NO_CAPTION] == left:
            hint = f"captions are read from {', '.join(table.fields)}: all are empty"
        elif manifest.counts[DAMAGED_IMAGE] == left:
            hint = f"status and error of each row are in {place.url}/*.parquet"
        else:
            hint = sources.seen(table)
        raise BadRowsError(message, hint=hint)
    if bad > max_bad * manifest.rows:
        message = f"{bad} of {manifest.rows} rows for {table.split} cannot be used: {reasons}"
        hint = (
            f"status and error of each row are in {place.url}/*.parquet; repair or fetch the images and retry only "
            f"those with --retry-failed, or allow more with --max-bad (now {max_bad:g})"
        )
        raise BadRowsError(message, hint=hint)


def _remove_stale(place: Place, shards: int) -> None:
    """Remove the shards of a larger plan; numbered files without a marker of dove's are kept."""
    for shard, _ in read_markers(place, start=shards):
        for name in (tar_name(shard), sidecar_name(shard), marker_name(shard)):
            place.remove(name)
