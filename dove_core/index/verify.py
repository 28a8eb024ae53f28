"""Comparison of an index with its parts and images: a sample of rows is checked and embedded again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dove_core.addresses import Address
from dove_core.config import ComputeConfig, VerifyConfig
from dove_core.encoding.embedder import Embedder
from dove_core.errors import DataError, SearchIndexError
from dove_core.events import Advanced, Report, Started, silent
from dove_core.index.disk import SearchIndex
from dove_core.index.model import encoder_of
from dove_core.index.parts import part_name, read_part, read_vectors
from dove_core.index.rows import Row

ALIKE = 0.99
"""Smallest cosine between a vector and its image embedded again; rounding errors stay far above it."""

_TASK = "verifying"


@dataclass(frozen=True)
class RowFault:
    """A row that differs from its part or image, with the reason."""

    row: int
    key: str
    reason: str


def verify_index(
    address: Address,
    compute: ComputeConfig = ComputeConfig(),
    verification: VerifyConfig = VerifyConfig(),
    *,
    checkpoint: Address | None = None,
    report: Report = silent,
) -> tuple[int, list[RowFault]]:
    """Return the number of rows that were verified, and the faults found.

    Args:
        address: of the index.
        compute: device and precision.
        verification: number of rows, drawn at random, and the seed.
        checkpoint: folder of the model that made the index, if it was moved.
        report: receives progress.

    Raises:
        SearchIndexError: the index is damaged, or the checkpoint is another model.
        CheckpointError: the checkpoint is missing or damaged.

    >>> dove.verify_index("index/shapes")
    (64, [])
    """
    index = SearchIndex(address, checkpoint=checkpoint)
    embedder = Embedder(encoder_of(index), compute)
    size = min(verification.sample, len(index))
    chosen = np.sort(np.random.default_rng(verification.seed).choice(len(index), size, replace=False))
    report(Started(_TASK, len(chosen), "rows"))
    starts = np.cumsum([0, *index.manifest.counts])
    parts = np.searchsorted(starts, chosen, side="right") - 1
    faults: list[RowFault] = []
    for part in np.unique(parts):
        numbers = chosen[parts == part]
        faults += _faults_of_part(index, embedder, index.manifest.parts[part], numbers, int(starts[part]))
        report(Advanced(_TASK, len(numbers)))
    return len(chosen), faults


def _faults_of_part(
    index: SearchIndex, embedder: Embedder, part: int, numbers: np.ndarray, start: int
) -> list[RowFault]:
    with index.place.local_path(part_name(part)) as path:
        stored, vectors = read_part(path, ["key", "shard", "offset"]), read_vectors(path)
    faults, prefix = [], index.manifest.prefixes[part]
    stored_vectors = index.vectors_of(numbers.tolist())
    for number, row, kept in zip(numbers.tolist(), index.rows(numbers.tolist()), stored_vectors, strict=True):
        in_part = stored.slice(number - start, 1).to_pylist()[0]
        if (row.key, row.shard, row.offset) != (in_part["key"], prefix + in_part["shard"], in_part["offset"]):
            faults.append(RowFault(number, row.key, f"the part has {in_part['key']} in this row"))
        elif not np.array_equal(kept, vectors[number - start]):
            faults.append(RowFault(number, row.key, "its vector differs from the part"))
        elif reason := _compare_with_image(index, embedder, row, vectors[number - start]):
            faults.append(RowFault(number, row.key, reason))
    return faults


def _compare_with_image(index: SearchIndex, embedder: Embedder, row: Row, vector: np.ndarray) -> str:
    """Return what is wrong with a vector, empty if it is close to that of its image."""
    try:
        embedded = embedder.embed_images([(index.image(row), row.key)])
    except (SearchIndexError, DataError) as error:
        return error.message
    cosine = float(embedded[0].float().cpu().numpy() @ vector.astype(np.float32))
    return "" if cosine >= ALIKE else f"its vector has a cosine of {cosine:.3f} with its image embedded again"
