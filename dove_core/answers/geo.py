"""Footprints of hits in GeoJSON and in GeoParquet."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dove_core.files import atomic_file, json_bytes
from dove_core.index.rows import Box
from dove_core.index.searchable import Searchable
from dove_core.review.marks import Mark
from dove_core.search.query import Hit

_LITTLE_ENDIAN, _POLYGON, _MULTIPOLYGON = 1, 3, 6
_COLUMNS = {
    "rank": pa.int64(),
    "score": pa.float64(),
    "key": pa.string(),
    "caption": pa.string(),
    "time": pa.string(),
    "source": pa.string(),
    "gsd": pa.float64(),
    "tags": pa.string(),
    "shard": pa.string(),
}


def geojson_of(hits: Sequence[Hit]) -> dict[str, Any]:
    """Return the footprints of hits as a GeoJSON feature collection (RFC 7946).

    Each feature has rank, score, key, caption, time, source, gsd, tags (an object) and shard; what is not known is
    null. A footprint across the 180th meridian is cut there. Hits without a footprint are left out.
    """
    found = [(hit, hit.row.box) for hit in hits if hit.row.box is not None]
    features = [
        {"type": "Feature", "bbox": box, "geometry": geometry_of(box), "properties": properties_of(hit)}
        for hit, box in found
    ]
    bounds = {"bbox": bounds_of([box for _, box in found])} if found else {}
    return {"type": "FeatureCollection", **bounds, "features": features}


def write_geojson(path: Path, hits: Sequence[Hit]) -> int:
    """Write what `geojson_of` returns; return the number of features.

    Raises:
        SpaceError: the disk is full.
        UsageError: the file cannot be written.
    """
    collection = geojson_of(hits)
    with atomic_file(path) as stream:
        stream.write(json_bytes(collection))
    return len(collection["features"])


def marks_geojson_of(marks: Sequence[Mark], index: Searchable) -> dict[str, Any]:
    """Return marks with the footprints of their images as a GeoJSON feature collection (RFC 7946).

    Each feature has the fields of a mark, the image's caption, and `in_index`. The geometry is null if the image has no
    footprint or is not in the index any more: no mark is left out.
    """
    numbers = index.find(list(dict.fromkeys(mark.key for mark in marks))) if marks else {}
    rows = dict(zip(numbers, index.rows(list(numbers.values())), strict=True))
    features = []
    for mark in marks:
        row = rows.get(mark.key)
        box = row.box if row else None
        place = {"bbox": box, "geometry": geometry_of(box)} if box else {"geometry": None}
        known = asdict(mark) | {"caption": row.caption if row else None, "in_index": row is not None}
        features.append({"type": "Feature", **place, "properties": known})
    return {"type": "FeatureCollection", "features": features}


def write_marks_geojson(path: Path, marks: Sequence[Mark], index: Searchable) -> int:
    """Write what `marks_geojson_of` returns; return the number of marks whose images are not in the index.

    Raises:
        SpaceError: the disk is full.
        UsageError: the file cannot be written.
    """
    collection = marks_geojson_of(marks, index)
    with atomic_file(path) as stream:
        stream.write(json_bytes(collection))
    return sum(not feature["properties"]["in_index"] for feature in collection["features"])


def write_geoparquet(path: Path, hits: Sequence[Hit]) -> int:
    """Write the footprints of hits as GeoParquet 1.1; return the number of footprints.

    The columns are `geometry` (WKB, longitude and latitude in OGC:CRS84) and the properties of `geojson_of`, with
    `tags` as JSON text. A footprint across the 180th meridian is cut there. Hits without a footprint are left out.

    Raises:
        SpaceError: the disk is full.
        UsageError: the file cannot be written.
    """
    found = [(hit, hit.row.box) for hit in hits if hit.row.box is not None]
    columns = {"geometry": pa.array([_wkb(box) for _, box in found], pa.binary())}
    rows = [properties_of(hit) for hit, _ in found]
    for row in rows:
        row["tags"] = json.dumps(row["tags"], ensure_ascii=False)
    for name, kind in _COLUMNS.items():
        columns[name] = pa.array([row[name] for row in rows], kind)
    geo = json.dumps(_geo_metadata([box for _, box in found])).encode()
    with atomic_file(path) as stream:
        pq.write_table(pa.table(columns).replace_schema_metadata({b"geo": geo}), stream, compression="zstd")
    return len(found)


def bounds_of(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around one or more boxes; it crosses the 180th meridian if that makes it smaller."""
    spans = sorted((west, east + 360 if west > east else east) for west, _, east, _ in boxes)
    start, reach = spans[0][0], max(spans[0][1], max(east for _, east in spans) - 360)
    gaps = []
    for west, east in spans[1:]:
        gaps.append((west - reach, False, west, reach))
        reach = max(reach, east)
    gap, _, west, east = max([*gaps, (start + 360 - reach, True, start, reach)])
    if gap <= 0:
        west, east = -180.0, 180.0
    return west, min(box[1] for box in boxes), east - 360 if east > 180 else east, max(box[3] for box in boxes)


def properties_of(hit: Hit) -> dict[str, Any]:
    """Return the properties of a hit's feature; a score that is not a number is null."""
    row, score = hit.row, None if math.isnan(hit.score) else hit.score
    known = {"caption": row.caption, "time": row.time, "source": row.source, "gsd": row.gsd}
    return {"rank": hit.rank, "score": score, "key": row.key, **known, "tags": dict(row.tags), "shard": row.shard}


def geometry_of(box: Box) -> dict[str, Any]:
    """Return a footprint as a GeoJSON geometry, cut at the 180th meridian if it crosses it."""
    rings = _rings(box)
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def _wkb(box: Box) -> bytes:
    polygons = [
        struct.pack("<BIII10d", _LITTLE_ENDIAN, _POLYGON, 1, len(ring), *(number for point in ring for number in point))
        for ring in _rings(box)
    ]
    if len(polygons) == 1:
        return polygons[0]
    return struct.pack("<BII", _LITTLE_ENDIAN, _MULTIPOLYGON, len(polygons)) + b"".join(polygons)


def _rings(box: Box) -> list[list[tuple[float, float]]]:
    """Return a closed ring, counterclockwise, for each side of the 180th meridian on which a box has a width."""
    west, south, east, north = box
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    return [
        [(left, south), (right, south), (right, north), (left, north), (left, south)]
        for left, right in spans
        if left < right or len(spans) == 1
    ]


def _geo_metadata(boxes: Sequence[Box]) -> dict[str, Any]:
    """Return the `geo` metadata; without `crs` it means OGC:CRS84."""
    kinds = sorted({str(geometry_of(box)["type"]) for box in boxes})
    column = {"encoding": "WKB", "geometry_types": kinds, "orientation": "counterclockwise"}
    bounds = {"bbox": bounds_of(boxes)} if boxes else {}
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {**column, **bounds}}}
