"""The images of an index that fit a question best: by embeddings, then re-ranked by exact scores of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dove_core.addresses import Address
from dove_core.config import ComputeConfig, FilterConfig, QueryConfig, RankConfig
from dove_core.errors import UsageError
from dove_core.events import Noted, Report, silent
from dove_core.index.disk import SearchIndex
from dove_core.index.milvus.address import is_address
from dove_core.index.rows import Row
from dove_core.index.searchable import Searchable
from dove_core.search.attention import attention_by_gradients
from dove_core.search.dedup import distinct
from dove_core.search.question import Question

if TYPE_CHECKING:
    from dove_core.encoding.embedder import Embedder
    from dove_core.encoding.text_side import TextReranker, WordAttention

_IMAGES_AT_ONCE = 64
_TEXTS_AT_ONCE = 256
_DEDUP_FACTOR = 5
"""Candidates for each hit, if duplicates are left out."""


@dataclass(frozen=True)
class Hit:
    """One image that was found: its rank from 1, the score it was ranked by, and its row of the index.

    >>> hit = dove.open_index("index/shapes").search("a red circle")[0]
    >>> hit.rank
    1
    >>> list(hit.to_json())
    ['rank', 'key', 'score', 'caption', 'shard']
    """

    rank: int
    score: float
    row: Row

    def to_json(self) -> dict[str, Any]:
        """Return rank, key, score, caption and shard, and of the image's metadata what is known."""
        row = self.row
        found = {"rank": self.rank, "key": row.key, "score": self.score, "caption": row.caption, "shard": row.shard}
        known = {
            "place": row.place, "box": row.box, "time": row.time, "source": row.source, "gsd": row.gsd,
            "tags": dict(row.tags) or None,
        }  # fmt: skip
        return {**found, **{name: value for name, value in known.items() if value is not None}}


