"""A split's images and captions to features and pair scores: in this process, or in several that share the images.

Shares are cut between batches, so that every batch, and with it every number, is the same however many processes work.
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
from dove_core.encoding.compute import hold_tasks, hold_to_gpus, in_task
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
"""Shares begin at multiples of this many batches' images too: pairs are scored in blocks of so many rows."""


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
    """Encode a split's images and distinct captions, each with `prefix` before it, once each.

    Captions are of `field`, or of the one that the model reads. With `exact` features are what exact scores of pairs
    need, else embeddings alone.

    Raises:
        DataError: no sample has a caption in the model's field.
    """
    texts, distinct, owners = _texts(embedder, shards, field)
    report(Started("encoding", len(shards), "images"))
    images = _encode_images(embedder, shards, batch_size, 0, len(shards), exact, report)
    captions = embedder.describe_texts([prefix + text for text in texts], exact=exact)
    return EncodedSplit(images, captions, distinct, owners, texts)


@dataclass(frozen=True)
class _Job:
    """What every share has in common."""

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
    """Do the same in `evaluation.gpus` tasks, a GPU each; return the exact scores of all pairs too if they are wanted.

    Raises:
        DataError: no sample has a caption in the model's field, or a process died.
        UsageError: there are fewer GPUs than processes.
    """
    count = evaluation.gpus
    if executor.is_remote:
        compute = hold_tasks(executor, compute, count)
    else:
        hold_to_gpus(embedder.device, count)
    resources = executor.resources(compute.device, count)
    texts, distinct, owners = _texts(embedder, shards, evaluation.caption_field)
    report(Started("encoding and scoring" if evaluation.pairwise else "encoding", len(shards), "images"))
    job = _Job(checkpoint, shards.folder, evaluation, compute, resources, exact)
    parts: dict[int, tuple[Features, np.ndarray | None]] = {}
    lost = "out of memory? Try fewer --gpus, or a smaller --batch-size"
    for (number, start, stop), part in executor.each(
        partial(_do_share, job),
        shares_of(len(shards), evaluation.batch_size, count),
        count,
        lost=lost,
        resources=resources,
    ):
        parts[number] = part
        report(Advanced("encoding and scoring" if evaluation.pairwise else "encoding", stop - start))
    ordered = [parts[number] for number in sorted(parts)]
    images = on_device(join([features for features, _ in ordered]), embedder.device)
    pairs = [scores for _, scores in ordered if scores is not None]
    captions = embedder.describe_texts([evaluation.prefix + text for text in texts], exact=exact)
    return EncodedSplit(images, captions, distinct, owners, texts), np.concatenate(pairs) if pairs else None


def shares_of(images: int, batch_size: int, count: int) -> list[tuple[int, int, int]]:
    """Return number, first image and end of `count` shares or fewer, cut where batches and blocks of pairs end."""
    unit = int(np.lcm(batch_size, _ROWS))
    units = -(-images // unit)
    cuts = [min(images, unit * (units * k // count)) for k in range(count + 1)]
    return [(k, a, b) for k, (a, b) in enumerate(pairwise(cuts)) if b > a]


def _do_share(job: _Job, share: tuple[int, int, int]) -> tuple[Features, np.ndarray | None]:
    """Encode the images of one share, and score them with all captions if pairs are wanted."""
    number, start, stop = share
    compute = in_task(job.compute, job.resources, number)
    embedder, shards = Embedder(load_encoder(job.checkpoint), compute), Shards(job.shards)
    images = _encode_images(embedder, shards, job.evaluation.batch_size, start, stop, job.exact, silent)
    scores = None
    if job.exact and job.evaluation.pairwise:
        texts, _, _ = _texts(embedder, shards, job.evaluation.caption_field)
        captions = embedder.describe_texts([job.evaluation.prefix + text for text in texts], exact=True)
        scores = embedder.score_pairs(images, captions).numpy()
        images = Embeddings(images.embedding)  # what else there is has done its work
    return on_device(images, torch.device("cpu")), scores


def _encode_images(
    embedder: Embedder, shards: Shards, batch_size: int, start: int, stop: int, exact: bool, report: Report
) -> Features:
    parts = []
    for records, features in embedder.embed_shards(shards, batch_size=batch_size, exact=exact, start=start, stop=stop):
        parts.append(features)
        report(Advanced("encoding", len(records)))
    return join(parts)


def _texts(embedder: Embedder, shards: Shards, field: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the distinct captions, for each caption its number among them, and for each the number of its image."""
    field = shards.choose_field(field or embedder.encoder.caption_field)
    of_each: Sequence[list[str]] = list(shards.captions(field))
    texts = [text for own in of_each for text in own]
    if not texts:
        hint = f"the model reads the field {field!r}"
        raise DataError(f"{shards.folder} has no captions to evaluate with", hint=hint)
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    distinct = np.array([numbers[text] for text in texts])
    return list(numbers), distinct, np.repeat(np.arange(len(of_each)), [len(own) for own in of_each])
