"""An index in the layout of clip-retrieval: a file of vectors and one of metadata for each part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dove_core.files import atomic_file, make_folder
from dove_core.index.parts import part_name, read_part, read_vectors

_COLUMNS = ["key", "caption", "time", "source", "gsd", "tags", "shard", "offset", "size"]


def export_clip_retrieval(folder: Path, parts: Sequence[int]) -> None:
    """Write `img_emb/img_emb_0000.npy` (N, D) float16 and `metadata/metadata_0000.parquet` for each part of an index.

    Raises:
        SearchIndexError: a part is missing or damaged.
        SpaceError: the disk is full.
    """
    vectors, metadata = folder / "img_emb", folder / "metadata"
    for place in (vectors, metadata):
        make_folder(place)
    for part, number in enumerate(parts):
        path = folder / part_name(number)
        with atomic_file(vectors / f"img_emb_{part:04d}.npy") as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(read_vectors(path)), allow_pickle=False)
        table = read_part(path, _COLUMNS).replace_schema_metadata(None)
        table = table.append_column("image_path", table["shard"])  # the column name in clip-retrieval
        with atomic_file(metadata / f"metadata_{part:04d}.parquet") as stream:
            pq.write_table(table, stream, compression="zstd")
