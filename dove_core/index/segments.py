"""Segments of an index: the rows of some parts, in files that never change and are mapped, not read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dove_core.errors import SearchIndexError, reason_of
from dove_core.index.locks import hold_segment
from dove_core.index.nearest import best, nearest, nearest_many
from dove_core.places import LocalFiles

if TYPE_CHECKING:
    from dove_core.index.codes import Codes

VECTORS, CODES, ROWS, CONTENTS = "vectors.npy", "codes.faiss", "rows.arrow", "contents.npy"
SEGMENT_FILES = (VECTORS, CODES, ROWS, CONTENTS)
AGAIN = "run `dove embed` again to rebuild it from the parts"

Found = tuple[np.ndarray, np.ndarray]
"""Rows, and their cosines with a query."""


def segment_name(number: int) -> str:
    """Return `segment-00001` for segment 1; the first one of an index is in the folder of the index itself."""
    return f"segment-{number:05d}" if number else ""


class Segment:
    """An opened segment; its rows are numbered from `start` in the index."""

    def __init__(self, files: LocalFiles, name: str, start: int, count: int, dim: int, *, held: bool) -> None:
        """Map the vectors of the segment `name`; with `held`, it is not removed while this object exists.

        Raises:
            FileNotFoundError: the file of vectors is missing.
            SearchIndexError: it is damaged, or has another number of vectors.
        """
        self.files, self.folder, self.start = files, files.folder / name, start
        path = self.folder / VECTORS
        try:
            self._lock = LocalFiles(self.folder, hold_segment(path) if held else None)
            self.vectors: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, EOFError) as error:
            raise SearchIndexError(f"{path} cannot be read: {reason_of(error)}", hint=AGAIN) from error
        if self.vectors.shape != (count, dim):
            message = f"{path} has shape {self.vectors.shape}, which differs from index.json"
            raise SearchIndexError(message, hint=AGAIN)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.vectors)

    @property
    def stop(self) -> int:
        """Return the number of the first row after this segment."""
        return self.start + len(self)

    @cached_property
    def codes(self) -> Codes:
        """The coarse codes; a segment with few rows has none.

        Raises:
            SearchIndexError: the file is missing, damaged, or its number of rows is wrong.
        """
        from dove_core.index.codes import Codes  # noqa: PLC0415  # faiss

        codes = Codes(self.folder / CODES)
        if len(codes) != len(self):
            raise SearchIndexError(f"{self.folder / CODES} has {len(codes)} rows, expected {len(self)}", hint=AGAIN)
        return codes


def nearest_in(segments: Sequence[Segment], query: np.ndarray, top: int, keep: np.ndarray | None, exact: bool) -> Found:
    """Return the `top` rows of some segments nearest to a query `(D,)`; see `nearest.nearest`."""
    found = []
    for one in segments:
        by_codes = None if exact else lambda one=one: one.codes
        found.append(_moved(nearest(one.vectors, query, top, by_codes, _part_of(keep, one)), one.start))
    return _merged(found, top)


def nearest_many_in(
    segments: Sequence[Segment], queries: np.ndarray, top: int, keep: np.ndarray | None, exact: bool
) -> list[Found]:
    """Return the result of `nearest_in` for each of several queries `(Q, D)`."""
    found = []
    for one in segments:
        by_codes = None if exact else lambda one=one: one.codes
        answers = nearest_many(one.vectors, queries, top, by_codes, _part_of(keep, one))
        found.append([_moved(answer, one.start) for answer in answers])
    return [_merged(list(answers), top) for answers in zip(*found, strict=True)]


def _part_of(keep: np.ndarray | None, segment: Segment) -> np.ndarray | None:
    return None if keep is None else keep[segment.start : segment.stop]


def _moved(found: Found, start: int) -> Found:
    return found[0] + start, found[1]


def _merged(found: Sequence[Found], top: int) -> Found:
    """Return the best rows of several answers."""
    if len(found) == 1:
        return found[0]
    rows, scores = (np.concatenate(values) for values in zip(*found, strict=True))
    return best(rows, scores, min(top, len(rows))) if len(rows) else (rows, scores)
