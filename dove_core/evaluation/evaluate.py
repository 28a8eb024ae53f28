"""Retrieval scores of a checkpoint on a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dove_core.addresses import Address, place_of
from dove_core.config import ComputeConfig, EvalConfig, ExecutorConfig, RankConfig
from dove_core.data.reader import Shards
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.evaluation.encode import encode_in_tasks, encode_split
from dove_core.evaluation.provenance import provenance_of
from dove_core.evaluation.retrieval import RetrievalScores
from dove_core.evaluation.rows import EncodedSplit, RankedRow, rank_rows, scores_of
from dove_core.events import Report, silent
from dove_core.executors import LOCAL, executing
from dove_core.places import Place


@dataclass(frozen=True)
class Evaluation:
    """Retrieval scores of a checkpoint on a split, with settings, provenance, ranks and features.

    >>> result = dove.evaluate("runs/shapes/best", "shards/shapes/test")
    >>> result.images, result.captions
    (12, 24)
    >>> list(result.rows)
    ['global', 'reranked', 'pairwise']
    """

    dataset: str
    split: str
    model: str
    protocol: str
    prefix: str
    images: int
    captions: int
    texts: int
    rerank: int
    rank_by: str
    provenance: Mapping[str, Any]
    rows: Mapping[str, RetrievalScores]
    ranked: Mapping[str, RankedRow]
    encoded: EncodedSplit

    def to_json(self) -> dict[str, Any]:
        """Return JSON with the names of CLIP_benchmark; its `metrics` are flat, ours have a block for each row."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "model": self.model,
            "task": "retrieval",
            "protocol": self.protocol,
            "ties": "pessimistic",
            "caption_prefix": self.prefix,
            "pictures": self.images,
            "captions": self.captions,
            "texts": self.texts,
            "rerank": self.rerank,
            "rank_by": self.rank_by,
            **self.provenance,
            "metrics": {name: scores.to_json() for name, scores in self.rows.items()},
        }


def evaluate(
    checkpoint: Address,
    shards: Address,
    evaluation: EvalConfig = EvalConfig(),
    ranking: RankConfig = RankConfig(),
    compute: ComputeConfig = ComputeConfig(),
    *,
    execution: ExecutorConfig = LOCAL,
    command: str = "",
    report: Report = silent,
) -> Evaluation:
    """Measure the retrieval scores of a checkpoint on a split.

    Args:
        checkpoint: folder of the checkpoint, local or in a bucket.
        shards: folder of the split's shards.
        evaluation: what to measure.
        ranking: how to rank by pair scores.
        compute: device and precision.
        execution: where the images are encoded.
        command: the user's command, for the record.
        report: receives progress events.

    Raises:
        UsageError: a setting does not fit the machine.
        CheckpointError: the checkpoint is missing or damaged, or returns vectors that are not finite.
        DataError: the shards are missing or damaged, or have no captions in the model's field.

    >>> result = dove.evaluate("runs/shapes/best", "shards/shapes/test", dove.EvalConfig(rerank=5))
    >>> 0 < result.rows["pairwise"].mean_recall <= 100
    True
    """
    here = compute if execution.executor == "local" or compute.device == "cpu" else replace(compute, device="auto")
    model, split = place_of(checkpoint), Shards(shards)
    embedder = Embedder(load_encoder(model), here)
    encoded, exact = _encode(model, embedder, split, evaluation, compute, execution, report)
    ranked = rank_rows(embedder, encoded, evaluation, ranking, exact=exact, report=report)
    protocol = encoded.protocol(evaluation.protocol)
    return Evaluation(
        dataset=split.manifest.release,
        split=split.manifest.split,
        model=embedder.encoder.fingerprint,
        protocol=protocol,
        prefix=evaluation.prefix,
        images=len(encoded.images.embedding),
        captions=len(encoded.owners),
        texts=len(encoded.texts(protocol)[0]),
        rerank=evaluation.rerank,
        rank_by=ranking.rank_by,
        provenance=provenance_of(model, split, command),
        rows=scores_of(ranked, encoded, evaluation),
        ranked=ranked,
        encoded=encoded,
    )


def _encode(
    checkpoint: Place,
    embedder: Embedder,
    split: Shards,
    evaluation: EvalConfig,
    compute: ComputeConfig,
    execution: ExecutorConfig,
    report: Report,
) -> tuple[EncodedSplit, np.ndarray | None]:
    exact = embedder.encoder.reranker is not None and (evaluation.pairwise or evaluation.rerank > 0)
    with executing(execution) as executor:
        if evaluation.gpus > 1 or executor.is_remote:
            return encode_in_tasks(
                checkpoint, embedder, split, evaluation, compute, executor, exact=exact, report=report
            )
    size, prefix, field = evaluation.batch_size, evaluation.prefix, evaluation.caption_field
    return encode_split(embedder, split, batch_size=size, prefix=prefix, field=field, exact=exact, report=report), None
