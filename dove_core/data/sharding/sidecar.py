"""The table beside a tar: one row for each input row, with its outcome and the position of its image."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dove_core.data.sharding.prepare import Prepared

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("path", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("captions", pa.map_(pa.string(), pa.list_(pa.string()))),
        ("box", pa.list_(pa.float64())),
        ("time", pa.string()),
        ("source", pa.string()),
        ("gsd", pa.float64()),
        ("tags", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)


def sidecar_row(prepared: Prepared, offset: int | None) -> dict[str, Any]:
    """Return the row of a prepared sample; its image starts at `offset` in the tar, None if it is not there."""
    sample, image = prepared.sample, prepared.image
    return {
        "key": sample.key,
        "path": sample.path,
        "status": prepared.status,
        "error": prepared.error,
        "width": image.width if image else None,
        "height": image.height if image else None,
        "captions": [(name, list(texts)) for name, texts in sorted(sample.captions.items())],
        "box": sample.box,
        "time": sample.time,
        "source": sample.source,
        "gsd": sample.gsd,
        "tags": json.dumps(dict(sorted(sample.tags.items())), ensure_ascii=False),
        "offset": offset,
        "size": len(image.data) if image else None,
    }


def sidecar_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return the rows of one shard as Parquet."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), stream, compression="zstd")
    return stream.getvalue()


def read_sidecar(data: bytes) -> list[dict[str, Any]]:
    """Return the rows that `sidecar_bytes` wrote.

    Raises:
        ValueError: the bytes are not a sidecar.
    """
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data), schema=SCHEMA).to_pylist()
    return rows
