"""Coarse codes of an index's vectors, and the scan for the nearest: all by faiss.

A code is one bit a dimension with two factors (RaBitQ, Gao and Long 2024; 72 bytes for 512 dimensions), scanned in
whole; the best by code are compared exactly, from the vectors on disk. Nothing is trained but a mean.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np

from dove_core.errors import SearchIndexError
from dove_core.files import atomic_file, space_checked

_BLOCK = 1 << 16
_SCANNED = 1 << 14
"""Vectors that a thread scans at once: 16 MiB at 512 dimensions, which fit into a processor's cache."""

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
    for start in range(0, len(vectors), _BLOCK):
        index.add(vectors[start : start + _BLOCK].astype(np.float32))
    with atomic_file(path) as stream, space_checked(path):
        stream.write(faiss.serialize_index(index).data)


def scan(vectors: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and cosines, `(Q, count)` each, of the vectors `(N, D)` float16 nearest to queries `(Q, D)`, exactly.

    Every thread has one block of vectors in memory.
    """
    queries, best = np.ascontiguousarray(queries, np.float32), min(count, len(vectors))
    threads = max(1, min(faiss.omp_get_max_threads(), -(-len(vectors) // _SCANNED)))
    shares = np.linspace(0, len(vectors), threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda share: _scan_share(vectors, queries, best, *share), pairwise(shares)))
    heap = faiss.ResultHeap(len(queries), best, keep_max=True)
    for scores, rows in (found for part in parts for found in part):
        heap.add_result(scores, rows)
    heap.finalize()
    return heap.I, heap.D


def _scan_share(
    vectors: np.ndarray, queries: np.ndarray, count: int, start: int, stop: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return cosines and rows of the best of every block between two rows."""
    size, dim = min(_SCANNED, stop - start), vectors.shape[1]
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True  # halves need no ranges
    index.add_sa_codes(np.zeros((size, 2 * dim), np.uint8))
    codes = faiss.rev_swig_ptr(index.codes.data(), size * 2 * dim).reshape(size, 2 * dim)
    found = []
    for first in range(start, stop, size):
        block = vectors[first : min(first + size, stop)]
        np.copyto(codes[: len(block)], block.view(np.uint8))
        index.ntotal = len(block)
        scores, rows = index.search(queries, min(count, len(block)))
        found.append((scores, rows + first))
    return found


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rpartition("Error: ")[2] or "it is no faiss index"
