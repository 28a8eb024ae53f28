"""Coarse codes of an index's vectors, and exact scans of the vectors, with faiss.

A code has one bit per dimension and two factors (RaBitQ, Gao and Long 2024): 72 bytes for 512 dimensions. A search
scans all codes; `nearest.py` compares the best rows exactly. Only the mean of the vectors is learned.
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
"""faiss without its type stubs, which lack the classes used here."""

_ADDED = 1 << 16
"""Vectors added to the codes at once."""

_BLOCK = 1 << 11
"""Vectors that are compared with several queries at once: 2 MiB at 512 dimensions."""

_SHARE = 1 << 12
"""Smallest number of vectors for another thread."""

_SAMPLE = 1 << 17
"""Number of vectors from which the mean is computed."""


class Codes:
    """Opened codes; their rows have the numbers of the vectors."""

    def __init__(self, path: Path) -> None:
        """Map a file of `build_codes`.

        Raises:
            SearchIndexError: the file is missing or damaged.
        """
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            hint = "run `dove embed` again to rebuild it, or search with --exact"
            raise SearchIndexError(f"{path} cannot be read: {_first_line(error)}", hint=hint) from error

    def __len__(self) -> int:
        """Count the rows."""
        return int(self._index.ntotal)

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows nearest to queries `(Q, D)` and their estimated cosines, `(Q, count)` each, best first."""
        scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), min(count, len(self)))
        return rows, scores


def build_codes(path: Path, vectors: np.ndarray) -> None:
    """Write the codes of `vectors (N, D)` float16; memory holds the codes and one block of vectors.

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
    """Return, for each query `(Q, D)`, the rows of the `count` nearest of the vectors `(N, D)`, exact but unsorted.

    faiss reads the vectors without a copy, for example from a mapped file; each thread scans a share of them.

    Args:
        vectors: float16, contiguous.
        queries: float32.
        count: number of rows; fewer are returned if there are fewer.
        keep: `(N,)` bool, the rows that may be returned; None for all.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    threads = max(1, min(faiss.omp_get_max_threads(), len(vectors) // _SHARE))
    shares = np.linspace(0, len(vectors), threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda share: _scan_share(vectors, queries, count, keep, *share), pairwise(shares)))
    rows = np.concatenate([rows for rows, _ in found], axis=1)
    order = np.argsort(-np.concatenate([scores for _, scores in found], axis=1), axis=1, kind="stable")[:, :count]
    best = np.take_along_axis(rows, order, axis=1)
    return [rows[rows >= 0] for rows in best]


def _scan_share(
    vectors: np.ndarray, queries: np.ndarray, count: int, keep: np.ndarray | None, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best rows (-1 for none) from `start` to `stop` and their cosines, `(Q, count)` each."""
    dim, pointer = vectors.shape[1], faiss.swig_ptr
    halves, origin = _FAISS.ScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16), faiss.IndexFlatIP(dim)
    bits = None if keep is None else np.packbits(keep[start:stop], bitorder="little")
    allowed = None if bits is None else _FAISS.IDSelectorBitmap(bits)
    scores = np.full((len(queries), count), -np.inf, np.float32)
    found = np.full((len(queries), count), -1, np.int64)
    # One query scans all vectors at once; several scan block by block, which stays in a core's cache.
    size = _BLOCK if allowed is None and len(queries) > 1 else max(1, stop - start)
    scanners = [
        halves.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, origin, True, allowed, False) for _ in queries
    ]
    for scanner, query in zip(scanners, queries, strict=True):
        scanner.set_query(pointer(query))
    for number, first in enumerate(range(start, stop, size)):
        block = vectors[first : min(first + size, stop)]
        data = pointer(block.view(np.uint8).reshape(-1))
        for scanner, best_scores, best_rows in zip(scanners, scores, found, strict=True):
            scanner.set_list(number, 0.0)
            scanner.scan_codes(len(block), data, None, pointer(best_scores), pointer(best_rows), count)
    for scanner in scanners:
        _FAISS.InvertedListScanner.__swig_destroy__(scanner)  # the caller must free it
    rows = np.where(found < 0, -1, start + (found >> 32) * size + (found & 0xFFFFFFFF))
    return rows, scores


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rpartition("Error: ")[2] or "it is not a faiss index"
