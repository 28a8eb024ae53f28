"""Making embedding parts: in this process, or in tasks that share them, a GPU each.

A part's batches are cut where the part begins and ends, so its bytes are the same whoever makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from dove_core.config import ComputeConfig, EmbedConfig
from dove_core.data.prefetch import Prefetcher
from dove_core.encoding.compute import in_task
from dove_core.encoding.embedder import Embedded, Embedder
from dove_core.encoding.encoder import Encoder
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError, UsageError
from dove_core.events import Advanced, Noted, Report
from dove_core.executors import Executor
from dove_core.index.part_plan import PartPlan
from dove_core.index.parts import part_name, read_facts, write_part
from dove_core.index.regions import regions_name, write_regions
from dove_core.places import Place
from dove_core.processes import Resources
from dove_core.sources.source import Source

TASK = "embedding"
MANY = 10_000
"""Images of a source from which on compiling the model, a minute, is won back."""
_AHEAD = 2
"""Parts whose shards are brought from a bucket before they are read."""


@dataclass(frozen=True)
class Job:
    """What all parts have in common; `checkpoint` is the model's folder, `images` how many the source has, if known.

    The whole source decides whether the model is compiled, so that all parts are made alike.
    """

    checkpoint: Place
    source: Source
    plan: PartPlan
    embedding: EmbedConfig
    compute: ComputeConfig
    images: int = 0


def embed_parts(job: Job, encoder: Encoder, parts: Sequence[int], executor: Executor, report: Report) -> None:
    """Make some parts, in `job.embedding.gpus` tasks at once.

    Raises:
        DataError: a shard is damaged, or a process died.
        CheckpointError: the checkpoint was replaced meanwhile.
        SpaceError: the disk is full.
    """
    if not parts:
        return  # a model is not made ready for nothing
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
    lost = "out of memory? Try fewer --gpus, or a smaller --batch-size: finished parts are kept"
    for _ in executor.each(
        partial(embed_share, job, resources), numbered, count, lost=lost, report=report, resources=resources
    ):
        pass


def embed_share(job: Job, resources: Resources, piece: tuple[int, list[int]], *, report: Report) -> None:
    """Make the parts of one task; those that a killed worker finished are kept.

    Raises:
        DataError: a shard is damaged.
        CheckpointError: the checkpoint was replaced meanwhile.
        SpaceError: the disk is full.
    """
    number, parts = piece
    embedder, reason = _embedder(
        job.checkpoint, job.plan.marks[0].fingerprint, job.compute, job.embedding.batch_size, job.images,
        resources, 0 if resources.cpus else number,
    )  # fmt: skip
    if reason and not number:
        report(Noted(reason))
    _embed_all(job, embedder, parts, report)


def _embed_all(job: Job, embedder: Embedder, parts: Sequence[int], report: Report) -> None:
    """Make some parts, one after another; what the next one reads is brought here meanwhile, if it is elsewhere."""
    ahead = (
        Prefetcher([[part] for part in parts], job.source.bring, count=_AHEAD) if job.source.root.is_remote else None
    )
    place = job.plan.out
    try:
        for part in parts:
            found = read_facts(place, part_name(part))
            if found and (facts := job.plan.finished(part, found, place.sizes())):  # by a worker that was killed later
                report(Advanced(TASK, facts.rows + sum(count for count, _ in facts.skipped.values())))
            else:
                _embed_part(job, embedder, part, report)
            if ahead:
                ahead.taken()
    finally:
        if ahead:
            ahead.close()


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
    """Return what `_ready` does for this process, which may do several tasks."""
    compute = in_task(compute, resources, number)
    encoder = load_encoder(checkpoint)
    if encoder.fingerprint != fingerprint:
        message = f"{checkpoint} was replaced while it was embedding"
        raise CheckpointError(message, hint="run the same command again, with a checkpoint that stays as it is")
    return _ready(encoder, compute, batch_size, images)


def _ready(encoder: Encoder, compute: ComputeConfig, batch_size: int, images: int) -> tuple[Embedder, str]:
    """Return the model ready to embed, compiled where that is wanted or worth its while, or why it could not be.

    Raises:
        UsageError: it is to be compiled, and cannot be here.
    """
    embedder, wanted = Embedder(encoder, compute), compute.compile
    if wanted == "on" or (wanted == "auto" and images >= MANY):
        try:
            embedder.compile(batch_size)
        except UsageError as error:
            if wanted == "on":
                raise
            return embedder, f"{error.message}; embedding goes on without, and takes longer"
    return embedder, ""


def _embed_part(job: Job, embedder: Embedder, number: int, report: Report) -> None:
    samples, regions = job.source.open(number), job.plan.regions
    batches: list[Embedded] = []
    skipped: dict[str, tuple[int, str]] = {}
    for batch in embedder.embed_samples(samples, batch_size=job.embedding.batch_size, regions=regions):
        batches.append(batch)
        for one in batch.unusable:
            count, example = skipped.get(one.reason, (0, one.example))
            skipped[one.reason] = count + 1, example
        report(Advanced(TASK, len(batch.records) + len(batch.unusable)))
    records = [record for batch in batches for record in batch.records]
    dim, out = embedder.encoder.dim, job.plan.out
    vectors = np.concatenate([np.zeros((0, dim), np.float32), *(batch.vectors for batch in batches)])
    out.remove(regions_name(number))  # of an earlier part
    if regions:
        found = [batch.regions for batch in batches if batch.regions is not None]
        fused = [batch.fused for batch in batches if batch.fused is not None]
        empty = np.zeros((0, embedder.reranker.regions, dim), np.float32)
        write_regions(out, number, np.concatenate([empty, *found]), np.concatenate([empty[:, 0], *fused]))
    field, mark = job.source.field(number), job.plan.marks[number]
    write_part(out, number, records, vectors, field=field, mark=mark, skipped=skipped)
