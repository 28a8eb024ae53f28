"""The rows of a retrieval table: an encoded split, ranked in three ways.

`global` ranks by the cosine of embeddings. `reranked` re-ranks the best K of each query by pair scores. `pairwise`
ranks by the scores of all pairs. The last two need a model with a reranker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dove_core.config import EvalConfig, RankConfig
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.encoder import Features
from dove_core.errors import CheckpointError
from dove_core.evaluation.retrieval import RECALL_AT, Positives, Ranks, RetrievalProtocol, RetrievalScores, rank, score
from dove_core.events import Advanced, Report, Started, silent

_BLOCK = 1 << 23
"""Scores in a block of rows: 32 MiB, a third of the memory for ranking a block."""

TIE = 1e-6
"""Cosines with a smaller difference tie: ten times the float32 rounding that depends on the rest of the batch."""


@dataclass(frozen=True)
class EncodedSplit:
    """Features of the images and of the distinct captions of a split.

    Caption j is the distinct caption number `distinct[j]`, reads `caption_texts[distinct[j]]` and belongs to the image
    number `owners[j]`.
    """

    images: Features
    captions: Features
    distinct: np.ndarray
    owners: np.ndarray
    caption_texts: Sequence[str]

    def protocol(self, wanted: str) -> RetrievalProtocol:
        """Return the protocol to use; `auto` is `captions-5` if images have two captions or more on average."""
        if wanted == "auto":
            return "captions-5" if len(self.owners) >= 2 * len(np.unique(self.owners)) else "unique-text"
        return "captions-5" if wanted == "captions-5" else "unique-text"

    def texts(self, protocol: RetrievalProtocol) -> tuple[np.ndarray, Positives]:
        """Return the distinct caption number of each text, and the positive pairs."""
        if protocol == "captions-5":
            return self.distinct, Positives.of(self.owners, np.arange(len(self.owners)))
        return np.arange(len(self.captions.embedding)), Positives.of(self.owners, self.distinct)


@dataclass(frozen=True)
class RankedRow:
    """Ranks and best hits of one row.

    `first_caption (N,)` is the best distinct caption of each image, `first_image (U,)` the best image of each distinct
    caption.
    """

    ranks: Ranks
    first_caption: np.ndarray
    first_image: np.ndarray


def score_rows(
    embedder: Embedder, split: EncodedSplit, evaluation: EvalConfig, ranking: RankConfig, *, report: Report = silent
) -> dict[str, RetrievalScores]:
    """Rank and score all rows.

    Raises:
        CheckpointError: the model returns vectors that are not finite.
    """
    return scores_of(rank_rows(embedder, split, evaluation, ranking, report=report), split, evaluation)


def scores_of(rows: Mapping[str, RankedRow], split: EncodedSplit, evaluation: EvalConfig) -> dict[str, RetrievalScores]:
    """Return the retrieval scores of each row."""
    protocol = split.protocol(evaluation.protocol)
    _, positives = split.texts(protocol)
    at, samples = RECALL_AT[protocol], evaluation.bootstrap
    return {name: score(row.ranks, row.ranks, positives, at, samples=samples) for name, row in rows.items()}


def rank_rows(
    embedder: Embedder,
    split: EncodedSplit,
    evaluation: EvalConfig,
    ranking: RankConfig,
    *,
    exact: np.ndarray | None = None,
    report: Report = silent,
) -> dict[str, RankedRow]:
    """Return the row `global`, and the rows `reranked` and `pairwise` if the model and the settings have them.

    `exact` has the scores of all pairs `(N, U)`, if already computed; the array may be modified.

    Raises:
        CheckpointError: the model returns vectors that are not finite.
    """
    columns, positives = split.texts(split.protocol(evaluation.protocol))
    whole = _rank_globally(split, columns, positives)
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
        found["reranked"] = RankedRow(_reranked(whole, positives, columns, best, scores), *first)
    if exact is not None:
        matrix = exact
        shape = (len(matrix), len(columns))
        pairs = rank(lambda: _expanded([(0, matrix)], columns), shape, positives, tie=TIE)
        found["pairwise"] = RankedRow(pairs, matrix.argmax(axis=1), matrix.argmax(axis=0))
    return found


def score_global_row(split: EncodedSplit) -> RetrievalScores:
    """Return the scores of the row `global`, by which validation chooses the best epoch.

    Raises:
        CheckpointError: the model returns vectors that are not finite.
    """
    protocol = split.protocol("auto")
    columns, positives = split.texts(protocol)
    ranks = _rank_globally(split, columns, positives)
    return score(ranks, ranks, positives, RECALL_AT[protocol])


def _rank_globally(split: EncodedSplit, columns: np.ndarray, positives: Positives) -> Ranks:
    shape = (len(split.images.embedding), len(columns))
    return rank(lambda: _expanded(_global_blocks(split), columns), shape, positives, tie=TIE)


def _global_blocks(split: EncodedSplit) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the cosines of blocks of images with all distinct captions, float32."""
    step = max(1, _BLOCK // max(1, len(split.captions.embedding)))
    for start in range(0, len(split.images.embedding), step):
        images = split.images.rows(slice(start, start + step))
        scores = (images.embedding @ split.captions.embedding.T).float().cpu()
        if not torch.stack(torch.aminmax(scores)).isfinite().all():  # NaN propagates to both
            hint = "its training diverged; train again, for example with a lower --learning-rate"
            raise CheckpointError("the model returns vectors that are not finite", hint=hint)
        yield start, scores.numpy()


def _expanded(
    blocks: Iterator[tuple[int, np.ndarray]] | list[tuple[int, np.ndarray]], columns: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Expand the columns from distinct captions to texts."""
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
    """Return the scores to rank all pairs of images and distinct captions by, float32."""
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
    """Return the K best distinct captions of each image `(N, K)` and images of each caption `(U, K)`, by cosine."""
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
    """Return the scores to re-rank `captions (N, K)` of each image and `image_numbers (U, K)` of each caption by."""
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
    positives: Positives,
    columns: np.ndarray,
    best: tuple[np.ndarray, np.ndarray],
    scores: tuple[np.ndarray, np.ndarray],
) -> Ranks:
    """Return the ranks after re-ranking the K best of each query; all others keep their order."""
    texts = np.bincount(columns)  # number of texts of each distinct caption
    found = deepcopy(whole)
    starts = np.searchsorted(positives.images, whole.images)
    stops = np.searchsorted(positives.images, whole.images, side="right")
    for k, (i, start, stop) in enumerate(zip(whole.images, starts, stops, strict=True)):
        own = np.bincount(columns[positives.texts[start:stop]], minlength=len(texts))[best[0][i]]
        if own.any():
            found.image_ranks[k], *found.image_ties[k] = _rank_one(scores[0][i], own, texts[best[0][i]] - own)
    order = np.argsort(positives.texts, kind="stable")
    owners, bounds = positives.images[order], np.searchsorted(positives.texts[order], [*whole.texts, len(columns)])
    for k, j in enumerate(whole.texts):
        mine = np.isin(best[1][columns[j]], owners[bounds[k] : bounds[k + 1]])
        if mine.any():
            found.text_ranks[k], *found.text_ties[k] = _rank_one(scores[1][columns[j]], mine, ~mine)
    return found


def _rank_one(scores: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> tuple[int, int, int]:
    """Rank one query: return its rank, and how many negatives and positives tie with the best positive.

    Of candidate c, `right[c]` texts or images are positive and `wrong[c]` negative.
    """
    highest = scores[right > 0].max()
    near, above = scores >= highest - TIE, scores > highest + TIE
    return 1 + wrong[near].sum(), wrong[near & ~above].sum(), right[near].sum()
