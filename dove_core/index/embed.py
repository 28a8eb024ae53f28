"""From images to an index: embedding parts are made first, then the index from all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dove_core.addresses import Address, path_of, place_of
from dove_core.config import ComputeConfig, EmbedConfig, ExecutorConfig
from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.encoding.compute import settings_for_tasks
from dove_core.encoding.load import load_encoder
from dove_core.errors import DataError, UsageError
from dove_core.events import Noted, Report, Saved, Skipped, Started, silent
from dove_core.executors import LOCAL, Executor, executing
from dove_core.index.build import build_index
from dove_core.index.disk import MADE, SearchIndex
from dove_core.index.export import export_clip_retrieval
from dove_core.index.nearest import FEW
from dove_core.index.part_plan import PartPlan, skipped_in
from dove_core.index.parts import PartFacts, PartMark
from dove_core.index.tasks import TASK, Job, embed_parts
from dove_core.places import Place
from dove_core.processes import EVERYTHING, Share
from dove_core.sources.open import open_source
from dove_core.sources.source import Input


def embed(
    checkpoint: Address,
    source: Address | Sequence[Address],
    out: Address,
    embedding: EmbedConfig = EmbedConfig(),
    compute: ComputeConfig = ComputeConfig(),
    *,
    share: Share = EVERYTHING,
    overwrite: bool = False,
    execution: ExecutorConfig = LOCAL,
    report: Report = silent,
) -> SearchIndex | None:
    """Embed all images and make the index; parts finished by an earlier, interrupted call are kept.

    Args:
        checkpoint: folder of the model.
        source: shards (a split, or a release with all its splits), tar files, Parquet files with images inside, a
            folder of images, or GeoTIFF scenes. Shards may be in a bucket.
        out: folder of the index; it may be in a bucket.
        embedding: tile and batch size, number of processes, and the like.
        compute: device and precision.
        share: the parts that this call makes, if several machines share the work.
        overwrite: replace parts of another model.
        execution: local processes, or Ray.
        report: receives progress.

    Returns:
        The index; None if parts of other shares are missing.

    Raises:
        UsageError: a setting is invalid for this source, or there are too few GPUs.
        CheckpointError: the checkpoint is missing or damaged.
        DataError: images are missing, shards are damaged, no image is usable, or parts are missing with `share.none`.
        SearchIndexError: `out` has an index of another model.
        SpaceError: the disk is full; finished parts are kept.

    >>> index = dove.embed("runs/shapes/best", "shards/shapes/test", "index/test")
    >>> dove.open_index("index/test")
    <index index/test: 12 images>
    """
    target = place_of(out)
    if embedding.layout == "clip-retrieval":
        path_of(target, needed_by="--layout clip-retrieval: --out")
    sources = [source] if isinstance(source, str | os.PathLike | Place) else source
    places = [place_of(one) for one in sources]
    with executing(execution) as executor:
        compute = settings_for_tasks(executor, compute, embedding.gpus)
        return _embed(place_of(checkpoint), places, target, embedding, compute, share, overwrite, executor, report)


def _embed(
    checkpoint: Place,
    places: Sequence[Place],
    out: Place,
    embedding: EmbedConfig,
    compute: ComputeConfig,
    share: Share,
    overwrite: bool,
    executor: Executor,
    report: Report,
) -> SearchIndex | None:
    encoder = load_encoder(checkpoint)
    if embedding.regions and encoder.reranker is None:
        message = f"--regions: a model of the family {encoder.family!r} has no regions to store"
        raise UsageError(message, hint="remove --regions")
    opened = open_source(places, embedding, encoder.caption_field, report)
    inputs = opened.inputs()
    plan = PartPlan(out, [PartMark(encoder.fingerprint, one.name, one.digest) for one in inputs], embedding.regions)
    own = share.of(len(inputs))
    out.make()
    out.sweep()
    kept = plan.keep(own, overwrite=overwrite)
    if not share.none:
        for stale in MADE:
            out.remove(stale)
        report(_started([inputs[number] for number in own], [kept[number] for number in own if number in kept]))
        to_do = [number for number in own if number not in kept]
        images = sum(one.count or 0 for one in inputs)
        embed_parts(Job(checkpoint, opened, plan, embedding, compute, images), encoder, to_do, executor, report)
        out.sweep()  # of workers that were killed
    facts = plan.all()
    _report_skipped(facts, own, report)
    try:
        rows = [one.rows for one in plan.whole(facts)]
    except DataError as error:
        if share.none or share.count == 1:
            raise
        report(Noted(f"{error.message}; the last task, or `dove embed --finish`, makes the index"))
        return None
    if not sum(rows):
        raise _nothing_usable(places, facts)
    without = sum(one.without_caption for one in facts if one)
    if without and (opened.has_captions or without < sum(rows)):
        report(Noted(f"{without} of {sum(rows)} images have no caption"))
    report(Noted(_space_needed(sum(rows), encoder.dim)))
    build_index(out, encoder, rows, checkpoint=checkpoint, shards=opened.root)
    if embedding.layout == "clip-retrieval":
        export_clip_retrieval(path_of(out, needed_by="--layout clip-retrieval: --out"), len(rows))
    report(Saved(str(out)))
    return SearchIndex(out)


def _space_needed(rows: int, dim: int) -> str:
    """Return a message with the disk space and memory needed to make an index."""
    disk, memory = rows * (2 * dim + dim // 8 + 8 + 200), rows * (dim // 8 + 8) * (rows > FEW) + 400 * dim * 1000
    return f"making an index of {rows} rows needs about {disk / 1e9:.2f} GB of disk, {memory / 1e9:.2f} GB of memory"


def _started(inputs: Sequence[Input], kept: Sequence[PartFacts]) -> Started:
    counts = [one.count for one in inputs]
    done = sum(one.images for one in kept)
    return Started(TASK, None if None in counts else sum(count or 0 for count in counts), "images", done=done)


def _report_skipped(facts: Sequence[PartFacts | None], own: Sequence[int], report: Report) -> None:
    """Report the skipped images of all parts if all are finished, else those of this share."""
    chosen = facts if all(facts) else [facts[number] for number in own]
    for reason, (count, example) in skipped_in(one for one in chosen if one).items():
        report(Skipped(TASK, reason, count, example))


def _nothing_usable(places: Sequence[Place], facts: Sequence[PartFacts | None]) -> DataError:
    reasons = skipped_in(one for one in facts if one).items()
    why = "; ".join(f"{reason} ({count}), such as {name}" for reason, (count, name) in reasons)
    message = f"{places[0]} has no usable images" + (f": {why}" if why else "")
    return DataError(
        message, hint=f"expected images whose names end in {' '.join(IMAGE_ENDINGS)}, or GeoTIFFs with --tile 256"
    )
