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
        source: the whole of it on this disk.
        total: its rows.
        rows: numbers of those that are wanted, ascending.
        parts: of each wanted row, the number of its archive.
        members: of each wanted row, its image's number in that archive's directory; -1: the archive is whole.
        stems: of each wanted row, its image's name without ending, as an Arrow array.
        absent: rows that were looked for in an archive that does not have them.
        example: one of those.
    """

    file: RemoteFile
    source: Path
    total: int
    rows: np.ndarray
    parts: np.ndarray
    members: np.ndarray
    stems: Any = field(repr=False)
    absent: int = 0
    example: str = ""

    def without(self, part: int, members: np.ndarray) -> TableChoice:
        """Return the choice without the rows of some members of an archive."""
        keep = ~((self.parts == part) & np.isin(self.members, members))
        stems = self.stems.filter(pa.array(keep))
        return replace(self, rows=self.rows[keep], parts=self.parts[keep], members=self.members[keep], stems=stems)


def choose_rows(file: RemoteFile, source: Path, archives: Mapping[int, ZipDirectory | None], limit: int) -> TableChoice:
    """Choose rows of the table in `source` whose images are in the archives, by their numbers.

    With a limit, the first so many of the rows in an order that is always the same: a larger choice has all rows of a
    smaller one. An archive that is whole (None) is believed to have every row.
    """
    parts, keys = read_images(source)
    members = np.full(len(parts), -1, dtype=np.int64)
    is_there = np.zeros(len(parts), dtype=bool)
    for part, directory in archives.items():
        of_part = np.flatnonzero(parts == part)
        if directory is None:
            is_there[of_part] = True
            continue
        found = pc.index_in(keys.take(pa.array(of_part)), value_set=keys_of_images(directory.names))
        members[of_part] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        is_there[of_part] = members[of_part] >= 0
    # A bit generator's raw stream stays the same in every numpy version, which `permutation` does not promise.
    order = np.argsort(np.random.PCG64(_SEED).random_raw(len(parts)), kind="stable")
    order = order[np.isin(parts[order], list(archives))]
    if limit:
        enough = np.searchsorted(np.cumsum(is_there[order]), limit) + 1
        order = order[:enough]
    rows = np.sort(order[is_there[order]])
    lost = order[~is_there[order]]
    example = keys[int(lost[0])].as_py() if len(lost) else ""
    stems = stems_of_images(keys.take(pa.array(rows)))
    return TableChoice(file, source, len(parts), rows, parts[rows], members[rows], stems, len(lost), example)


def members_of(choices: list[TableChoice], part: int) -> np.ndarray:
    """Return the numbers of an archive's members that the choices name, each once, ascending."""
    numbers: np.ndarray = np.unique(np.concatenate([choice.members[choice.parts == part] for choice in choices]))
    return numbers[numbers >= 0]


def metas_of(choices: list[TableChoice], part: int, directory: ZipDirectory) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of the metadata of the chosen images, and the stems of those without any."""
    chosen = [choice.stems.filter(pa.array(choice.parts == part)) for choice in choices]
    stems = pa.concat_arrays(chosen).unique()
    found = pc.index_in(stems, value_set=stems_of_metas(directory.names))
    numbers: np.ndarray = np.sort(pc.drop_null(found).to_numpy().astype(np.int64))
    return numbers, stems.filter(pc.is_null(found)).to_pylist()
