"""A checkpoint and a split to retrieval scores, through the one embedding path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.config import ComputeConfig, EvalConfig, RankConfig, check
from dove_core.data.reader import Shards
from dove_core.errors import DataError
from dove_core.evaluation.provenance import provenance_of
from dove_core.evaluation.retrieval import RetrievalScores
from dove_core.evaluation.rows import EncodedSplit, score_rows
from dove_core.events import Advanced, Report, Started, silent
from dove_core.model.checkpoint import load_checkpoint
from dove_core.model.dove import ImageFeatures
from dove_core.search.embedder import Embedder, concatenated


@dataclass(frozen=True)
class Evaluation:
    """Scores of one checkpoint on one split, with what is needed to understand them."""

    dataset: str
    split: str
    model: str
    protocol: str
    prefix: str
    pictures: int
    captions: int
    texts: int
    rerank: int
    rank_by: str
    provenance: Mapping[str, Any]
    rows: Mapping[str, RetrievalScores]

    def to_json(self) -> dict[str, Any]:
        """Return the shape that CLIP_benchmark uses, with a block of metrics for each row."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "model": self.model,
            "task": "retrieval",
            "protocol": self.protocol,
            "ties": "pessimistic",
            "caption_prefix": self.prefix,
            "pictures": self.pictures,
            "captions": self.captions,
            "texts": self.texts,
            "rerank": self.rerank,
            "rank_by": self.rank_by,
            **self.provenance,
            "metrics": {name: scores.to_json() for name, scores in self.rows.items()},
        }


def evaluate(
    checkpoint: Path,
    shards: Path,
    evaluation: EvalConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    *,
    command: str = "",
    report: Report = silent,
) -> Evaluation:
    """Score a checkpoint on a split; `command` says what asked for it, for the record.

    Raises:
        UsageError: a setting is out of bounds.
        CheckpointError: the checkpoint is missing or damaged, or gives vectors that are not finite.
        DataError: the shards are missing or damaged, or hold no captions of the model's field.
    """
    for config in (evaluation, rank, compute):
        check(config)
    embedder = Embedder(load_checkpoint(checkpoint), compute)
    split = Shards(shards)
    encoded = encode_split(embedder, split, batch_size=evaluation.batch_size, prefix=evaluation.prefix, report=report)
    rows = score_rows(embedder, encoded, evaluation, rank, report=report)
    protocol = encoded.protocol(evaluation.protocol)
    return Evaluation(
        dataset=split.manifest.release,
        split=split.manifest.split,
        model=embedder.checkpoint.fingerprint,
        protocol=protocol,
        prefix=evaluation.prefix,
        pictures=len(encoded.images.embedding),
        captions=len(encoded.owners),
        texts=len(encoded.texts(protocol)[0]),
        rerank=evaluation.rerank,
        rank_by=rank.rank_by,
        provenance=provenance_of(checkpoint, split, command),
        rows=rows,
    )


def encode_split(
    embedder: Embedder, shards: Shards, *, batch_size: int, prefix: str = "", report: Report = silent
) -> EncodedSplit:
    """Encode a split's pictures and distinct captions, each with `prefix` before it, once each.

    Raises:
        DataError: no sample has a caption in the model's field.
    """
    field = shards.choose_field(embedder.checkpoint.config.caption_field)
    report(Started("encoding", len(shards), "pictures"))
    images: list[ImageFeatures] = []
    texts: list[str] = []
    owners: list[int] = []
    for records, features in embedder.embed_shards(shards, batch_size=batch_size):
        images.append(features)
        for record in records:
            own = record.sample.captions.get(field, ())
            texts.extend(own)
            owners.extend([record.number] * len(own))
        report(Advanced("encoding", len(records)))
    if not texts:
        raise DataError(
            f"{shards.folder} has no captions to evaluate with", hint=f"the model reads the field {field!r}"
        )
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    distinct = np.array([numbers[text] for text in texts])
    captions = embedder.embed_captions([prefix + text for text in numbers])
    return EncodedSplit(concatenated(images), captions, distinct, np.array(owners))