class Searcher:
    """An opened index that answers questions. The model's image side is loaded when a question first needs it.

    `open_index` returns an index with keyword arguments instead of settings objects, for use in notebooks.

    >>> searcher = dove.Searcher.open("index/shapes")
    >>> [hit.rank for hit in searcher.ask("a red circle", dove.QueryConfig(top=3))]
    [1, 2, 3]
    """

    def __init__(self, index: Searchable, compute: ComputeConfig = ComputeConfig()) -> None:
        self.index, self._compute = index, compute

    @classmethod
    def open(
        cls,
        index: Address,
        compute: ComputeConfig = ComputeConfig(),
        *,
        checkpoint: Address | None = None,
        shards: Address | None = None,
    ) -> Searcher:
        """Open an index.

        Args:
            index: its folder, or the address of a collection in Milvus: `http://HOST:19530/NAME`, `FILE.db/NAME`.
            compute: device and precision.
            checkpoint: the model that made the index, if it was moved. For a collection whose questions need no image,
                the folder `words/` of the index that was pushed is enough.
            shards: the folder that was embedded, if it was moved.

        Raises:
            SearchIndexError: the index is missing or damaged, the server does not answer, or the checkpoint is not the
                model that made the index.
            CheckpointError: the checkpoint is missing or damaged.
            UsageError: the address is not valid, or pymilvus is not installed.
        """
        if is_address(str(index)):
            from dove_core.index.milvus.remote import RemoteIndex

            return cls(RemoteIndex.open(str(index), checkpoint=checkpoint, shards=shards), compute)
        searcher = cls(SearchIndex(index, checkpoint=checkpoint, shards=shards), compute)
        if checkpoint is not None:
            searcher.embedder  # noqa: B018  # checks that it is the model that made the index
        return searcher

    @cached_property
    def embedder(self) -> Embedder:
        """The whole model that made the index, on its device.

        Raises:
            SearchIndexError: the checkpoint is not the model that made the index.
            CheckpointError: the checkpoint is missing or damaged.
        """
        from dove_core.encoding.embedder import Embedder
        from dove_core.index.model import encoder_of

        return Embedder(encoder_of(self.index), self._compute)

    def ask(
        self,
        text: str,
        query: QueryConfig = QueryConfig(),
        ranking: RankConfig = RankConfig(),
        filters: FilterConfig = FilterConfig(),
        *,
        report: Report = silent,
    ) -> list[Hit]:
        """Return the images that fit a text, best first; errors as of `answer`."""
        return self.answer(Question(text), query, ranking, filters, report=report)

    def answer(
        self,
        question: Question,
        query: QueryConfig = QueryConfig(),
        ranking: RankConfig = RankConfig(),
        filters: FilterConfig = FilterConfig(),
        *,
        report: Report = silent,
    ) -> list[Hit]:
        """Return the images that fit a question, best first.

        Args:
            question: what to look for.
            query: how many images to return, and how to find them.
            ranking: the score by which `query.rerank` images are ranked again.
            filters: which images may be found.
            report: receives notes about unknown words, and about an image of more than 8 bits.

        Raises:
            UsageError: the question has no word that the model knows, or a key that the index does not have; the
                images cannot be re-ranked; or a filter is not valid.
            DataError: the image cannot be decoded.
            SearchIndexError: re-ranking needs images that are missing or were changed.
        """
        if query.rerank and not question.text:
            message = f"--rerank {query.rerank}: the query has no words to rank images by"
            raise UsageError(message, hint="leave out --rerank, or ask with words")
        keep = self.index.kept(filters)
        vector = self._encode_question(question, report)
        numbers, scores = self.index.search(vector, _candidates(query), keep=keep, exact=query.exact)
        return self._hits_of(question.text, numbers, scores, query, ranking)

    def answer_all(
        self,
        texts: Sequence[str],
        query: QueryConfig = QueryConfig(),
        ranking: RankConfig = RankConfig(),
        filters: FilterConfig = FilterConfig(),
        *,
        report: Report = silent,
    ) -> Iterator[tuple[str, list[Hit]]]:
        """Yield each text with its hits, as of `answer`; a large index is scanned once for many texts.

        A text without a word that the model knows has no hits; it is reported, and the other texts are answered.
        """
        keep = self.index.kept(filters)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            block = texts[start : start + _TEXTS_AT_ONCE]
            encoded = {number: self._encode_known(text, report) for number, text in enumerate(block)}
            known = {number: vector for number, vector in encoded.items() if vector is not None}
            answers = dict[int, tuple[np.ndarray, np.ndarray]]()
            if known:
                stacked = np.stack(list(known.values()))
                found = self.index.search_many(stacked, _candidates(query), keep=keep, exact=query.exact)
                answers = dict(zip(known, found, strict=True))
            for number, text in enumerate(block):
                yield text, self._hits_of(text, *answers[number], query, ranking) if number in answers else []

    def attention(self, text: str, images: Sequence[tuple[bytes, str]]) -> WordAttention:
        """Return where the words of a text attend on images given as (bytes, name).

        A model without attention over regions is explained by gradients, see `attention_by_gradients`.

        Raises:
            UsageError: the text has no words, or the model cannot say.
            DataError: bytes that are not an image.
        """
        if self.index.words.reranker is None:
            return attention_by_gradients(self.embedder, text, images)
        return self._text_reranker().attention(text, *self.embedder.describe_regions(images))

    def _encode_question(self, question: Question, report: Report) -> np.ndarray:
        """Return the search direction `(D,)` of a question; report words that the model does not know."""
        parts = []
        if question.text:
            parts.append(self.index.words.encode(question.text))
            for message in self.index.words.notes(question.text):
                report(Noted(message))
        elif not (question.image or question.like):
            raise UsageError("the query has no words", hint="ask with words, an image, or keys of similar images")
        if question.image:
            parts.append(self._encode_image(*question.image, report))
        if question.like:
            parts.append(self._mean_embedding(question.like, "--like"))
        if question.unlike:
            parts.append(-0.5 * self._mean_embedding(question.unlike, "--unlike"))
        total = np.sum(parts, axis=0)
        direction: np.ndarray = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
        return direction

    def _encode_image(self, data: bytes, name: str, report: Report) -> np.ndarray:
        """Return the embedding of an image; report how it was brought to 8 bits, if it was."""
        from dove_core.encoding.preprocess import note_on

        embedding: np.ndarray = self.embedder.embed_images([(data, name)])[0].float().cpu().numpy()
        if note := note_on(data):
            report(Noted(f"{name}: {note}"))
        return embedding

    def _encode_known(self, text: str, report: Report) -> np.ndarray | None:
        """Return the embedding of a text; if the model knows no word of it, report that and return None."""
        try:
            return self._encode_question(Question(text), report)
        except UsageError as error:
            report(Noted(error.message))
            return None

    def _mean_embedding(self, keys: Sequence[str], option: str) -> np.ndarray:
        rows = self.index.find(keys)
        if missing := [key for key in keys if key not in rows]:
            hint = f"a key of this index is {self.index.rows([0])[0].key}" if len(self.index) else "the index is empty"
            raise UsageError(f"{option}: the index has no image {', '.join(missing)}", hint=hint)
        mean = self.index.vectors_of(sorted(rows.values())).astype(np.float32).mean(axis=0)
        found: np.ndarray = mean / np.linalg.norm(mean)
        return found

    def _hits_of(
        self, text: str, numbers: np.ndarray, scores: np.ndarray, query: QueryConfig, ranking: RankConfig
    ) -> list[Hit]:
        """Re-rank candidate rows and drop duplicates as the settings say; return the best as hits."""
        if query.rerank and len(numbers):
            numbers, scores = self._rerank(text, numbers, scores, query.rerank, ranking)
        enough = scores >= query.min_score
        numbers, scores = numbers[enough], scores[enough]
        rows = self.index.rows(numbers.tolist())
        chosen = list(range(len(rows)))[: query.top]
        if query.dedup:
            chosen = distinct(rows, self.index.vectors_of(numbers.tolist()), query.top)
        return [Hit(rank, float(scores[place]), rows[place]) for rank, place in enumerate(chosen, start=1)]

    def _rerank(
        self, text: str, numbers: np.ndarray, scores: np.ndarray, count: int, ranking: RankConfig
    ) -> tuple[np.ndarray, np.ndarray]:
        """Order the first `count` rows by the exact scores of pairs; leave the other rows behind them."""
        pairs = self._score_pairs(text, numbers[:count])
        again = pairs + scores[:count] if ranking.rank_by == "sum" else pairs
        order = np.argsort(-again, kind="stable")
        return (
            np.concatenate([numbers[:count][order], numbers[count:]]),
            np.concatenate([again[order], scores[count:]]),
        )

    def _score_pairs(self, text: str, numbers: np.ndarray) -> np.ndarray:
        """Return the exact scores of a text and some rows, from their stored regions or from their images."""
        stored = self.index.regions
        if stored is not None:
            return self._text_reranker().score(text, *stored.read(numbers))
        rows, texts = self.index.rows(numbers.tolist()), self.embedder.describe_texts([text], exact=True)
        found = self.index.images(rows)
        images = [(data, f"{row.shard}: {row.key}") for data, row in zip(found, rows, strict=True)]
        blocks = [images[k : k + _IMAGES_AT_ONCE] for k in range(0, len(images), _IMAGES_AT_ONCE)]
        pairs = [self.embedder.score_pairs(self.embedder.describe_images(block), texts)[:, 0] for block in blocks]
        return np.concatenate([part.numpy() for part in pairs])

    def _text_reranker(self) -> TextReranker:
        """Return the part of the text side that scores a text with stored regions.

        Raises:
            UsageError: the model's family has none.
        """
        if self.index.words.reranker is None:
            raise UsageError(f"the model of {self.index.name} cannot re-rank", hint="leave out --rerank")
        return self.index.words.reranker


def _candidates(query: QueryConfig) -> int:
    """Return the number of rows to find, of which the hits are chosen."""
    return max(query.top, query.rerank) * (_DEDUP_FACTOR if query.dedup else 1)
