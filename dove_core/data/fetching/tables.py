"""Published caption tables: which rows are wanted, which members of archives they name, and shorter tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from dove_core.data.csv_tables import column_names, read_batches, read_columns
from dove_core.data.fetching.catalog import RemoteFile
from dove_core.data.zips import ZipDirectory
from dove_core.errors import DataError
from dove_core.files import atomic_file

_SEED = 0
_PATH = "filepath"
# An image is called images2/x.jpg; some archives nest it twice, as images2/images2/x.jpg.
_IMAGE = r"^images(?P<part>\d+)/(?:images\d+/)*(?P<key>.+)$"
_FOLDERS = r"^(?:images\d+/)*"
_STEM = r"^(?:.*/)?(?P<stem>[^/]*?)(?:\.[^./]*)?$"
_META_STEM = r"^(?:.*/)?(?P<stem>[^/]+)\.(?:pickle|pkl)$"


@dataclass(frozen=True)
class TableChoice:
    """Rows of one table.

    Attributes:
        file: the table.
        source: the published table on this disk.
        total: its rows.
        rows: numbers of those that are wanted, ascending.
        archives: of each wanted row, the number of its archive.
        members: of each wanted row, its image's number in that archive's directory; -1: the archive is whole.
        stems: of each wanted row, its image's name without ending, as an Arrow array.
        absent: number of rows whose image is missing in its archive.
        example: one of those.
    """

    file: RemoteFile
    source: Path
    total: int
    rows: np.ndarray
    archives: np.ndarray
    members: np.ndarray
    stems: Any = field(repr=False)
    absent: int = 0
    example: str = ""

    def without(self, archive: int, members: np.ndarray) -> TableChoice:
        """Return the choice without the rows of some members of an archive."""
        keep = ~((self.archives == archive) & np.isin(self.members, members))
        stems, archives = self.stems.filter(pa.array(keep)), self.archives[keep]
        return replace(self, rows=self.rows[keep], archives=archives, members=self.members[keep], stems=stems)


def choose_rows(file: RemoteFile, source: Path, archives: Mapping[int, ZipDirectory | None], limit: int) -> TableChoice:
    """Choose rows of the table in `source` whose images are in the archives, given by their numbers.

    With a limit, these are the first rows in an order that is always the same: a larger limit gives all rows of a
    smaller one. An archive that is here whole (None) is expected to have every row's image.
    """
    numbers, keys = _read_images(source)
    members = np.full(len(numbers), -1, dtype=np.int64)
    is_there = np.zeros(len(numbers), dtype=bool)
    for number, directory in archives.items():
        of_archive = np.flatnonzero(numbers == number)
        if directory is None:
            is_there[of_archive] = True
            continue
        there = pc.replace_substring_regex(directory.names, pattern=_FOLDERS, replacement="")
        found = pc.index_in(keys.take(pa.array(of_archive)), value_set=there)
        members[of_archive] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        is_there[of_archive] = members[of_archive] >= 0
    # A bit generator's raw stream is the same in every numpy version; `permutation` does not promise that.
    order = np.argsort(np.random.PCG64(_SEED).random_raw(len(numbers)), kind="stable")
    order = order[np.isin(numbers[order], list(archives))]
    if limit:
        order = order[: np.searchsorted(np.cumsum(is_there[order]), limit) + 1]
    rows, absent = np.sort(order[is_there[order]]), order[~is_there[order]]
    example = keys[int(absent[0])].as_py() if len(absent) else ""
    stems = _stems(keys.take(pa.array(rows)), _STEM)
    return TableChoice(file, source, len(numbers), rows, numbers[rows], members[rows], stems, len(absent), example)


def members_of(choices: list[TableChoice], archive: int) -> np.ndarray:
    """Return the numbers of an archive's members that the choices name, each once, ascending."""
    numbers: np.ndarray = np.unique(np.concatenate([choice.members[choice.archives == archive] for choice in choices]))
    return numbers[numbers >= 0]


def metas_of(choices: list[TableChoice], archive: int, directory: ZipDirectory) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of the chosen images' metadata, and the stems of images that have none."""
    chosen = [choice.stems.filter(pa.array(choice.archives == archive)) for choice in choices]
    stems = pa.concat_arrays(chosen).unique()
    found = pc.index_in(stems, value_set=_stems(directory.names, _META_STEM))
    numbers: np.ndarray = np.sort(pc.drop_null(found).to_numpy().astype(np.int64))
    return numbers, stems.filter(pc.is_null(found)).to_pylist()


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


def _read_images(file: Path) -> tuple[np.ndarray, Any]:
    """Return the archive number of each row's image, 0 where the path has none, and the image's key there."""
    names = column_names(file, hint=_hint(file))
    if _PATH not in names:
        raise DataError(f"{file} has no column {_PATH}; columns: {', '.join(names) or 'none'}", hint=_hint(file))
    found = pc.extract_regex(read_columns(file, [_PATH], hint=_hint(file))[_PATH], pattern=_IMAGE)
    archives = pc.fill_null(pc.cast(pc.struct_field(found, "part"), pa.int64()), 0)
    return archives.to_numpy(zero_copy_only=False), pc.struct_field(found, "key")


def _stems(names: Any, pattern: str) -> Any:
    """Return file names without folder and ending, null where they do not match the pattern."""
    return pc.struct_field(pc.extract_regex(names, pattern=pattern), "stem")


def _hint(file: Path) -> str:
    return f"delete {file} and run the same command again to download it again"
