"""The metadata of every row of an index, in one Arrow file that is mapped, not read.

It is made from the embedding parts. It has the columns for filters and for hits. Columns for filters have no nulls and
are read from their Arrow buffers, because pyarrow's conversion to numpy imports pandas, which takes half a second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dove_core.errors import SearchIndexError, reason_of

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; west is greater than east across the antimeridian."""

_HINT = "run `dove embed` again to rebuild it from the parts"
BOX = ("xmin", "ymin", "xmax", "ymax")
PART_COLUMNS = ["key", "caption", "bbox", "time", "source", "gsd", "tags", "shard", "offset", "size"]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("caption", pa.string()),
        *((name, pa.float64()) for name in BOX),
        ("time", pa.string()),
        ("first_second", pa.int64()),
        ("last_second", pa.int64()),
        ("source", pa.string()),
        ("gsd", pa.float64()),
        ("tags", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
UNKNOWN_SECOND = -(2**63)
"""Value of an unknown time."""

_UNITS = {4: "Y", 7: "M", 10: "D", 13: "h", 16: "m", 19: "s"}
"""Precision of an ISO 8601 time by its number of characters."""


@dataclass(frozen=True)
class Row:
    """An image of an index: its metadata, and its position in a file.

    `gsd` is in metres.

    >>> row = dove.open_index("index/shapes").rows([0])[0]
    >>> row.caption, row.place
    ('a purple square on grey ground', None)
    """

    key: str
    caption: str | None
    shard: str
    offset: int
    size: int
    box: Box | None = None
    time: str | None = None
    source: str | None = None
    gsd: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[float, float] | None:
        """Return the longitude and latitude of the centre of the footprint."""
        return None if self.box is None else centre_of(self.box)


def centre_of(box: Box) -> tuple[float, float]:
    """Return the longitude and latitude of the centre of a box."""
    west, south, east, north = box
    middle = (west + east + (360 if west > east else 0)) / 2
    return middle - 360 if middle > 180 else middle, (south + north) / 2


class RowTable:
    """The opened files; rows are numbered over all of them, and `lengths` are their numbers of rows."""

    def __init__(self, *paths: Path) -> None:
        """Map files of `columns.write_rows`, one after another.

        Raises:
            SearchIndexError: a file is missing or damaged.
        """
        tables = [_mapped(path) for path in paths]
        self.lengths = [len(table) for table in tables]
        self._table: Any = pa.concat_tables(tables) if tables else SCHEMA.empty_table()  # the latter imports pandas

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._table)

    def column(self, name: str) -> Any:
        """Return a column as a chunked Arrow array."""
        return self._table[name]

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers; unknown values are NaN or `UNKNOWN_SECOND`."""
        kind = np.float64 if self._table.schema.field(name).type == pa.float64() else np.int64
        chunks = [
            np.frombuffer(chunk.buffers()[1], kind)[chunk.offset : chunk.offset + len(chunk)]
            for chunk in self._table[name].chunks
        ]
        return np.concatenate(chunks) if chunks else np.zeros(0, kind)

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return some rows."""
        return [_row(self._table.slice(int(number), 1).to_pylist()[0]) for number in numbers]

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that exists."""
        numbers = {key: int(self._table["key"].index(key).as_py()) for key in keys}
        return {key: number for key, number in numbers.items() if number >= 0}


def _mapped(path: Path) -> Any:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        if table.schema != SCHEMA:
            raise ValueError("it has other columns")
    except (OSError, ValueError) as error:
        raise SearchIndexError(f"{path} cannot be read: {reason_of(error)}", hint=_HINT) from error
    return table


def as_bools(mask: Any) -> np.ndarray:
    """Return an Arrow array of booleans without nulls as `(N,)` bool."""
    chunks = [
        np.unpackbits(np.frombuffer(chunk.buffers()[1], np.uint8), bitorder="little")[chunk.offset :][: len(chunk)]
        for chunk in mask.chunks
    ]
    return np.concatenate(chunks).astype(bool) if chunks else np.zeros(0, bool)


def seconds_of(times: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last second since 1970 in UTC of ISO 8601 times, which may be imprecise.

    For example, `2019` has the first and last second of that year. Invalid times have `UNKNOWN_SECOND`.
    """
    spans = np.full((len(times), 2), UNKNOWN_SECOND, np.int64)
    for number, text in enumerate(times):
        if text and (span := span_of(text)):
            spans[number] = span
    return spans[:, 0], spans[:, 1]


def span_of(text: str) -> tuple[int, int] | None:
    """Return the first and last second of one ISO 8601 time; None if it is invalid."""
    unit = _UNITS.get(len(text))
    if unit is None:
        return None
    try:
        start = np.array(text, f"datetime64[{unit}]")
    except ValueError:
        return None
    seconds = [int((start + step).astype("datetime64[s]").astype(np.int64)) for step in (0, 1)]
    return seconds[0], seconds[1] - 1


def _row(values: dict[str, Any]) -> Row:
    corners = [values.pop(name) for name in BOX]
    for name in ("first_second", "last_second"):
        values.pop(name)
    gsd, source, tags = values.pop("gsd"), values.pop("source"), json.loads(values.pop("tags"))
    box = None if math.isnan(corners[0]) else tuple(corners)
    return Row(**values, box=box, source=source or None, gsd=None if math.isnan(gsd) else gsd, tags=tags)
