"""`open_index` and `ImageIndex`: search with keyword arguments, without settings objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from dove_core.addresses import Address
from dove_core.answers.hits import Hits
from dove_core.config import ComputeConfig, FilterConfig, QueryConfig, RankConfig
from dove_core.errors import UsageError
from dove_core.events import Event, Noted, Report, silent
from dove_core.files import LocalPath
from dove_core.index.rows import Row
from dove_core.review.learn import LearnedSearch
from dove_core.review.marks import Mark, Verdict, current_marks, now
from dove_core.review.store import Marks, marks_path
from dove_core.review.tables import read_marks
from dove_core.search.query import Searcher
from dove_core.search.question import Question, read_query_image

if TYPE_CHECKING:
    from dove_core.encoding.embedder import Embedder
    from dove_core.search.question import ImageLike


def open_index(
    address: Address,
    *,
    checkpoint: Address | None = None,
    shards: Address | None = None,
    compute: ComputeConfig = ComputeConfig(),
) -> ImageIndex:
    """Open an index that `dove embed` or `embed` made.

    Args:
        address: the index's folder, here or in a bucket, or a collection in Milvus: `http://HOST:19530/NAME`,
            `FILE.db/NAME`.
        checkpoint: the model that made the index, if it was moved.
        shards: the folder that was embedded, if it was moved.
        compute: device and precision, for questions that need the whole model.

    Raises:
        SearchIndexError: the index is missing or damaged, the server does not answer, or the checkpoint is not the
            model that made the index.
        CheckpointError: the checkpoint is missing or damaged.
        UsageError: the address is not valid, or pymilvus is not installed.

    >>> index = dove.open_index("index/shapes")
    >>> len(index)
    72
    >>> index.search("a red circle", top=5)
    <5 hits for 'a red circle'>
    """
    return ImageIndex(Searcher.open(address, compute, checkpoint=checkpoint, shards=shards))


class ImageIndex:
    """An opened index of images; `open_index` returns one. `searcher` takes settings objects instead of keywords.

    >>> index = dove.open_index("index/shapes")
    >>> index
    <index index/shapes: 72 images>
    >>> hits = index.search("a red circle", image="my_image.png", top=3)
    >>> hits.page("circles.html")
    """

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher

    def __len__(self) -> int:
        """Count the images."""
        return len(self.searcher.index)

    def __repr__(self) -> str:
        return f"<index {self.name}: {len(self)} images>"

    @property
    def name(self) -> str:
        """Return the index's folder or address."""
        return self.searcher.index.name

    @property
    def embedder(self) -> Embedder:
        """Return the whole model that made the index, on its device.

        Raises:
            SearchIndexError: the checkpoint is not the model that made the index.
            CheckpointError: the checkpoint is missing or damaged.
        """
        return self.searcher.embedder

    @property
    def marks(self) -> Marks:
        """Return the marks of this index: the file `NAME.marks.sqlite` beside its folder, which may not exist yet."""
        return Marks(marks_path(self.searcher.index))

    def mark(self, key: str, query: str, verdict: Verdict, *, note: str = "", who: str = "") -> Mark:
        """Store that an image is right (`confirm`) or wrong (`reject`) for a query, and return the mark.

        `withdraw` takes back an earlier mark of the same analyst.

        Raises:
            UsageError: the index has no such image, the verdict is not valid, or the file cannot be written.
            SpaceError: the disk is full.

        >>> index = dove.open_index("index/shapes")
        >>> index.mark("test_1", "a red circle", "confirm").verdict
        'confirm'
        >>> index.search("a red circle", marks=index.marks, top=3)
        <3 hits for 'a red circle'; ranked by 1 confirmed and 0 rejected images>
        """
        if not self.searcher.index.find([key]):
            hint = "give the key of a hit, such as index.search(...)[0].row.key"
            raise UsageError(f"{self.name} has no image {key}", hint=hint)
        mark = Mark(key, query, verdict, note, who, now(), self.searcher.index.fingerprint)
        self.marks.add([mark])
        return mark

    def rows(self, numbers: Sequence[int] | None = None) -> list[Row]:
        """Return the metadata of the images with these numbers, from 0; of all images by default.

        >>> [row.caption for row in dove.open_index("index/shapes").rows(range(2))]
        ['a purple square on grey ground', 'a yellow circle on grey ground']
        """
        return self.searcher.index.rows(range(len(self)) if numbers is None else numbers)

    def search(
        self,
        text: str = "",
        *,
        image: ImageLike | None = None,
        like: str | Sequence[str] = (),
        unlike: str | Sequence[str] = (),
        marks: Marks | Sequence[Mark] | LocalPath | None = None,
        top: int = QueryConfig.top,
        rerank: int = QueryConfig.rerank,
        exact: bool = QueryConfig.exact,
        min_score: float = QueryConfig.min_score,
        dedup: bool = QueryConfig.dedup,
        rank_by: Literal["pair", "sum"] = RankConfig.rank_by,
        bbox: str | Iterable[float] | None = None,
        near: str | Iterable[float] | None = None,
        within: str | None = None,
        datetime: str | None = None,
        source: str | Iterable[str] | None = None,
        max_gsd: float | None = None,
        tag: str | Iterable[str] | None = None,
    ) -> Hits:
        """Return the images that fit words, an image, or examples from the index, best first.

        Args:
            text: what to look for, in words.
            image: an image of it: a path, the bytes of an image file, or an image of Pillow.
            like: key of an image in the index that is like it, or several keys.
            unlike: key of an image in the index that is unlike it, or several keys.
            marks: marks of analysts to rank by: `index.marks`, a file of marks or CSV, or a list. Those of the same
                question count; images that they reject are left out. Scores are then no cosines with the question.
            top: number of hits.
            rerank: number of the best images that the model ranks again by exact scores of pairs.
            exact: compare with every embedding, without coarse codes before.
            min_score: leave out images with a lower score.
            dedup: leave out images that are nearly equal to a better one, or overlap it by half.
            rank_by: score of re-ranked images: that of the pair alone, or its sum with the cosine.
            bbox: west, south, east, north in degrees; the footprint meets this box, which may cross the antimeridian.
            near: latitude, longitude in degrees; the centre of the footprint lies `within` a distance of this point.
            within: a distance such as `25km`, `500m`, `3mi` or `2nmi`.
            datetime: when the image was taken: `2018-01-01/2020-12-31`, `../2019` or `2020`.
            source: source code such as `CH`, or several.
            max_gsd: largest ground sample distance in metres per pixel.
            tag: OpenStreetMap tag such as `highway=motorway` or `bridge`, or several that an image must all have.

        Raises:
            UsageError: the question has no word that the model knows, or a key that the index does not have; a setting
                is out of range or not valid; the image file cannot be read; the model cannot re-rank; scikit-learn
                is not installed, which marks need.
            DataError: the image cannot be decoded; the file of marks is damaged.
            SearchIndexError: re-ranking needs images that are missing or were changed.

        >>> index = dove.open_index("index/shapes")
        >>> index.search("a red circle", top=4, rerank=20)
        <4 hits for 'a red circle'>
        >>> index.search(like="test_1", unlike=["test_2", "test_3"], max_gsd=0.5)
        <0 hits for 'like test_1, unlike test_2, unlike test_3'>
        """
        notes: list[str] = []

        def note(event: Event) -> None:
            if isinstance(event, Noted):
                notes.append(event.message)

        example = None if image is None else read_query_image(image)
        question = Question(text, example, _keys(like), _keys(unlike))
        query = QueryConfig(top=top, rerank=rerank, exact=exact, min_score=min_score, dedup=dedup)
        filters = _filters(bbox, near, within, datetime, source, max_gsd, tag)
        refine = None if marks is None else LearnedSearch(self.searcher.index, _read(marks), note)
        hits = self.searcher.answer(question, query, RankConfig(rank_by), filters, refine=refine, report=note)
        return Hits(hits, self.searcher, question, notes)

    def search_all(
        self,
        texts: Sequence[str],
        *,
        top: int = QueryConfig.top,
        rerank: int = QueryConfig.rerank,
        exact: bool = QueryConfig.exact,
        min_score: float = QueryConfig.min_score,
        dedup: bool = QueryConfig.dedup,
        rank_by: Literal["pair", "sum"] = RankConfig.rank_by,
        bbox: str | Iterable[float] | None = None,
        near: str | Iterable[float] | None = None,
        within: str | None = None,
        datetime: str | None = None,
        source: str | Iterable[str] | None = None,
        max_gsd: float | None = None,
        tag: str | Iterable[str] | None = None,
        report: Report = silent,
    ) -> Iterator[Hits]:
        """Yield the hits of each text, with the arguments of `search`; a large index is scanned once for many texts.

        A text without a word that the model knows has no hits; `report` receives a note about it.

        >>> index = dove.open_index("index/shapes")
        >>> for hits in index.search_all(["a red circle", "a blue square"], top=3):
        ...     print(hits)
        <3 hits for 'a red circle'>
        <3 hits for 'a blue square'>
        """
        query = QueryConfig(top=top, rerank=rerank, exact=exact, min_score=min_score, dedup=dedup)
        filters = _filters(bbox, near, within, datetime, source, max_gsd, tag)
        for text, hits in self.searcher.answer_all(texts, query, RankConfig(rank_by), filters, report=report):
            yield Hits(hits, self.searcher, Question(text))


