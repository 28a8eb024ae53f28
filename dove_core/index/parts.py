"""Embedding parts: one GeoParquet file for each shard, tar or group of images, complete or absent."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dove_core.data.reader import Record
from dove_core.errors import SearchIndexError, reason_of
from dove_core.index.rows import BOX, PART_COLUMNS, Box, centre_of
from dove_core.places import Place
from dove_core.sources.source import FileFacts

_MARK, _SKIPPED, _FILES = b"dove", b"dove_skipped", b"dove_files"
CONTENT = "content"
"""Column with the first 16 bytes of the SHA-256 of each image; parts of earlier versions do not have it."""

_BOX = pa.struct([(name, pa.float64()) for name in BOX])
_GEO = {
    "version": "1.1.0",
    "primary_column": "place",
    "columns": {
        "place": {
            "encoding": "WKB",
            "geometry_types": ["Point"],
            "covering": {"bbox": {name: ["bbox", name] for name in BOX}},
        }
    },
}


@dataclass(frozen=True)
class PartMark:
    """What a part was made from: the fingerprint of the model, and the name and digest of the input.

    The digest of a shard is its SHA-256; that of other inputs covers names, sizes and modification times.
    """

    fingerprint: str
    input: str
    digest: str


@dataclass(frozen=True)
class PartFacts:
    """Metadata of a part: its mark, number of rows, those without a caption, and skipped images by reason.

    A reason has the number of images and an example.
    """

    mark: PartMark | None
    rows: int
    skipped: Mapping[str, tuple[int, str]]
    without_caption: int = 0
    files: Sequence[FileFacts] = ()
    """The files of a part of a folder; empty for other inputs, and in parts of earlier versions."""

    @property
    def images(self) -> int:
        """Return the number of its images, the skipped ones included."""
        return self.rows + sum(count for count, _ in self.skipped.values())


def part_name(number: int) -> str:
    """Return `part-00000.parquet` for part 0."""
    return f"part-{number:05d}.parquet"


def write_part(
    place: Place,
    number: int,
    records: Sequence[Record],
    vectors: np.ndarray,
    *,
    field: str,
    mark: PartMark,
    skipped: Mapping[str, tuple[int, str]] = MappingProxyType({}),
    files: Sequence[FileFacts] = (),
) -> None:
    """Write a part with one row for each record: its vector as float16, and its metadata.

    Args:
        place: folder of the index.
        number: of the part.
        records: the samples of the part, in order; their `shard` is the path of their file below the root.
        vectors: their embeddings `(N, D)`.
        field: caption field; the first caption of each sample is stored.
        mark: what the part was made from.
        skipped: images by reason, with number and example.
        files: of a folder.
    """
    samples = [record.sample for record in records]
    flat = pa.array(vectors.astype(np.float16).reshape(-1))
    columns = {
        "key": pa.array([sample.key for sample in samples], pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        "caption": pa.array([next(iter(sample.captions.get(field, ())), None) for sample in samples], pa.string()),
        "place": pa.array([_point(sample.box) for sample in samples], pa.binary()),
        "bbox": pa.array([_box(sample.box) for sample in samples], _BOX),
        "time": pa.array([sample.time for sample in samples], pa.string()),
        "source": pa.array([sample.source for sample in samples], pa.string()),
        "gsd": pa.array([sample.gsd for sample in samples], pa.float64()),
        "tags": pa.array([json.dumps(dict(sample.tags), ensure_ascii=False) for sample in samples], pa.string()),
        "shard": pa.array([record.shard for record in records], pa.string()),
        "offset": pa.array([record.offset for record in records], pa.int64()),
        "size": pa.array([record.size for record in records], pa.int64()),
        CONTENT: pa.array([record.content or None for record in records], pa.binary(16)),
    }
    _write(place, number, pa.table(columns), mark, skipped, files)


def write_selection(place: Place, number: int, base: int, mark: PartMark, files: Sequence[FileFacts]) -> np.ndarray:
    """Write a part with those rows of the part `base` that are of some files; return the positions of the rows.

    Raises:
        SearchIndexError: the part `base` is missing or damaged.
    """
    with place.local_path(part_name(base)) as path:
        table = read_part(path, None)
    wanted = {file.name for file in files}
    rows = np.array([k for k, name in enumerate(table["shard"].to_pylist()) if name in wanted], np.int64)
    _write(place, number, table.take(pa.array(rows)), mark, {}, files)
    return rows


def _write(
    place: Place, number: int, table: Any, mark: PartMark, skipped: Mapping[str, tuple[int, str]],
    files: Sequence[FileFacts],
) -> None:  # fmt: skip
    known: dict[bytes, Any] = {_MARK: asdict(mark), _SKIPPED: dict(skipped), b"geo": _GEO}
    if files:
        known[_FILES] = list(files)
    table = table.replace_schema_metadata({k: json.dumps(value).encode() for k, value in known.items()})
    with place.writing(part_name(number)) as stream:
        pq.write_table(table, stream, compression="zstd")


def read_facts(place: Place, name: str) -> PartFacts | None:
    """Return the metadata of a part; None if it does not exist.

    The mark is None if the part was made by another version.

    Raises:
        SearchIndexError: the file is damaged or not an embedding part.
    """
    try:
        with place.seekable(name) as stream:
            metadata = pq.read_metadata(stream)
        found: dict[bytes, bytes] = metadata.metadata or {}
        mark = json.loads(found[_MARK])
        skipped = {reason: (count, name) for reason, (count, name) in json.loads(found.get(_SKIPPED, b"{}")).items()}
        files = [FileFacts(*file) for file in json.loads(found.get(_FILES, b"[]"))]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SearchIndexError(
            f"{place.where(name)} is damaged: {reason_of(error)}", hint="remove it and run `dove embed` again"
        ) from error
    known = mark.keys() == {field.name for field in fields(PartMark)}
    return PartFacts(PartMark(**mark) if known else None, metadata.num_rows, skipped, _without_caption(metadata), files)


def _without_caption(metadata: Any) -> int:
    """Return the number of rows without a caption, from the statistics of a part."""
    chunks = (
        metadata.row_group(k).column(j) for k in range(metadata.num_row_groups) for j in range(metadata.num_columns)
    )
    statistics = (chunk.statistics for chunk in chunks if chunk.path_in_schema == "caption")
    return sum(one.null_count for one in statistics if one is not None and one.has_null_count)


def read_part(path: Path, columns: list[str] | None) -> Any:
    """Read some columns of a part, None for all, as a pyarrow table.

    Raises:
        SearchIndexError: the part is missing or damaged.
    """
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, ValueError, KeyError) as error:
        raise SearchIndexError(
            f"{path} cannot be read: {reason_of(error)}", hint="remove it and run `dove embed` again"
        ) from error


def read_rows(path: Path, prefix: str) -> Any:
    """Read the columns `PART_COLUMNS` of a part, with `prefix` before the names of its files."""
    return with_prefix(read_part(path, PART_COLUMNS), prefix)


def with_prefix(table: Any, prefix: str) -> Any:
    """Return a table of rows with `prefix` before the names of their files."""
    if not prefix:
        return table
    names = pa.array([prefix + name for name in table["shard"].to_pylist()], pa.string())
    return table.set_column(table.column_names.index("shard"), "shard", names)


def read_contents(path: Path) -> list[bytes | None]:
    """Read what identifies the content of each image of a part; None where it is not known."""
    if CONTENT not in pq.read_schema(path).names:
        return [None] * int(pq.read_metadata(path).num_rows)
    contents: list[bytes | None] = read_part(path, [CONTENT])[CONTENT].to_pylist()
    return contents


def read_vectors(path: Path) -> np.ndarray:
    """Read the vectors `(N, D)` float16 of a part."""
    column = read_part(path, ["vector"])["vector"].combine_chunks()
    vectors: np.ndarray = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return vectors


def _point(box: Box | None) -> bytes | None:
    """Return the centre of a box as a little-endian WKB point."""
    return None if box is None else struct.pack("<BIdd", 1, 1, *centre_of(box))


def _box(box: Box | None) -> dict[str, float] | None:
    return None if box is None else dict(zip(BOX, box, strict=True))
