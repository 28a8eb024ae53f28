"""An index: the vectors of all parts in one memory-mapped file, searched exactly.

The parts are the truth; `vectors.npy` beside them only saves reading them, and is refused under another model.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.errors import SearchIndexError
from dove_core.files import atomic_file, read_record, write_record
from dove_core.search.parts import part_name, read_part, read_vectors
from dove_core.search.pictures import read_picture

FORMAT = 1
MANIFEST, VECTORS = "index.json", "vectors.npy"
_BLOCK = 1 << 16
_HINT = "an index is a folder such as index/NAME, made by `dove embed`"
_KNOWN = ["key", "caption", "place", "bbox", "time", "source", "gsd", "tags", "shard", "offset", "size"]


@dataclass(frozen=True)
class IndexManifest:
    """What an index is: whose vectors, of which shards. Paths are relative to the index's folder."""

    fingerprint: str
    dim: int
    counts: list[int]
    checkpoint: str
    shards: str


@dataclass(frozen=True)
class Row:
    """A picture of the index: what is known of it, and where it lies.

    `place` is longitude and latitude of its middle, `box` west, south, east, north, in degrees; `gsd` metres a pixel.
    """

    key: str
    caption: str | None
    shard: str
    offset: int
    size: int
    place: tuple[float, float] | None
    box: tuple[float, float, float, float] | None
    time: str | None
    source: str | None
    gsd: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class SearchIndex:
    """An opened index; rows are numbered through all parts."""

    def __init__(self, folder: Path) -> None:
        """Open an index.

        Raises:
            SearchIndexError: there is none, or its files do not fit together.
        """
        self.folder = folder
        self.manifest = read_record(folder / MANIFEST, IndexManifest, FORMAT, SearchIndexError, hint=_HINT)
        try:
            self.vectors: np.ndarray = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            message = f"{folder / VECTORS} cannot be read: {error}"
            raise SearchIndexError(message, hint="run `dove embed` again to make it from the parts") from error
        if self.vectors.shape != (sum(self.manifest.counts), self.manifest.dim):
            message = f"{folder / VECTORS} has shape {self.vectors.shape}, unlike {MANIFEST}"
            raise SearchIndexError(message, hint="run `dove embed` again to make it from the parts")

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.vectors)

    @property
    def checkpoint(self) -> Path:
        """Return the folder of the checkpoint that made the index."""
        return Path(os.path.normpath(self.folder / self.manifest.checkpoint))

    @property
    def shards(self) -> Path:
        """Return the folder below which the rows' shards lie."""
        return Path(os.path.normpath(self.folder / self.manifest.shards))

    def search(self, vector: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers and cosines of the `top` rows nearest to a vector `(D,)`, best first.

        Exact: vectors are stored as float16 and compared in float32. Equal scores come in the order of rows.
        """
        scores = np.concatenate(
            [self.vectors[k : k + _BLOCK].astype(np.float32) @ vector for k in range(0, len(self), _BLOCK)]
        )
        near = np.argpartition(-scores, top - 1)[:top] if top < len(scores) else np.arange(len(scores))
        order = near[np.lexsort((near, -scores[near]))]
        return order, scores[order]

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return what is known of some rows.

        Raises:
            SearchIndexError: a part is missing or damaged.
        """
        starts = np.cumsum([0, *self.manifest.counts])
        tables: dict[int, Any] = {}
        found = []
        for number in numbers:
            part = int(np.searchsorted(starts, number, side="right")) - 1
            if part not in tables:
                tables[part] = read_part(self.folder / part_name(part), _KNOWN)
            found.append(_row(tables[part].slice(int(number - starts[part]), 1).to_pylist()[0]))
        return found

    def picture(self, row: Row) -> bytes:
        """Read a row's picture straight from its tar.

        Raises:
            SearchIndexError: the tar is not there any more, or shorter than before.
        """
        return read_picture(self.shards, row.shard, row.offset, row.size)


def build_index(folder: Path, *, fingerprint: str, counts: list[int], dim: int, checkpoint: Path, shards: Path) -> None:
    """Join the parts' vectors into one file and write the manifest, which comes last.

    Raises:
        SearchIndexError: a part is missing, damaged, or has other rows than `counts` says.
        SpaceError: the disk is full.
    """
    with atomic_file(folder / VECTORS) as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": (sum(counts), dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        for part, count in enumerate(counts):
            vectors = read_vectors(folder / part_name(part))
            if vectors.shape != (count, dim):
                message = f"{folder / part_name(part)} holds {vectors.shape} vectors, not {(count, dim)}"
                raise SearchIndexError(message, hint="remove it and run `dove embed` again")
            stream.write(np.ascontiguousarray(vectors).tobytes())
    relative = [os.path.relpath(path, folder) for path in (checkpoint, shards)]
    write_record(folder / MANIFEST, IndexManifest(fingerprint, dim, counts, *relative), FORMAT)


def _row(values: dict[str, Any]) -> Row:
    box = values.pop("bbox")
    point = values.pop("place")
    place = None if point is None else struct.unpack("<dd", point[5:21])
    tags = json.loads(values.pop("tags") or "{}")
    return Row(**values, place=place, box=None if box is None else tuple(box.values()), tags=tags)
