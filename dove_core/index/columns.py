"""Writing of `rows.arrow`, the metadata of all rows, from embedding parts.

The imports of this module are slow, and reading (`rows.py`) does not need them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dove_core.files import atomic_file, space_checked
from dove_core.index.rows import BOX, PART_COLUMNS, SCHEMA, seconds_of


def write_rows(path: Path, parts: Iterable[Any]) -> int:
    """Write the rows of parts, given as tables with `PART_COLUMNS`, one part after another; return their number.

    Raises:
        SpaceError: the disk is full.
    """
    count = 0
    with atomic_file(path) as stream, space_checked(path), pa.ipc.new_file(stream, SCHEMA) as writer:
        for part in parts:
            writer.write_table(pa.table(part_columns(part), schema=SCHEMA))
            count += len(part)
    return count


def part_columns(part: Any) -> dict[str, Any]:
    """Return the columns of `rows.arrow` as Arrow arrays, for a part given as a table with `PART_COLUMNS`."""
    box = part["bbox"].combine_chunks()
    columns = {name: part[name] for name in PART_COLUMNS if name != "bbox"}
    columns |= {name: pc.struct_field(box, name) for name in BOX}
    first, last = seconds_of(part["time"].to_pylist())
    columns |= {"first_second": pa.array(first), "last_second": pa.array(last)}
    columns = {name: pc.cast(values, SCHEMA.field(name).type) for name, values in columns.items()}
    columns |= {name: pc.fill_null(columns[name], float("nan")) for name in (*BOX, "gsd")}
    columns |= {name: pc.fill_null(columns[name], text) for name, text in (("source", ""), ("tags", "{}"))}
    return {name: columns[name] for name in SCHEMA.names}
