"""The rows of a retrieval table: one encoded split, ranked in three ways.

`global` ranks by the global vectors alone; `reranked` lets ROAM rank the best K of each query again; `pairwise` ranks
by ROAM's scores of all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dove_core.config import EvalConfig, RankConfig
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.encoder import Features
from dove_core.errors import CheckpointError
from dove_core.evaluation.retrieval import RECALL_AT, Belonging, Protocol, Ranks, RetrievalScores, rank, score
from dove_core.events import Advanced, Report, Started, silent

_BLOCK = 1 << 23
"""Scores of a block of rows: 32 MiB, a third of what ranking a block takes."""

TIE = 1e-6
"""Cosines this close are equal: ten times what a batch's other images change in the last bits of float32."""


@dataclass(frozen=True)
class EncodedSplit:
    """Features of a split: of every image, and of every distinct caption once.

    Caption j is the distinct caption `distinct[j]`, in words `words[distinct[j]]`, and belongs to image `owners[j]`.
    """

    images: Features
    captions: Features
    distinct: np.ndarray
    owners: np.ndarray
    words: Sequence[str]

    def protocol(self, wanted: str) -> Protocol:
        """Return the protocol that is wanted; `auto` is `captions-5` where images have several captions."""
        if wanted == "auto":
            return "captions-5" if len(self.owners) >= 2 * len(np.unique(self.owners)) else "unique-text"
        return "captions-5" if wanted == "captions-5" else "unique-text"

    def texts(self, protocol: Protocol) -> tuple[np.ndarray, Belonging]:
        """Return the distinct caption that each text is, and which texts are whose."""
        if protocol == "captions-5":
            return self.distinct, Belonging.of(self.owners, np.arange(len(self.owners)))
        return np.arange(len(self.captions.embedding)), Belonging.of(self.owners, self.distinct)


@dataclass(frozen=True)
class RankedRow:
    """How one row ranks: everybody's rank, and who comes first.

    `first_caption (N,)` is the distinct caption that an image finds first, `first_image (U,)` the image that a
    distinct caption finds first.
    """

    ranks: Ranks
    first_caption: np.ndarray
    first_image: np.ndarray


def score_rows(
    embedder: Embedder, split: EncodedSplit, evaluation: EvalConfig, ranking: RankConfig, *, report: Report = silent
) -> dict[str, RetrievalScores]:
    """Return the scores of what `rank_rows` returns.

    Raises:
        CheckpointError: the model gives vectors that are not finite.
    """
    return scores_of(rank_rows(embedder, split, evaluation, ranking, report=report), split, evaluation)


def scores_of(rows: Mapping[str, RankedRow], split: EncodedSplit, evaluation: EvalConfig) -> dict[str, RetrievalScores]:
    """Return recall and the rest of each row."""
    protocol = split.protocol(evaluation.protocol)
    _, belonging = split.texts(protocol)
    at, samples = RECALL_AT[protocol], evaluation.bootstrap
    return {name: score(row.ranks, row.ranks, belonging, at, samples=samples) for name, row in rows.items()}


def rank_rows(
    embedder: Embedder,
    split: EncodedSplit,
    evaluation: EvalConfig,
    ranking: RankConfig,
    *,
    exact: np.ndarray | None = None,
    report: Report = silent,
) -> dict[str, RankedRow]:
    """Return the rows `global` and, if the model has exact scores and unless switched off, `reranked`, `pairwise`.

    `exact` is ROAM's scores of all pairs `(N, U)` where they are known already; it may be changed.

    Raises:
        CheckpointError: the model gives vectors that are not finite.
    """
    columns, belonging = split.texts(split.protocol(evaluation.protocol))
    shape = (len(split.images.embedding), len(columns))
    whole = rank(lambda: _expanded(_global_blocks(split), columns), shape, belonging, tie=TIE)
    best = _best(split, max(1, evaluation.rerank))
    found = {"global": RankedRow(whole, best[0][:, 0], best[1][:, 0])}
    if embedder.encoder.reranker is None:
        return found
    if evaluation.pairwise:
        exact = _ranking_pairs(embedder, split, ranking, exact, report)
    if evaluation.rerank:
        scores = _scores_of_best(embedder, split, *best, ranking, exact)
        first = [
            np.take_along_axis(b, s.argmax(axis=1)[:, None], axis=1)[:, 0] for b, s in zip(best, scores, strict=True)
        ]
        found["reranked"] = RankedRow(_reranked(whole, belonging, columns, best, scores), *first)
    if exact is not None:
        matrix = exact
        pairs = rank(lambda: _expanded([(0, matrix)], columns), shape, belonging, tie=TIE)
        found["pairwise"] = RankedRow(pairs, matrix.argmax(axis=1), matrix.argmax(axis=0))
    return found


def score_global_row(split: EncodedSplit) -> RetrievalScores:
    """Return the row `global` alone, which validation selects by.

    Raises:
        CheckpointError: the model gives vectors that are not finite.
    """
    protocol = split.protocol("auto")
    columns, belonging = split.texts(protocol)
    shape = (len(split.images.embedding), len(columns))
    ranks = rank(lambda: _expanded(_global_blocks(split), columns), shape, belonging, tie=TIE)
    return score(ranks, ranks, belonging, RECALL_AT[protocol])


