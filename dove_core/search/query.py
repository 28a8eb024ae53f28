"""Words, images, or examples to the images of an index that fit best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dove_core.addresses import Address, place_of
from dove_core.config import ComputeConfig, FilterConfig, QueryConfig, RankConfig
from dove_core.errors import UsageError
from dove_core.events import Noted, Report, silent
from dove_core.index.disk import SearchIndex
from dove_core.index.milvus.address import is_address
from dove_core.index.rows import Row
from dove_core.index.searchable import Searchable
from dove_core.places import Place
from dove_core.search.dedup import distinct

if TYPE_CHECKING:
    from dove_core.encoding.embedder import Embedder
    from dove_core.encoding.text_side import TextReranker, WordAttention

_IMAGES_AT_ONCE = 64
_TEXTS_AT_ONCE = 256
_SPARE = 5
"""Times as many rows as wanted are looked at where some will be left out as doubles."""

_NO_FILTER = FilterConfig()


@dataclass(frozen=True)
class Question:
    """What is looked for: words, an image as (bytes, name), keys of images that are like it or unlike it.

    The vectors of all that is given are added, those of `unlike` taken off by half.
    """

    text: str = ""
    image: tuple[bytes, str] | None = None
    like: Sequence[str] = ()
    unlike: Sequence[str] = ()


@dataclass(frozen=True)
class Hit:
    """One answer; `score` is what it was ranked by."""

    rank: int
    score: float
    row: Row

    def to_json(self) -> dict[str, Any]:
        """Return rank, key, score, caption and shard, and whatever else is known of the image."""
        row = self.row
        found = {"rank": self.rank, "key": row.key, "score": self.score, "caption": row.caption, "shard": row.shard}
        known = {
            "place": row.place, "box": row.box, "time": row.time, "source": row.source, "gsd": row.gsd,
            "tags": dict(row.tags) or None,
        }  # fmt: skip
        return {**found, **{name: value for name, value in known.items() if value is not None}}


class Searcher:
    """An index, ready for queries. The model that made it is loaded when a query needs its image side."""

    def __init__(self, index: Searchable, compute: ComputeConfig, checkpoint: Place | None = None) -> None:
        self.index, self._compute, self._checkpoint = index, compute, checkpoint

    @classmethod
    def open(
        cls,
        index: Address,
        compute: ComputeConfig = ComputeConfig(),  # noqa: B008  # frozen
        *,
        checkpoint: Address | None = None,
        shards: Address | None = None,
    ) -> Searcher:
        """Open an index.

        Args:
            index: its folder, or the address of a collection in Milvus: `http://HOST:19530/NAME`, `FILE.db/NAME`.
            compute: where, and how precisely.
            checkpoint: the model that made it, where it was moved. Of a collection its words alone will do, if no
                question needs images: the folder `words/` of the index that was pushed.
            shards: what was embedded, where it was moved.

        Raises:
            SearchIndexError: there is no such index, it cannot be reached, or another model made it.
            CheckpointError: the checkpoint given is missing or damaged.
            UsageError: the address cannot be read, or pymilvus is not installed.
        """
        if is_address(str(index)):
            from dove_core.index.milvus.remote import RemoteIndex

            return cls(RemoteIndex.open(str(index), checkpoint=checkpoint, shards=shards), compute)
        model = None if checkpoint is None else place_of(checkpoint)
        searcher = cls(SearchIndex(index, shards=shards), compute, model)
        if checkpoint is not None:
            searcher.embedder  # noqa: B018  # is it the right one?
        return searcher

    @cached_property
    def embedder(self) -> Embedder:
        """The whole model.

        Raises:
            SearchIndexError: the checkpoint is another than the one that made the index.
            CheckpointError: it is missing or damaged.
        """
        from dove_core.encoding.embedder import Embedder
        from dove_core.index.model import encoder_of

        return Embedder(encoder_of(self.index, self._checkpoint), self._compute)

    def ask(
        self,
        text: str,
        query: QueryConfig,
        rank: RankConfig,
        filters: FilterConfig = _NO_FILTER,
        *,
        report: Report = silent,
    ) -> list[Hit]:
        """Return the images that fit a text, best first; as `answer`."""
        return self.answer(Question(text), query, rank, filters, report=report)

    def ask_image(self, image: bytes, name: str, query: QueryConfig, filters: FilterConfig = _NO_FILTER) -> list[Hit]:
        """Return the images nearest to an image, best first; as `answer`."""
        return self.answer(Question(image=(image, name)), query, RankConfig(), filters)

    def answer(
        self,
        question: Question,
        query: QueryConfig,
        rank: RankConfig,
        filters: FilterConfig = _NO_FILTER,
        *,
        report: Report = silent,
    ) -> list[Hit]:
        """Return the images that fit a question, best first; with `query.rerank`, ROAM ranks the best again.

        Raises:
            UsageError: the question has no word that the model knows, names keys that are not there, or cannot be
                re-ranked; a filter cannot be understood.
            DataError: the image cannot be decoded.
            SearchIndexError: re-ranking needs images that are not there any more.
        """
        if query.rerank and not question.text:
            raise UsageError("--rerank ranks by the words of a query, and this one has none", hint="leave it out")
        keep = self._kept(query, rank, filters)
        vector = self._vector(question, report)
        numbers, scores = self.index.search(vector, _wanted(query), keep=keep, exact=query.exact)
        return self._finished(question.text, numbers, scores, query, rank)

    def answer_all(
        self,
        texts: Sequence[str],
        query: QueryConfig,
        rank: RankConfig,
        filters: FilterConfig = _NO_FILTER,
        *,
        report: Report = silent,
    ) -> Iterator[tuple[str, list[Hit]]]:
        """Yield each text with its answer, as `answer`; codes are scanned once for many of them.

        A text without a word that the model knows has no answer, which is reported, and the others go on.
        """
        keep = self._kept(query, rank, filters)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            block = texts[start : start + _TEXTS_AT_ONCE]
            vectors = {place: self._known(text, report) for place, text in enumerate(block)}
            known = {place: vector for place, vector in vectors.items() if vector is not None}
            answers = dict[int, tuple[np.ndarray, np.ndarray]]()
            if known:
                stacked = np.stack(list(known.values()))
                found = self.index.search_many(stacked, _wanted(query), keep=keep, exact=query.exact)
                answers = dict(zip(known, found, strict=True))
            for place, text in enumerate(block):
                yield text, self._finished(text, *answers[place], query, rank) if place in answers else []

    def _known(self, text: str, report: Report) -> np.ndarray | None:
        """Return the direction of a text, or None, which is reported, if no word of it is known."""
        try:
            return self._vector(Question(text), report)
        except UsageError as error:
            report(Noted(error.message))
            return None

    def attention(self, text: str, images: Sequence[tuple[bytes, str]]) -> WordAttention:
        """Return where the words of a text attend on images given as (bytes, name).

        Raises:
            UsageError: the text has no words, or the model has no attention over regions.
            DataError: bytes that are not an image.
        """
        return self._text_reranker().attention(text, self.embedder.describe_regions(images))

    def _kept(self, query: QueryConfig, rank: RankConfig, filters: FilterConfig) -> Any:
        """Hold the settings to their bounds; return which rows pass the filters, as the index says it; None for all."""
        return self.index.kept(filters)

    def _vector(self, question: Question, report: Report) -> np.ndarray:
        """Return the direction `(D,)` of a question."""
        parts = []
        if question.text:
            parts.append(self._encode(question.text, report))
        elif not (question.image or question.like):
            raise UsageError("the query has no words", hint="ask with words, an image, or images that are like it")
        if question.image:
            parts.append(self.embedder.embed_images([question.image])[0].float().cpu().numpy())
        if question.like:
            parts.append(self._mean_of(question.like, "--like"))
        if question.unlike:
            parts.append(-0.5 * self._mean_of(question.unlike, "--unlike"))
        total = np.sum(parts, axis=0)
        direction: np.ndarray = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
        return direction

    def _mean_of(self, keys: Sequence[str], option: str) -> np.ndarray:
        places = self.index.find(keys)
        if missing := [key for key in keys if key not in places]:
            example = self.index.rows([0])[0].key if len(self.index) else "none"
            raise UsageError(
                f"{option}: the index has no image {', '.join(missing)}", hint=f"keys are such as {example}"
            )
        mean = self.index.vectors_of(sorted(places.values())).astype(np.float32).mean(axis=0)
        found: np.ndarray = mean / np.linalg.norm(mean)
        return found

    def _finished(
        self, text: str, numbers: np.ndarray, scores: np.ndarray, query: QueryConfig, rank: RankConfig
    ) -> list[Hit]:
        """Re-rank what was found, if that is wanted, and keep what is wanted of it."""
        if query.rerank and len(numbers):
            numbers, scores = self._reranked(text, numbers, scores, query.rerank, rank)
        enough = scores >= query.min_score
        return self._hits(numbers[enough], scores[enough], query)

    def _reranked(
        self, text: str, numbers: np.ndarray, scores: np.ndarray, count: int, rank: RankConfig
    ) -> tuple[np.ndarray, np.ndarray]:
        pairs = self._score(text, numbers[:count])
        again = pairs + scores[:count] if rank.rank_by == "sum" else pairs
        order = np.argsort(-again, kind="stable")
        return (
            np.concatenate([numbers[:count][order], numbers[count:]]),
            np.concatenate([again[order], scores[count:]]),
        )

    def _score(self, text: str, numbers: np.ndarray) -> np.ndarray:
        """Return ROAM's scores of a text and some rows: from their stored regions, or their images read again."""
        stored = self.index.regions
        if stored is not None:
            return self._text_reranker().score(text, *stored.read(numbers))
        rows, texts = self.index.rows(numbers.tolist()), self.embedder.describe_texts([text], exact=True)
        found = self.index.images(rows)
        images = [(data, f"{row.shard}: {row.key}") for data, row in zip(found, rows, strict=True)]
        blocks = [images[k : k + _IMAGES_AT_ONCE] for k in range(0, len(images), _IMAGES_AT_ONCE)]
        pairs = [self.embedder.score_pairs(self.embedder.describe_images(block), texts)[:, 0] for block in blocks]
        return np.concatenate([part.numpy() for part in pairs])

    def _hits(self, numbers: np.ndarray, scores: np.ndarray, query: QueryConfig) -> list[Hit]:
        rows = self.index.rows(numbers.tolist())
        places = distinct(rows, self.index.vectors_of(numbers.tolist()), query.top) if query.dedup else range(len(rows))
        chosen = list(places)[: query.top]
        return [Hit(rank, float(scores[place]), rows[place]) for rank, place in enumerate(chosen, start=1)]

    def _text_reranker(self) -> TextReranker:
        """Return what scores a text with stored regions.

        Raises:
            UsageError: the model's family has no such scores.
        """
        if self.index.words.reranker is None:
            raise UsageError(f"the model of {self.index.name} cannot re-rank", hint="leave out --rerank and --explain")
        return self.index.words.reranker

    def _encode(self, text: str, report: Report) -> np.ndarray:
        """Return the embedding `(D,)` of a text; report words that the model does not know."""
        embedding = self.index.words.encode(text)
        if unknown := self.index.words.unknown_words(text):
            report(Noted(f"words that the model has not learned: {', '.join(unknown)}"))
        return embedding


def _wanted(query: QueryConfig) -> int:
    """Return how many rows to look for."""
    return max(query.top, query.rerank) * (_SPARE if query.dedup else 1)
