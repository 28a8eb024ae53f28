"""What is known of every row of an index, in one Arrow file that is mapped, not read.

It is made from the parts, which stay the truth: columns to filter by, and all that a hit shows. Columns to filter by
have no nulls, and are read from their buffers: pyarrow's own ways to numpy import pandas, which takes half a second.
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

from dove_core.errors import SearchIndexError

_HINT = "run `dove embed` again to make it from the parts"
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
"""Stands for a time that is not known."""

_UNITS = {4: "Y", 7: "M", 10: "D", 13: "h", 16: "m", 19: "s"}
"""How precise an ISO 8601 time of so many characters is."""


@dataclass(frozen=True)
class Row:
    """An image of the index: what is known of it, and where it lies.

    `box` is west, south, east, north in degrees; west > east where it crosses the antimeridian. `gsd`: metres a pixel.

    >>> row = dove.open_index("index/shapes").rows([0])[0]
    >>> row.caption, row.place
    ('a purple square on grey ground', None)
    """

    key: str
    caption: str | None
    shard: str
    offset: int
    size: int
    box: tuple[float, float, float, float] | None = None
    time: str | None = None
    source: str | None = None
    gsd: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[float, float] | None:
        """Return longitude and latitude of the footprint's middle."""
        if self.box is None:
            return None
        west, south, east, north = self.box
        middle = (west + east + (360 if west > east else 0)) / 2
        return (middle - 360 if middle > 180 else middle, (south + north) / 2)


class RowTable:
    """The opened file; rows are numbered through all parts."""

    def __init__(self, path: Path) -> None:
        """Map what `columns.write_rows` wrote.

        Raises:
            SearchIndexError: it is missing or damaged.
        """
        try:
            self._table: Any = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            if self._table.schema != SCHEMA:
                raise ValueError("it has other columns")
        except (OSError, ValueError) as error:
            raise SearchIndexError(f"{path} cannot be read: {error}", hint=_HINT) from error

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._table)

    def column(self, name: str) -> Any:
        """Return a column as an Arrow array in chunks."""
        return self._table[name]

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers; NaN, or `UNKNOWN_SECOND`, where one is not known."""
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
        """Return the first row of each key that is there."""
        column, found = self._table["key"], dict[str, int]()
        for key in keys:
            place = column.index(key).as_py()
            if place >= 0:
                found[key] = int(place)
        return found


def truths(mask: Any) -> np.ndarray:
    """Return an Arrow array of booleans without nulls as `(N,)` bool."""
    chunks = [
        np.unpackbits(np.frombuffer(chunk.buffers()[1], np.uint8), bitorder="little")[chunk.offset :][: len(chunk)]
        for chunk in mask.chunks
    ]
    return np.concatenate(chunks).astype(bool) if chunks else np.zeros(0, bool)


def seconds_of(times: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last second, counted from 1970 in UTC, that ISO 8601 times as far as known may mean.

    `2019` may mean any second of that year. What is no such time gives `UNKNOWN_SECOND`.
    """
    spans = np.full((len(times), 2), UNKNOWN_SECOND, np.int64)
    for place, text in enumerate(times):
        if text and (span := span_of(text)):
            spans[place] = span
    return spans[:, 0], spans[:, 1]


def span_of(text: str) -> tuple[int, int] | None:
    """Return first and last second of one time, None if it is none."""
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
