"""Making of embedding parts: in this process, or in several tasks with a GPU each.

Batches begin and end with a part, so its bytes do not depend on the process that makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from dove_core.config import ComputeConfig, EmbedConfig
from dove_core.data.prefetch import Prefetcher
from dove_core.encoding.compute import settings_in_task
from dove_core.encoding.embedder import Embedded, Embedder
from dove_core.encoding.encoder import Encoder
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError, SearchIndexError, UsageError
from dove_core.events import Advanced, Noted, Report
from dove_core.executors import Executor
from dove_core.index.known import ContentSamples, KnownImages
from dove_core.index.part_plan import PartPlan, PlannedPart
from dove_core.index.parts import PartFacts, part_name, read_facts, write_part, write_selection
from dove_core.index.regions import region_records, regions_name, write_regions
from dove_core.places import Place
from dove_core.processes import Resources
from dove_core.sources.source import Source

TASK = "embedding"
MANY = 10_000
"""Number of images for which compiling the model (about a minute) saves time."""

_AHEAD = 2
"""Number of parts whose shards are downloaded from a bucket in advance."""


@dataclass(frozen=True)
class Job:
    """The settings of all parts; `images` is the number of images of the sources, 0 if it is not known.

    It decides whether the model is compiled, so that all parts are made in the same way. `known` are images of the
    index so far, which are not encoded again.
    """

    checkpoint: Place
    sources: Sequence[Source]
    plan: PartPlan
    embedding: EmbedConfig
    compute: ComputeConfig
    images: int = 0
    known: KnownImages | None = None


def embed_parts(job: Job, encoder: Encoder, parts: Sequence[int], executor: Executor, report: Report) -> None:
    """Make some parts, in up to `job.embedding.gpus` tasks at once.

    Raises:
        DataError: a shard is damaged, or a process died.
        CheckpointError: the checkpoint was replaced in the meantime.
        SpaceError: the disk is full.
    """
    if not parts:
        return  # do not prepare the model
    count = min(job.embedding.gpus, len(parts))
    if count <= 1 and not executor.is_remote:
        embedder, reason = _ready(encoder, job.compute, job.embedding.batch_size, job.images)
        if reason:
            report(Noted(reason))
        _embed_all(job, embedder, parts, report)
        return
    resources = executor.resources(job.compute.device, count)
    pieces = executor.pieces(len(parts), count, resources)
    numbered = [(k, list(parts[k::pieces])) for k in range(pieces)]
    lost = "if memory ran out, use fewer --gpus or a smaller --batch-size; finished parts are kept"
    for _ in executor.each(
        partial(embed_share, job, resources), numbered, count, lost=lost, report=report, resources=resources
    ):
        pass


def embed_share(job: Job, resources: Resources, piece: tuple[int, list[int]], *, report: Report) -> None:
    """Make the parts of one task; parts finished by a killed worker are kept.

    Raises:
        DataError: a shard is damaged.
        CheckpointError: the checkpoint was replaced in the meantime.
        SpaceError: the disk is full.
    """
    number, parts = piece
    embedder, reason = _embedder(
        job.checkpoint, job.plan.parts[0].mark.fingerprint, job.compute, job.embedding.batch_size, job.images,
        resources, 0 if resources.cpus else number,
    )  # fmt: skip
    if reason and not number:
        report(Noted(reason))
    _embed_all(job, embedder, parts, report)


def _embed_all(job: Job, embedder: Embedder, parts: Sequence[int], report: Report) -> None:
    """Make some parts, one after another; shards in a bucket are downloaded in advance."""
    planned = [job.plan.parts[position] for position in parts]
    is_remote = any(job.sources[one.source].root.is_remote for one in planned)
    ahead = Prefetcher([[position] for position in parts], partial(_bring, job), count=_AHEAD) if is_remote else None
    place = job.plan.out
    try:
        for position, part in zip(parts, planned, strict=True):
            found = _facts_if_sound(place, part_name(part.number))
            if found and (facts := job.plan.finished(position, found, place.sizes())):  # by a killed worker
                report(Advanced(TASK, facts.images))
            elif part.base is not None:
                _select_part(job, part)
                report(Advanced(TASK, len(part.files)))
            else:
                _embed_part(job, embedder, part, report)
            if ahead:
                ahead.taken()
    finally:
        if ahead:
            ahead.close()


def _facts_if_sound(place: Place, name: str) -> PartFacts | None:
    try:
        return read_facts(place, name)
    except SearchIndexError:  # to be replaced: `PartPlan.keep` has raised it otherwise
        return None


def _bring(job: Job, position: int) -> None:
    part = job.plan.parts[position]
    if job.sources[part.source].root.is_remote:
        job.sources[part.source].bring(part.part)


@lru_cache(maxsize=1)
def _embedder(
    checkpoint: Place,
    fingerprint: str,
    compute: ComputeConfig,
    batch_size: int,
    images: int,
    resources: Resources,
    number: int,
) -> tuple[Embedder, str]:
    """Return the result of `_ready`, once for all tasks of this process."""
    compute = settings_in_task(compute, resources, number)
    encoder = load_encoder(checkpoint)
    if encoder.fingerprint != fingerprint:
        message = f"{checkpoint} was replaced during embedding"
        raise CheckpointError(message, hint="run the same command again, and do not change the checkpoint")
    return _ready(encoder, compute, batch_size, images)


def _ready(encoder: Encoder, compute: ComputeConfig, batch_size: int, images: int) -> tuple[Embedder, str]:
    """Return the model, compiled if requested or useful, and a message if compiling failed.

    Raises:
        UsageError: compiling was requested and failed.
    """
    embedder = Embedder(encoder, compute)
    pays = images >= MANY and (embedder.device.type != "cpu" or encoder.is_convolutional)
    if compute.compile == "on" or (compute.compile == "auto" and pays):
        try:
            embedder.compile(batch_size)
        except UsageError as error:
            if compute.compile == "on":
                raise
            return embedder, f"{error.message}; it runs without, which is slower"
    return embedder, ""


def _embed_part(job: Job, embedder: Embedder, part: PlannedPart, report: Report) -> None:
    source, regions = job.sources[part.source], job.plan.regions
    samples = ContentSamples(source.open(part.part), job.known)
    for note in source.notes(part.part):
        report(Noted(note))
    batches: list[Embedded] = []
    skipped: dict[str, tuple[int, str]] = {}
    for batch in embedder.embed_samples(samples, batch_size=job.embedding.batch_size, regions=regions):
        batches.append(batch)
        for one in batch.unusable:
            count, example = skipped.get(one.reason, (0, one.example))
            skipped[one.reason] = count + 1, example
        report(Advanced(TASK, len(batch.records) + len(batch.unusable) + len(batch.known)))
    if deep := [one for batch in batches for one in batch.deep]:
        message = "images have more than 8 bits, or other bands than red, green and blue; they are read as scenes are"
        report(Noted(f"{TASK}: {len(deep)} {message}, each by its own values, such as {deep[0]}"))
    known = [one for batch in batches for one in batch.known]
    records = [record for batch in batches for record in batch.records] + [one.record for one in known]
    order = np.argsort([record.number for record in records], kind="stable").astype(int)
    out, number = job.plan.out, part.number
    out.remove(regions_name(number))  # of an earlier part
    rows = np.array([one.row for one in known], np.int64)
    if regions:
        write_regions(out, number, _records(job, embedder, batches, rows)[order])
    vectors = np.concatenate([np.zeros((0, embedder.encoder.dim), np.float32), *(batch.vectors for batch in batches)])
    if job.known and len(known):
        vectors = np.concatenate([vectors, job.known.index.vectors_of(rows.tolist())])
    write_part(
        out, number, [records[k] for k in order], vectors[order], field=source.field(part.part), mark=part.mark,
        skipped=skipped, files=part.files,
    )  # fmt: skip


def _records(job: Job, embedder: Embedder, batches: Sequence[Embedded], known: np.ndarray) -> np.ndarray:
    """Return the records of regions of the encoded images, and then those of rows that are known."""
    empty = np.zeros((0, embedder.reranker.regions, embedder.encoder.dim), np.float32)
    found = [batch.regions for batch in batches if batch.regions is not None]
    fused = [batch.fused for batch in batches if batch.fused is not None]
    records = region_records(np.concatenate([empty, *found]), np.concatenate([empty[:, 0], *fused]))
    if job.known and len(known) and (stored := job.known.index.regions):
        records = np.concatenate([records, stored.records(known)])
    return records


def _select_part(job: Job, part: PlannedPart) -> None:
    """Make a part that has only rows of an earlier one; no image is read."""
    out, number, base = job.plan.out, part.number, part.base or 0
    out.remove(regions_name(number))
    rows = write_selection(out, number, base, part.mark, part.files)
    if job.plan.regions:
        with out.local_path(regions_name(base)) as path:
            write_regions(out, number, np.load(path, mmap_mode="r", allow_pickle=False)[rows])
