"""Published caption tables: the image of each row, and a copy with some of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from dove_core.data.csv_tables import column_names, read_batches, read_columns
from dove_core.errors import DataError
from dove_core.files import atomic_file

_PATH = "filepath"
# An image is called images2/x.jpg; some archives nest it twice, as images2/images2/x.jpg.
_IMAGE = r"^images(?P<part>\d+)/(?:images\d+/)*(?P<key>.+)$"


def read_images(file: Path) -> tuple[np.ndarray, Any]:
    """Return the archive number of each row's image, 0 where the path has none, and the image's key there.

    Raises:
        DataError: the table cannot be read, or has no column `filepath`.
    """
    names = column_names(file, hint=_hint(file))
    if _PATH not in names:
        raise DataError(f"{file} has no column {_PATH}; columns: {', '.join(names) or 'none'}", hint=_hint(file))
    found = pc.extract_regex(read_columns(file, [_PATH], hint=_hint(file))[_PATH], pattern=_IMAGE)
    archives = pc.fill_null(pc.cast(pc.struct_field(found, "part"), pa.int64()), 0)
    return archives.to_numpy(zero_copy_only=False), pc.struct_field(found, "key")


def write_cut(file: Path, rows: np.ndarray, target: Path) -> None:
    """Write the rows with these numbers, ascending, with all columns; only a batch is in memory at a time.

    Raises:
        DataError: the table cannot be read.
        SpaceError: the disk is full.
    """
    quoting = pacsv.WriteOptions(quoting_style="needed")
    writer, start = None, 0
    with atomic_file(target) as stream:
        for batch in read_batches(file, hint=_hint(file)):
            writer = writer or pacsv.CSVWriter(stream, batch.schema, write_options=quoting)
            first, end = np.searchsorted(rows, (start, start + len(batch)))
            writer.write(batch.take(pa.array(rows[first:end] - start)))
            start += len(batch)
        if writer is not None:
            writer.close()


def keys_of_images(names: Any) -> Any:
    """Return the keys of an archive's members, as `read_images` returns them."""
    return pc.replace_substring_regex(names, pattern=r"^(?:images\d+/)*", replacement="")


def stems_of_images(keys: Any) -> Any:
    """Return the file names of images without folder and ending."""
    return pc.replace_substring_regex(keys, pattern=r"^(?:.*/)?([^/]*?)(?:\.[^./]*)?$", replacement=r"\1")


def stems_of_metas(names: Any) -> Any:
    """Return the stems of an archive's pickles, null for other members."""
    found = pc.extract_regex(names, pattern=r"^(?:.*/)?(?P<stem>[^/]+)\.(?:pickle|pkl)$")
    return pc.struct_field(found, "stem")


def _hint(file: Path) -> str:
    return f"delete {file} and run the same command again to download it again"
