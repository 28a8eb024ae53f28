"""A checkpoint and a split to retrieval scores, through the one embedding path.

Three rows: `global` ranks by the global vectors alone; `reranked` lets ROAM re-rank the best K of each query;
`pairwise` ranks by ROAM's scores of all pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dove_core.config import ComputeConfig, EvalConfig, RankConfig, check
from dove_core.data.reader import Shards
from dove_core.errors import CheckpointError, DataError
from dove_core.evaluation.retrieval import RetrievalScores, recall
from dove_core.events import Advanced, Report, Started, silent
from dove_core.model.checkpoint import load_checkpoint
from dove_core.model.dove import CaptionFeatures, ImageFeatures
from dove_core.search.embedder import Embedder, concatenated

_BELOW = 10.0
"""What moves a cosine under any re-ranked score: those lie in -2 to 2."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one checkpoint on one split, with what is needed to understand them."""

    dataset: str
    split: str
    model: str
    pictures: int
    captions: int
    rerank: int
    rank_by: str
    rows: Mapping[str, RetrievalScores]

    def to_json(self) -> dict[str, Any]:
        """Return the shape that CLIP_benchmark uses, with a block of metrics for each row."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "model": self.model,
            "task": "retrieval",
            "protocol": "captions-5, pessimistic ties",
            "pictures": self.pictures,
            "captions": self.captions,
            "rerank": self.rerank,
            "rank_by": self.rank_by,
            "metrics": {name: scores.to_json() for name, scores in self.rows.items()},
        }


def evaluate(
    checkpoint: Path,
    shards: Path,
    evaluation: EvalConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    *,
    report: Report = silent,
) -> Evaluation:
    """Score a checkpoint on a split.

    Raises:
        UsageError: a setting is out of bounds.
        CheckpointError: the checkpoint is missing or damaged, or gives vectors that are not finite.
        DataError: the shards are missing or damaged, or hold no captions of the model's field.
    """
    for config in (evaluation, rank, compute):
        check(config)
    embedder = Embedder(load_checkpoint(checkpoint), compute)
    split = Shards(shards)
    encoded = encode_split(embedder, split, batch_size=evaluation.batch_size, report=report)
    rows = score_rows(embedder, encoded, evaluation, rank, report=report)
    return Evaluation(
        dataset=split.manifest.release,
        split=split.manifest.split,
        model=embedder.checkpoint.fingerprint,
        pictures=len(encoded.images.embedding),
        captions=len(encoded.owners),
        rerank=evaluation.rerank,
        rank_by=rank.rank_by,
        rows=rows,
    )


@dataclass(frozen=True)
class EncodedSplit:
    """Features of a split: of every picture, and of every distinct caption once.

    Caption j is the distinct caption `distinct[j]` and belongs to picture `owners[j]`.
    """

    images: ImageFeatures
    captions: CaptionFeatures
    distinct: np.ndarray
    owners: np.ndarray


def encode_split(embedder: Embedder, shards: Shards, *, batch_size: int, report: Report = silent) -> EncodedSplit:
    """Encode a split's pictures and distinct captions once each.

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
    return EncodedSplit(concatenated(images), embedder.embed_captions(list(numbers)), distinct, np.array(owners))


def score_rows(
    embedder: Embedder, split: EncodedSplit, evaluation: EvalConfig, rank: RankConfig, *, report: Report = silent
) -> dict[str, RetrievalScores]:
    """Return the rows `global`, `reranked` and, unless switched off, `pairwise`.

    Raises:
        CheckpointError: the model gives vectors that are not finite.
    """
    whole = global_scores(embedder, split)
    exact = None
    if evaluation.pairwise:
        report(Started("scoring pairs", len(split.images.fused) * len(split.captions.pooled), "pairs"))
        pairs = embedder.score_pairs(split.images, split.captions, lambda n: report(Advanced("scoring pairs", n)))
        exact = _ranking(pairs, whole, rank)
    by_row, by_column = _reranked(embedder, split, whole, exact, evaluation.rerank, rank)
    rows = {
        "global": recall(_each(whole, split), split.owners),
        "reranked": recall(_each(by_row, split), split.owners, by_column=_each(by_column, split)),
    }
    if exact is not None:
        rows["pairwise"] = recall(_each(exact, split), split.owners)
    return rows


def global_scores(embedder: Embedder, split: EncodedSplit) -> Tensor:
    """Return the cosines of all pictures and distinct captions, float32 on the CPU.

    Raises:
        CheckpointError: the model gives vectors that are not finite.
    """
    scores = embedder.model.score_global(split.images, split.captions).float().cpu()
    if not torch.isfinite(scores).all():
        raise CheckpointError("the model gives vectors that are not finite", hint="its training diverged; train again")
    return scores


def score_global_row(embedder: Embedder, split: EncodedSplit) -> RetrievalScores:
    """Return the row `global` alone, which validation selects by."""
    return recall(_each(global_scores(embedder, split), split), split.owners)


def _ranking(pairs: Tensor, whole: Tensor, rank: RankConfig) -> Tensor:
    return pairs + whole if rank.rank_by == "sum" else pairs


def _each(scores: Tensor, split: EncodedSplit) -> np.ndarray:
    expanded: np.ndarray = scores.numpy()[:, split.distinct]
    return expanded


def _reranked(
    embedder: Embedder, split: EncodedSplit, whole: Tensor, exact: Tensor | None, best: int, rank: RankConfig
) -> tuple[Tensor, Tensor]:
    """Return scores in which each row's, and in the second each column's, best candidates are ranked by ROAM."""
    captions = whole.topk(min(best, whole.shape[1]), dim=1).indices
    pictures = whole.topk(min(best, whole.shape[0]), dim=0).indices
    by_row, by_column = whole - _BELOW, whole - _BELOW
    if exact is not None:
        return by_row.scatter(1, captions, exact.gather(1, captions)), by_column.scatter(
            0, pictures, exact.gather(0, pictures)
        )
    for i, chosen in enumerate(captions):
        pairs = embedder.score_pairs(split.images.rows(slice(i, i + 1)), split.captions.rows(chosen))
        by_row[i, chosen] = _ranking(pairs, whole[i : i + 1, chosen], rank)[0]
    for j, chosen in enumerate(pictures.T):
        pairs = embedder.score_pairs(split.images.rows(chosen), split.captions.rows(slice(j, j + 1)))
        by_column[chosen, j] = _ranking(pairs, whole[chosen, j : j + 1], rank)[:, 0]
    return by_row, by_column
