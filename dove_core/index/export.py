"""An index in the layout of clip-retrieval: a file of vectors and one of metadata for each part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dove_core.files import atomic_file, make_folder
from dove_core.index.manifest import IndexManifest
from dove_core.index.parts import part_name, read_part, read_vectors, with_prefix

_COLUMNS = ["key", "caption", "time", "source", "gsd", "tags", "shard", "offset", "size"]


def export_clip_retrieval(folder: Path, manifest: IndexManifest) -> None:
    """Write `img_emb/img_emb_0000.npy` (N, D) float16 and `metadata/metadata_0000.parquet` for each part of an index.

    Raises:
        SearchIndexError: a part is missing or damaged.
        SpaceError: the disk is full.
    """
    prefixes = manifest.prefixes
    for place in (folder / "img_emb", folder / "metadata"):
        make_folder(place)
    for part, number in enumerate(manifest.parts):
        path, (vectors, metadata) = folder / part_name(number), _files_of(folder, part)
        with atomic_file(vectors) as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(read_vectors(path)), allow_pickle=False)
        table = with_prefix(read_part(path, _COLUMNS), prefixes[number]).replace_schema_metadata(None)
        table = table.append_column("image_path", table["shard"])  # the column name in clip-retrieval
        with atomic_file(metadata) as stream:
            pq.write_table(table, stream, compression="zstd")
    left = len(manifest.parts)  # and more, if the index had more parts before
    while any(path.exists() for path in _files_of(folder, left)):
        for path in _files_of(folder, left):
            path.unlink(missing_ok=True)
        left += 1


def _files_of(folder: Path, part: int) -> tuple[Path, Path]:
    return folder / "img_emb" / f"img_emb_{part:04d}.npy", folder / "metadata" / f"metadata_{part:04d}.parquet"
