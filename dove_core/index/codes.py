"""Coarse codes of an index's vectors, and the scan for the nearest: all by faiss.

A code is one bit a dimension with two factors (RaBitQ, Gao and Long 2024; 72 bytes for 512 dimensions), scanned in
whole; the best by code are compared exactly, from the vectors on disk. Nothing is trained but a mean.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from dove_core.errors import SearchIndexError
from dove_core.files import atomic_file, space_checked

_FAISS: Any = faiss
"""For its lower half, which its types do not tell of."""

_ADDED = 1 << 16
_BLOCK = 1 << 11
"""Vectors that several queries are held to at once: 2 MiB at 512 dimensions."""

_SHARE = 1 << 12
"""Vectors that make a thread of its own worth while."""

_SAMPLE = 1 << 17
"""Vectors that the mean is taken over."""


class Codes:
    """Opened codes; rows are numbered as the vectors are."""

    def __init__(self, path: Path) -> None:
        """Open what `build_codes` wrote; the file is mapped, not read.

        Raises:
            SearchIndexError: it is missing or damaged.
        """
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            hint = "run `dove embed` again to make it from the parts; --exact searches without it"
            raise SearchIndexError(f"{path} cannot be read: {_first_line(error)}", hint=hint) from error

    def __len__(self) -> int:
        """Count the rows."""
        return int(self._index.ntotal)

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and estimated cosines, `(Q, count)` each, of those nearest to queries `(Q, D)`, best first."""
        scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), min(count, len(self)))
        return rows, scores


def build_codes(path: Path, vectors: np.ndarray) -> None:
    """Write the codes of `vectors (N, D)` float16, a block in memory at a time beside the codes themselves.

    Raises:
        SpaceError: the disk is full.
    """
    index = faiss.IndexRaBitQFastScan(vectors.shape[1], faiss.METRIC_INNER_PRODUCT)
    step = max(1, len(vectors) // _SAMPLE)
    index.train(vectors[::step][:_SAMPLE].astype(np.float32))
    for start in range(0, len(vectors), _ADDED):
        index.add(vectors[start : start + _ADDED].astype(np.float32))
    with atomic_file(path) as stream, space_checked(path):
        stream.write(faiss.serialize_index(index).data)


def scan(vectors: np.ndarray, queries: np.ndarray, count: int, keep: np.ndarray | None = None) -> list[np.ndarray]:
    """Return for each query `(Q, D)` the rows of the `count` vectors `(N, D)` nearest to it, exactly, in no order.

    faiss reads the vectors where they lie, such as in a mapped file; every thread takes a share of them.

    Args:
        vectors: float16, in one piece.
        queries: float32.
        count: how many; fewer come back where there are fewer.
        keep: `(N,)` bool, which rows may be found; None for all.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    threads = max(1, min(faiss.omp_get_max_threads(), len(vectors) // _SHARE))
    shares = np.linspace(0, len(vectors), threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda share: _scan_share(vectors, queries, count, keep, *share), pairwise(shares)))
    rows = np.concatenate([part for part, _ in parts], axis=1)
    order = np.argsort(-np.concatenate([scores for _, scores in parts], axis=1), axis=1, kind="stable")[:, :count]
    best = np.take_along_axis(rows, order, axis=1)
    return [own[own >= 0] for own in best]


def _scan_share(
    vectors: np.ndarray, queries: np.ndarray, count: int, keep: np.ndarray | None, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (-1 for none) and cosines, `(Q, count)` each, of the best between two rows."""
    dim, pointer = vectors.shape[1], faiss.swig_ptr
    halves, origin = _FAISS.ScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16), faiss.IndexFlatIP(dim)
    bits = None if keep is None else np.packbits(keep[start:stop], bitorder="little")
    allowed = None if bits is None else _FAISS.IDSelectorBitmap(bits)
    scores = np.full((len(queries), count), -np.inf, np.float32)
    found = np.full((len(queries), count), -1, np.int64)
    # One query takes all at once; several take a block after another, which stays in a core's cache.
    size = _BLOCK if allowed is None and len(queries) > 1 else max(1, stop - start)
    scanners = [
        halves.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, origin, True, allowed, False) for _ in queries
    ]
    for scanner, query in zip(scanners, queries, strict=True):
        scanner.set_query(pointer(query))
    for number, first in enumerate(range(start, stop, size)):
        block = vectors[first : min(first + size, stop)]
        data = pointer(block.view(np.uint8).reshape(-1))
        for scanner, own_scores, own in zip(scanners, scores, found, strict=True):
            scanner.set_list(number, 0.0)
            scanner.scan_codes(len(block), data, None, pointer(own_scores), pointer(own), count)
    for scanner in scanners:
        _FAISS.InvertedListScanner.__swig_destroy__(scanner)  # faiss leaves that to the caller
    rows = np.where(found < 0, -1, start + (found >> 32) * size + (found & 0xFFFFFFFF))
    return rows, scores


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rpartition("Error: ")[2] or "it is no faiss index"
