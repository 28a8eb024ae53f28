"""The rows that conditions of a request leave: those that the filters of a query cannot say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.errors import UsageError
from dove_core.index.disk import SearchIndex
from dove_core.index.rows import as_bools
from dove_core.serve.cql2 import rows_passing
from dove_core.serve.geometry import rows_intersecting
from dove_core.serve.served import OpenedIndex


def rows_kept(
    opened: OpenedIndex,
    ids: Sequence[str] | None,
    intersects: Mapping[str, Any] | None,
    expression: str | Mapping[str, Any] | None,
) -> np.ndarray | None:
    """Return which rows `(N,)` bool have one of some keys, intersect a geometry and pass a CQL2 filter; None for all.

    Raises:
        UsageError: a condition is not valid, or the index is in Milvus.
    """
    if ids is None and intersects is None and expression is None:
        return None
    if not isinstance(opened.index, SearchIndex):
        hint = "filter by bbox, datetime, source, max_gsd or tag, or serve the index that was pushed"
        raise UsageError(f"{opened.name} is in Milvus, which has no ids, intersects and filter here", hint=hint)
    table, masks = opened.index.table, []
    if ids is not None:
        masks.append(as_bools(pc.is_in(table.column("key"), value_set=pa.array(ids, pa.string()))))
    if intersects is not None:
        masks.append(rows_intersecting(table, intersects))
    if expression is not None:
        masks.append(rows_passing(table, opened.name, expression))
    kept: np.ndarray = np.logical_and.reduce(masks)
    return kept
