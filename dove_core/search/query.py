"""Words or a picture to the pictures of an index that fit best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dove_core.config import ComputeConfig, QueryConfig, RankConfig, check
from dove_core.errors import SearchIndexError, UsageError
from dove_core.events import Noted, Report, silent
from dove_core.model.checkpoint import load_checkpoint
from dove_core.model.dove import CaptionFeatures
from dove_core.model.tokenizer import split_words
from dove_core.search.embedder import Embedder
from dove_core.search.index import Row, SearchIndex

_PICTURES_AT_ONCE = 64


@dataclass(frozen=True)
class Hit:
    """One answer; `score` is what it was ranked by."""

    rank: int
    score: float
    row: Row

    def to_json(self) -> dict[str, Any]:
        """Return rank, key, score, caption and shard, and place, time and source where they are known."""
        row = self.row
        found = {"rank": self.rank, "key": row.key, "score": self.score, "caption": row.caption, "shard": row.shard}
        known = {"place": row.place, "box": row.box, "time": row.time, "source": row.source}
        return {**found, **{name: value for name, value in known.items() if value is not None}}


class Searcher:
    """An index and the model that made it, ready for queries."""

    def __init__(self, index: SearchIndex, embedder: Embedder) -> None:
        self.index, self.embedder = index, embedder

    @classmethod
    def open(cls, index: Path, compute: ComputeConfig, *, checkpoint: Path | None = None) -> Searcher:
        """Open an index with the checkpoint that made it, found where it was or given.

        Raises:
            SearchIndexError: there is no such index, or the checkpoint is another than the one that made it.
            CheckpointError: the checkpoint is missing or damaged.
        """
        check(compute)
        opened = SearchIndex(index)
        folder = checkpoint or opened.checkpoint
        loaded = load_checkpoint(folder)
        if loaded.fingerprint != opened.manifest.fingerprint:
            message = f"{index} was made by the model {opened.manifest.fingerprint}; {folder} is {loaded.fingerprint}"
            hint = "embed again with this model (`dove embed --overwrite`), or give the one of before with --checkpoint"
            raise SearchIndexError(message, hint=hint)
        return cls(opened, Embedder(loaded, compute))

    def ask(self, text: str, query: QueryConfig, rank: RankConfig, *, report: Report = silent) -> list[Hit]:
        """Return the pictures that fit a text, best first; with `query.rerank`, ROAM ranks the best again.

        Raises:
            UsageError: the text has no word that the model knows.
            SearchIndexError: re-ranking needs pictures that are not there any more.
        """
        check(query)
        check(rank)
        self._know_words(text, report)
        captions = self.embedder.embed_captions([text])
        numbers, scores = self._nearest(captions.embedding[0], max(query.top, query.rerank))
        if query.rerank:
            best = self.index.rows(numbers[: query.rerank].tolist())
            pictures = [(self.index.picture(row), f"{row.shard}: {row.key}") for row in best]
            pairs = self._score(pictures, captions)
            again = pairs + scores[: query.rerank] if rank.rank_by == "sum" else pairs
            order = np.argsort(-again, kind="stable")
            numbers = np.concatenate([numbers[: query.rerank][order], numbers[query.rerank :]])
            scores = np.concatenate([again[order], scores[query.rerank :]])
        return self._hits(numbers[: query.top], scores)

    def ask_picture(self, picture: bytes, name: str, query: QueryConfig) -> list[Hit]:
        """Return the pictures nearest to a picture, best first.

        Raises:
            UsageError: `query.rerank` is set; ROAM ranks pictures by words.
            DataError: the bytes cannot be decoded.
        """
        check(query)
        if query.rerank:
            raise UsageError("--rerank ranks by the words of a query, and a picture has none", hint="leave it out")
        features = self.embedder.embed_pictures([(picture, name)])
        return self._hits(*self._nearest(features.embedding[0], query.top))

    def _score(self, pictures: Sequence[tuple[bytes, str]], captions: CaptionFeatures) -> np.ndarray:
        blocks = [pictures[k : k + _PICTURES_AT_ONCE] for k in range(0, len(pictures), _PICTURES_AT_ONCE)]
        pairs = [self.embedder.score_pairs(self.embedder.embed_pictures(block), captions)[:, 0] for block in blocks]
        scores: np.ndarray = torch.cat(pairs).numpy()
        return scores

    def _nearest(self, embedding: torch.Tensor, top: int) -> tuple[np.ndarray, np.ndarray]:
        return self.index.search(embedding.float().cpu().numpy(), top)

    def _hits(self, numbers: np.ndarray, scores: np.ndarray) -> list[Hit]:
        rows = self.index.rows(numbers.tolist())
        return [Hit(rank, float(scores[rank - 1]), row) for rank, row in enumerate(rows, start=1)]

    def _know_words(self, text: str, report: Report) -> None:
        words = list(dict.fromkeys(split_words(text)))
        unknown = self.embedder.checkpoint.tokenizer.unknown_words(text)
        if len(unknown) == len(words):
            message = f"no word of {text!r} is known to the model" if words else "the query has no words"
            known = ", ".join(self.embedder.checkpoint.tokenizer.words[:20])
            raise UsageError(message, hint=f"it learned words such as: {known}")
        if unknown:
            report(Noted(f"words that the model has not learned: {', '.join(unknown)}"))
