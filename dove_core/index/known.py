"""Embeddings of an index that need not be computed again: those of images with the same bytes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from dove_core.data.reader import Record
from dove_core.data.samples import Known, Samples, Unusable
from dove_core.index.disk import SearchIndex
from dove_core.index.segments import CONTENTS
from dove_core.places import Place

_BYTES = 16


def content_of(image: bytes) -> bytes:
    """Return the first 16 bytes of the SHA-256 of an image."""
    return hashlib.sha256(image).digest()[:_BYTES]


class KnownImages:
    """The images of the index at a place, found by their content; it is opened when it is needed."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the opened index, for another process."""
        return {"_place": self._place}

    @cached_property
    def index(self) -> SearchIndex:
        """The opened index."""
        return SearchIndex(self._place)

    def row(self, content: bytes) -> int | None:
        """Return a row whose image has this content."""
        first, second, rows = self._sorted
        wanted = np.frombuffer(content, "<u8")
        at = int(np.searchsorted(first, wanted[0]))
        while at < len(first) and first[at] == wanted[0]:
            if second[at] == wanted[1]:
                return int(rows[at])
            at += 1
        return None

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Both halves of the known contents in order, and their rows."""
        halves, rows = [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.int64)]
        for segment in self.index.segments:
            path = segment.folder / CONTENTS
            if not path.exists():  # of an earlier version
                continue
            found = np.load(path, allow_pickle=False)
            there = np.flatnonzero(found.any(axis=1))
            halves.append(found[there])
            rows.append(segment.start + there)
        first, second = np.concatenate(halves).T
        order = np.argsort(first, kind="stable")
        return first[order], second[order], np.concatenate(rows)[order]


class ContentSamples:
    """The images of a part with their contents; images that are known are not decoded."""

    def __init__(self, samples: Samples, known: KnownImages | None) -> None:
        self.strict, self._samples, self._known = samples.strict, samples, known

    def __len__(self) -> int:
        """Count the images."""
        return len(self._samples)

    def read(self, number: int) -> Record | Unusable | Known:
        """Read an image, and look up its content."""
        record = self._samples.read(number)
        if not isinstance(record, Record):
            return record
        record = replace(record, number=number, content=content_of(record.image))
        row = self._known.row(record.content) if self._known else None
        return record if row is None else Known(record.without_image(), row)
