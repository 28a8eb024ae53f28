"""Images and captions of a split to features and pair scores, in one process or in several that share the images.

Shares begin and end between batches, so batches and results do not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from dove_core.config import ComputeConfig, EvalConfig
from dove_core.data.reader import Shards
from dove_core.encoding.compute import check_gpu_count, settings_for_tasks, settings_in_task
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.encoder import Embeddings, Features, join, on_device
from dove_core.encoding.load import load_encoder
from dove_core.errors import DataError
from dove_core.evaluation.rows import EncodedSplit
from dove_core.events import Advanced, Report, Started, silent
from dove_core.executors import Executor
from dove_core.places import Place
from dove_core.processes import Resources

_ROWS = 64
"""Pairs are scored in blocks of this many rows; shares begin at multiples of it too."""


def encode_split(
    embedder: Embedder,
    shards: Shards,
    *,
    batch_size: int,
    prefix: str = "",
    field: str = "",
    exact: bool = False,
    report: Report = silent,
) -> EncodedSplit:
    """Encode the images and distinct captions of a split.

    Args:
        embedder: the model.
        shards: the split.
        batch_size: images per batch.
        prefix: text to put before each caption.
        field: caption field; empty: the field that the model was trained on.
        exact: return all features that exact scores of pairs need, not only embeddings.
        report: receives progress events.

    Raises:
        DataError: there is no such field, or no sample has a caption in it.
    """
    texts, distinct, owners = _texts(embedder, shards, field)
    report(Started("encoding", len(shards), "images"))
    images = _encode_images(embedder, shards, batch_size, 0, len(shards), exact, report)
    captions = embedder.describe_texts([prefix + text for text in texts], exact=exact)
    return EncodedSplit(images, captions, distinct, owners, texts)


@dataclass(frozen=True)
class _EncodingJob:
    """What all shares have in common."""

    checkpoint: Place
    shards: Place
    evaluation: EvalConfig
    compute: ComputeConfig
    resources: Resources
    exact: bool


def encode_in_tasks(
    checkpoint: Place,
    embedder: Embedder,
    shards: Shards,
    evaluation: EvalConfig,
    compute: ComputeConfig,
    executor: Executor,
    *,
    exact: bool,
    report: Report = silent,
) -> tuple[EncodedSplit, np.ndarray | None]:
    """Encode a split in `evaluation.gpus` tasks, each on its own GPU.

    Returns:
        The features, and the exact scores of all pairs or None if `evaluation` does not ask for them.

    Raises:
        DataError: there is no such field, no sample has a caption in it, or a process died.
        UsageError: there are fewer GPUs than tasks.
    """
    count = evaluation.gpus
    if executor.is_remote:
        compute = settings_for_tasks(executor, compute, count)
    else:
        check_gpu_count(embedder.device, count)
    shares = shares_of(len(shards), evaluation.batch_size, count)
    resources = executor.resources(compute.device, len(shares))
    texts, distinct, owners = _texts(embedder, shards, evaluation.caption_field)
    stage = "encoding and scoring" if evaluation.pairwise else "encoding"
    report(Started(stage, len(shards), "images"))
    job = _EncodingJob(checkpoint, shards.folder, evaluation, compute, resources, exact)
    done: dict[int, tuple[Features, np.ndarray | None]] = {}
    lost = "if memory is short, lower --gpus or --batch-size"
    for (number, start, stop), result in executor.each(
        partial(_do_share, job),
        shares,
        len(shares),
        lost=lost,
        resources=resources,
    ):
        done[number] = result
        report(Advanced(stage, stop - start))
    ordered = [done[number] for number in sorted(done)]
    images = on_device(join([features for features, _ in ordered]), embedder.device)
    pairs = [scores for _, scores in ordered if scores is not None]
    captions = embedder.describe_texts([evaluation.prefix + text for text in texts], exact=exact)
    return EncodedSplit(images, captions, distinct, owners, texts), np.concatenate(pairs) if pairs else None


def shares_of(images: int, batch_size: int, count: int) -> list[tuple[int, int, int]]:
    """Return at most `count` shares as (number, first image, end), with ends where batches and blocks of pairs end."""
    unit = int(np.lcm(batch_size, _ROWS))
    units = -(-images // unit)
    cuts = [min(images, unit * (units * k // count)) for k in range(count + 1)]
    return [(k, a, b) for k, (a, b) in enumerate(pairwise(cuts)) if b > a]


def _do_share(job: _EncodingJob, share: tuple[int, int, int]) -> tuple[Features, np.ndarray | None]:
    """Encode the images of a share, and score them against all captions if `evaluation.pairwise`."""
    number, start, stop = share
    compute = settings_in_task(job.compute, job.resources, number)
    embedder, shards = Embedder(load_encoder(job.checkpoint), compute), Shards(job.shards)
    images = _encode_images(embedder, shards, job.evaluation.batch_size, start, stop, job.exact, silent)
    scores = None
    if job.exact and job.evaluation.pairwise:
        texts, _, _ = _texts(embedder, shards, job.evaluation.caption_field)
        captions = embedder.describe_texts([job.evaluation.prefix + text for text in texts], exact=True)
        scores = embedder.score_pairs(images, captions).numpy()
        images = Embeddings(images.embedding)  # other features are not needed after scoring
    return on_device(images, torch.device("cpu")), scores


def _encode_images(
    embedder: Embedder, shards: Shards, batch_size: int, start: int, stop: int, exact: bool, report: Report
) -> Features:
    batches = []
    for records, features in embedder.embed_shards(shards, batch_size=batch_size, exact=exact, start=start, stop=stop):
        batches.append(features)
        report(Advanced("encoding", len(records)))
    return join(batches)


def _texts(embedder: Embedder, shards: Shards, field: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the distinct captions; for each caption, its number among them and the number of its image."""
    known = shards.manifest.caption_fields
    if field and field not in known:
        message = f"--caption-field {field}: there is no such field"
        raise DataError(message, hint=f"the caption fields are {', '.join(known)}")
    field = field or shards.choose_field(embedder.encoder.caption_field)
    of_each: Sequence[list[str]] = list(shards.captions(field))
    texts = [text for own in of_each for text in own]
    if not texts:
        hint = "choose another field with --caption-field"
        raise DataError(f"{shards.folder} has no captions in the field {field!r}", hint=hint)
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    distinct = np.array([numbers[text] for text in texts])
    return list(numbers), distinct, np.repeat(np.arange(len(of_each)), [len(own) for own in of_each])
