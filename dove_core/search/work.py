"""Making embedding parts: in this process, or in several that share them, a GPU each.

A part's batches are cut where the part begins and ends, so its bytes are the same whoever makes it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Client
from pathlib import Path

import numpy as np

from dove_core.config import ComputeConfig, EmbedConfig
from dove_core.data.ahead import Ahead
from dove_core.errors import CheckpointError
from dove_core.events import Advanced, Event, Report
from dove_core.model.checkpoint import Checkpoint, load_checkpoint
from dove_core.model.compute import choose_device, take_share, worker_count
from dove_core.places import Location, place_of
from dove_core.processes import Ear, each
from dove_core.search.earlier import PartPlan
from dove_core.search.embedder import Embedded, Embedder
from dove_core.search.inputs import ReleaseShards
from dove_core.search.parts import part_name, write_part
from dove_core.search.regions import regions_name, write_regions
from dove_core.search.source import Source

TASK = "embedding"
_AHEAD = 2
"""Parts whose shards are brought from a bucket before they are read."""


@dataclass(frozen=True)
class Job:
    """What all parts have in common; `checkpoint` is the model's folder."""

    checkpoint: Location
    source: Source
    plan: PartPlan
    embedding: EmbedConfig
    compute: ComputeConfig


def embed_parts(job: Job, model: Checkpoint, parts: Sequence[int], report: Report) -> None:
    """Make some parts, in `job.embedding.gpus` processes.

    Raises:
        DataError: a shard is damaged, or a process died.
        CheckpointError: the checkpoint was replaced meanwhile.
        SpaceError: the disk is full.
    """
    count = min(job.embedding.gpus, len(parts))
    if count <= 1:
        _embed_all(job, Embedder(model, job.compute), parts, report)
        return
    readers = worker_count(job.compute.workers, choose_device(job.compute.device), count)
    job = replace(job, compute=replace(job.compute, workers=readers))
    shares = [(k, list(parts[k::count])) for k in range(count)]
    lost = "out of memory? Try fewer --gpus, or a smaller --batch-size: finished parts are kept"
    with tempfile.TemporaryDirectory(prefix="dove-") as folder:
        ear = Path(folder) / "events"
        with Ear(ear, report):
            for _ in each(partial(_embed_share, job, count, ear), shares, count, lost=lost):
                pass


def _embed_share(job: Job, processes: int, ear: Path, share: tuple[int, list[int]]) -> None:
    """Make the parts of one process, in it."""
    number, parts = share
    take_share(job.compute.device, number, processes)
    model = load_checkpoint(job.checkpoint)
    if model.fingerprint != job.plan.marks[0].fingerprint:
        message = f"{job.checkpoint} was replaced while it was embedding"
        raise CheckpointError(message, hint="run the same command again, with a checkpoint that stays as it is")
    _embed_all(job, Embedder(model, job.compute), parts, partial(_tell, str(ear)))


def _embed_all(job: Job, embedder: Embedder, parts: Sequence[int], report: Report) -> None:
    """Make some parts, one after another; what the next one reads is brought here meanwhile, if it is elsewhere."""
    shards = job.source if isinstance(job.source, ReleaseShards) and not isinstance(job.source.root, Path) else None
    ahead = Ahead([[part] for part in parts], shards.bring, count=_AHEAD) if shards else None
    try:
        for part in parts:
            _embed_part(job, embedder, part, report)
            if ahead:
                ahead.taken()
    finally:
        if ahead:
            ahead.close()


def _tell(ear: str, event: Event) -> None:
    with Client(ear) as end:  # a connection for each event: the ear hears one after another
        end.send(event)


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
    config = embedder.checkpoint.config
    vectors = np.concatenate([np.zeros((0, config.embed_dim), np.float32), *(batch.vectors for batch in batches)])
    out = job.plan.out
    place_of(out).remove(regions_name(number))  # of an earlier part
    if regions:
        found = [batch.regions for batch in batches if batch.regions is not None]
        fused = [batch.fused for batch in batches if batch.fused is not None]
        places = config.region_grid**2 + (config.center_box == "center")
        empty = np.zeros((0, places, config.embed_dim), np.float32)
        write_regions(
            out / regions_name(number), np.concatenate([empty, *found]), np.concatenate([empty[:, 0], *fused])
        )
    field, mark = job.source.field(number), job.plan.marks[number]
    write_part(out / part_name(number), records, vectors, field=field, mark=mark, skipped=skipped)
