"""Making of an index from its embedding parts: vectors, rows, codes, text side, and at last the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.addresses import path_between
from dove_core.encoding.encoder import Encoder
from dove_core.errors import SearchIndexError
from dove_core.files import atomic_file, atomic_folder, json_bytes, record_values
from dove_core.index.columns import write_rows
from dove_core.index.disk import CODES, FORMAT, MANIFEST, ROWS, VECTORS, WORDS, IndexManifest
from dove_core.index.nearest import FEW
from dove_core.index.parts import part_name, read_part, read_vectors
from dove_core.index.rows import PART_COLUMNS
from dove_core.places import Place


def build_index(out: Place, encoder: Encoder, counts: list[int], *, checkpoint: Place, shards: Place) -> None:
    """Make an index from its parts in the same folder or bucket; the manifest is written last.

    Args:
        out: folder of the parts and of the index.
        encoder: the model that made the parts.
        counts: number of rows of each part.
        checkpoint: folder of the model.
        shards: folder of the embedded images.

    Raises:
        SearchIndexError: a part is missing, damaged, or does not match `counts`.
        SpaceError: the disk is full.
        UsageError, DownloadError: the bucket cannot be read or written.
    """
    out.remove(MANIFEST)
    with out.filling() as folder:
        has_codes = _write_from_parts(folder, out, counts, encoder.dim)
        with atomic_folder(folder / WORDS) as words:
            encoder.save_text_side(words)
    if not has_codes:
        out.remove(CODES)  # of an earlier, larger index
    paths = (path_between(out, other) for other in (checkpoint, shards))
    manifest = IndexManifest(encoder.fingerprint, encoder.dim, counts, *paths)
    with out.writing(MANIFEST) as stream:
        stream.write(json_bytes(record_values(manifest, FORMAT)))


def _write_from_parts(folder: Path, place: Place, counts: list[int], dim: int) -> bool:
    """Write vectors, rows and codes into a folder, from the parts in a place; tell whether there are codes."""
    with atomic_file(folder / VECTORS) as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": (sum(counts), dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        for part, count in enumerate(counts):
            with place.local_path(part_name(part)) as path:
                vectors = read_vectors(path)
            if vectors.shape != (count, dim):
                message = (
                    f"{place.where(part_name(part))} has vectors of shape {vectors.shape}, expected {(count, dim)}"
                )
                raise SearchIndexError(message, hint="remove it and run `dove embed` again")
            stream.write(np.ascontiguousarray(vectors).tobytes())

    def rows() -> Iterator[Any]:
        for part in range(len(counts)):
            with place.local_path(part_name(part)) as path:
                yield read_part(path, PART_COLUMNS)

    write_rows(folder / ROWS, rows())
    if sum(counts) <= FEW:
        return False
    from dove_core.index.codes import build_codes  # noqa: PLC0415  # faiss

    build_codes(folder / CODES, np.load(folder / VECTORS, mmap_mode="r"))
    return True
