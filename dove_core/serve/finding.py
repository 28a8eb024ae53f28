"""The images that fit a search, from one index or several: by a question, or in the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from dove_core.config import FilterConfig
from dove_core.errors import UsageError
from dove_core.events import Event, Noted, Report
from dove_core.index.rows import Row
from dove_core.review.learn import LearnedSearch
from dove_core.review.store import Marks, marks_path
from dove_core.search.query import Hit
from dove_core.serve.masks import rows_kept
from dove_core.serve.models import DEEPEST, SearchRequest
from dove_core.serve.served import OpenedIndex, ServedIndex, own_files

Found = list[tuple[OpenedIndex, Row, float | None]]
"""Images with the index they are from, and their scores if there was a question."""


def hits_of(search: SearchRequest, served: Sequence[ServedIndex], notes: list[str]) -> tuple[Found, bool, None]:
    """Return the hits of one page, whether there are more, and None for how many fit: that is not defined.

    Args:
        search: with a question.
        served: the indexes to ask.
        notes: receives remarks, such as about words that a model does not know.

    Raises:
        UsageError: no index can answer the question, or the page is too far down.
        DataError, SearchIndexError, CheckpointError: as of `Searcher.answer`.
    """
    stop = search.start + search.query.top
    if stop > DEEPEST:
        raise UsageError(f"hits beyond {DEEPEST:,} are not listed", hint="ask a narrower question")

    def note(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.message)

    found, problems = list[tuple[OpenedIndex, Hit]](), list[UsageError]()
    for one in served:
        opened = one.opened
        try:
            found += [(opened, hit) for hit in _ask(one, opened, search, stop + 1, note)]
        except UsageError as error:  # another index may know the words
            problems.append(error)
    if problems and len(problems) == len(served):
        raise problems[0]
    notes += [problem.message for problem in problems]
    if len({opened.index.fingerprint for opened, _ in found}) > 1:
        notes.append("the collections were made by different models, whose scores cannot be compared: hits take turns")
        found.sort(key=lambda place: place[1].rank)
    elif len(served) > 1:  # those ranked again stay before the others, whose scores are of another kind
        found.sort(key=lambda place: (place[1].rank > search.query.rerank > 0, -place[1].score))
    return [(opened, hit.row, hit.score) for opened, hit in found[search.start : stop]], len(found) > stop, None


def listed(search: SearchRequest, served: Sequence[ServedIndex]) -> tuple[Found, bool, int]:
    """Return the images of one page in the order of their rows, whether there are more, and how many pass the filters.

    Raises:
        UsageError: a filter is not valid, or an index in Milvus cannot list its images by filters.
    """
    found, matched = Found(), 0
    start, stop = search.start, search.start + search.query.top
    for opened in [one.opened for one in served]:
        numbers = _numbers(opened, search)
        page = numbers[max(0, start - matched) : max(0, stop - matched)]
        found += [(opened, row, None) for row in opened.index.rows([int(number) for number in page])]
        matched += len(numbers)
    return found, matched > stop, matched


def _ask(one: ServedIndex, opened: OpenedIndex, search: SearchRequest, count: int, report: Report) -> list[Hit]:
    keep = rows_kept(opened, search.ids, search.intersects, search.expression)
    query = replace(search.query, top=count)
    with own_files():
        marks = Marks(marks_path(opened.index)).current() if search.marks else []
    refine = LearnedSearch(opened.index, marks, report) if search.marks else None
    computes = search.question.image is not None or (query.rerank and opened.index.regions is None)
    with one.computing if computes else nullcontext():
        return opened.searcher.answer(
            search.question, query, search.ranking, search.filters, keep=keep, refine=refine, report=report
        )  # fmt: skip


def _numbers(opened: OpenedIndex, search: SearchRequest) -> Sequence[int] | np.ndarray:
    """Return the rows that pass all filters, in ascending order."""
    keep = rows_kept(opened, search.ids, search.intersects, search.expression)
    if search.filters != FilterConfig():
        kept = opened.index.kept(search.filters)
        if not isinstance(kept, np.ndarray):
            hint = "ask with q as well, or serve the index that was pushed"
            raise UsageError(f"{opened.name} is in Milvus, which lists no images by filters here", hint=hint)
        keep = kept if keep is None else keep & kept
    return range(len(opened.index)) if keep is None else np.flatnonzero(keep)