def _filters(
    bbox: str | Iterable[float] | None,
    near: str | Iterable[float] | None,
    within: str | None,
    datetime: str | None,
    source: str | Iterable[str] | None,
    max_gsd: float | None,
    tag: str | Iterable[str] | None,
) -> FilterConfig:
    """Return the filters that a search's arguments stand for."""
    return FilterConfig(
        bbox=_joined(bbox), near=_joined(near), within=within or "", datetime=datetime or "", source=_joined(source),
        max_gsd=max_gsd or 0.0, tag=_joined(tag),
    )  # fmt: skip


def _joined(values: str | Iterable[object] | None) -> str:
    """Return an option's text: several values with commas between them.

    Raises:
        ValueError: there are no values; an empty text would switch the filter off.
    """
    if values is None or isinstance(values, str):
        return values or ""
    text = ",".join(map(str, values))
    if not text:
        raise ValueError("a filter has an empty list; use None to leave it out")
    return text


def _read(marks: Marks | Sequence[Mark] | LocalPath) -> Sequence[Mark]:
    """Return the current marks."""
    if isinstance(marks, Marks):
        return marks.current()
    return read_marks(marks) if isinstance(marks, str | os.PathLike) else current_marks(marks)


def _keys(keys: str | Sequence[str]) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else tuple(keys)
