"""Which rows of the caption tables are wanted, and which members of which archive they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.fetching.catalog import RemoteFile
from dove_core.data.fetching.tables import keys_of_images, read_images, stems_of_images, stems_of_metas
from dove_core.data.zips import ZipDirectory

_SEED = 0


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
    numbers, keys = read_images(source)
    members = np.full(len(numbers), -1, dtype=np.int64)
    is_there = np.zeros(len(numbers), dtype=bool)
    for number, directory in archives.items():
        of_archive = np.flatnonzero(numbers == number)
        if directory is None:
            is_there[of_archive] = True
            continue
        found = pc.index_in(keys.take(pa.array(of_archive)), value_set=keys_of_images(directory.names))
        members[of_archive] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        is_there[of_archive] = members[of_archive] >= 0
    # A bit generator's raw stream is the same in every numpy version; `permutation` does not promise that.
    order = np.argsort(np.random.PCG64(_SEED).random_raw(len(numbers)), kind="stable")
    order = order[np.isin(numbers[order], list(archives))]
    if limit:
        order = order[: np.searchsorted(np.cumsum(is_there[order]), limit) + 1]
    rows, absent = np.sort(order[is_there[order]]), order[~is_there[order]]
    example = keys[int(absent[0])].as_py() if len(absent) else ""
    stems = stems_of_images(keys.take(pa.array(rows)))
    return TableChoice(file, source, len(numbers), rows, numbers[rows], members[rows], stems, len(absent), example)


def members_of(choices: list[TableChoice], archive: int) -> np.ndarray:
    """Return the numbers of an archive's members that the choices name, each once, ascending."""
    numbers: np.ndarray = np.unique(np.concatenate([choice.members[choice.archives == archive] for choice in choices]))
    return numbers[numbers >= 0]


def metas_of(choices: list[TableChoice], archive: int, directory: ZipDirectory) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of the chosen images' metadata, and the stems of images that have none."""
    chosen = [choice.stems.filter(pa.array(choice.archives == archive)) for choice in choices]
    stems = pa.concat_arrays(chosen).unique()
    found = pc.index_in(stems, value_set=stems_of_metas(directory.names))
    numbers: np.ndarray = np.sort(pc.drop_null(found).to_numpy().astype(np.int64))
    return numbers, stems.filter(pc.is_null(found)).to_pylist()