def _global_blocks(split: EncodedSplit) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the cosines of a block of images and all distinct captions, float32."""
    step = max(1, _BLOCK // max(1, len(split.captions.embedding)))
    for start in range(0, len(split.images.embedding), step):
        part = split.images.rows(slice(start, start + step))
        scores = (part.embedding @ split.captions.embedding.T).float().cpu()
        if not torch.stack(torch.aminmax(scores)).isfinite().all():  # NaN propagates to both
            hint = "its training diverged; train again"
            raise CheckpointError("the model gives vectors that are not finite", hint=hint)
        yield start, scores.numpy()


def _expanded(
    blocks: Iterator[tuple[int, np.ndarray]] | list[tuple[int, np.ndarray]], columns: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Give every text its column."""
    if np.array_equal(columns, np.arange(columns.max() + 1)):
        yield from blocks
        return
    for start, scores in blocks:
        step = max(1, _BLOCK // len(columns))
        for row in range(0, len(scores), step):
            yield start + row, scores[row : row + step][:, columns]


def _ranking_pairs(
    embedder: Embedder, split: EncodedSplit, ranking: RankConfig, exact: np.ndarray | None, report: Report
) -> np.ndarray:
    """Return what ranks each pair of an image and a distinct caption, float32."""
    if exact is None:
        report(Started("scoring pairs", len(split.images.embedding) * len(split.captions.embedding), "pairs"))
        scored = embedder.score_pairs(split.images, split.captions, lambda n: report(Advanced("scoring pairs", n)))
        exact = scored.numpy()
    pairs = exact
    if ranking.rank_by == "sum":
        for start, whole in _global_blocks(split):
            pairs[start : start + len(whole)] += whole
    return pairs


def _best(split: EncodedSplit, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the globally best distinct captions of each image `(N, K)`, and images of each caption `(U, K)`."""
    captions, scores, images = [], torch.zeros(0, len(split.captions.embedding)), torch.zeros(0, 0, dtype=torch.int64)
    for start, block in _global_blocks(split):
        whole = torch.from_numpy(block)
        captions.append(whole.topk(min(count, whole.shape[1]), dim=1).indices)
        numbers = torch.arange(start, start + len(whole))[:, None].expand_as(whole)
        candidates = torch.cat((images.view(-1, whole.shape[1]), numbers))
        scores = torch.cat((scores, whole))
        scores, kept = scores.topk(min(count, len(scores)), dim=0)
        images = candidates.gather(0, kept)
    return torch.cat(captions).numpy(), images.T.contiguous().numpy()


def _scores_of_best(
    embedder: Embedder,
    split: EncodedSplit,
    captions: np.ndarray,
    image_numbers: np.ndarray,
    ranking: RankConfig,
    exact: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what ranks the best of each query again, in the shapes of `captions (N, K)` and `image_numbers (U, K)`."""
    if exact is not None:
        return np.take_along_axis(exact, captions, axis=1), np.take_along_axis(exact.T, image_numbers, axis=1)

    def pairs(images: Features, texts: Features) -> Tensor:
        whole = (images.embedding @ texts.embedding.T).float().cpu() if ranking.rank_by == "sum" else 0
        return embedder.score_pairs(images, texts) + whole

    by_image = [
        pairs(split.images.rows(slice(i, i + 1)), split.captions.rows(torch.from_numpy(chosen)))[0]
        for i, chosen in enumerate(captions)
    ]
    by_caption = [
        pairs(split.images.rows(torch.from_numpy(chosen)), split.captions.rows(slice(j, j + 1)))[:, 0]
        for j, chosen in enumerate(image_numbers)
    ]
    return torch.stack(by_image).numpy(), torch.stack(by_caption).numpy()


def _reranked(
    whole: Ranks,
    belonging: Belonging,
    columns: np.ndarray,
    best: tuple[np.ndarray, np.ndarray],
    scores: tuple[np.ndarray, np.ndarray],
) -> Ranks:
    """Return ranks where the best of each query are in a new order, and the others follow in the old one."""
    texts = np.bincount(columns)  # of each distinct caption
    image_ranks, text_ranks = whole.image_ranks.copy(), whole.text_ranks.copy()
    starts = np.searchsorted(belonging.images, whole.images)
    stops = np.searchsorted(belonging.images, whole.images, side="right")
    for k, (i, start, stop) in enumerate(zip(whole.images, starts, stops, strict=True)):
        own = np.bincount(columns[belonging.texts[start:stop]], minlength=len(texts))[best[0][i]]
        if own.any():
            high = scores[0][i] >= scores[0][i][own > 0].max() - TIE
            image_ranks[k] = 1 + (texts[best[0][i]] - own)[high].sum()
    order = np.argsort(belonging.texts, kind="stable")
    owners, bounds = belonging.images[order], np.searchsorted(belonging.texts[order], [*whole.texts, len(columns)])
    for k, j in enumerate(whole.texts):
        candidates, found = best[1][columns[j]], scores[1][columns[j]]
        mine = np.isin(candidates, owners[bounds[k] : bounds[k + 1]])
        if mine.any():
            text_ranks[k] = 1 + ((found >= found[mine].max() - TIE) & ~mine).sum()
    return Ranks(whole.images, image_ranks, whole.texts, text_ranks)
