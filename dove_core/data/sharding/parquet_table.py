"""Captions in Parquet files with images inside: one or more files for each split, told apart by their names."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from dove_core.data.parquet_columns import no_captions
from dove_core.data.parquet_images import ENDING, ImageParquet, describe_parquet, row_name
from dove_core.data.sharding.archives import JUNK, files_below
from dove_core.data.sharding.caption_table import CaptionTable, checked_split
from dove_core.data.splits import SPLIT_COLUMNS, in_order, split_in, split_named
from dove_core.errors import DataError
from dove_core.events import Noted, Report

_NUMBERED = re.compile(r"(.*)-\d{5}-of-(\d{5})")
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class ParquetSplit:
    """The files of a split, sorted, with their names below `root`."""

    root: Path
    split: str
    names: tuple[str, ...]


def parquet_splits(path: Path, split: str | None = None) -> list[ParquetSplit]:
    """Find the Parquet files of each split: `path` itself, or all files below a folder.

    The split is in the file's name, such as `validation-00003-of-00010.parquet`, or else it is the name of a folder
    above it, such as `val/0000.parquet`.

    Args:
        path: a file or a folder.
        split: the only split to read; files without a split in any name belong to it.

    Raises:
        DataError: there is no such file, or its split cannot be told.
        UsageError: `split` cannot be the name of a folder.
    """
    root, names = (path, parquet_names(path)) if path.is_dir() else (path.parent, [path.name])
    if not names:
        raise DataError(f"{path} has no {ENDING} files", hint="give a Parquet file with images, or a folder of them")
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(split_in(f"{root.resolve().name}/{name}"), []).append(name)
    unknown = found.pop("", [])
    if split is not None:
        wanted = split_named(split) or checked_split(split)
        chosen = {wanted: found.get(wanted, []) or ([] if found else unknown)}
        if not chosen[wanted]:
            hint = f"choose with --split: {', '.join(found)}"
            raise DataError(f"{path} has no file of split {wanted}; seen: {', '.join(names[:5])}", hint=hint)
    elif unknown:
        hint = "name the split with --split train, or put it into the names: train-0.parquet, val/0.parquet"
        raise DataError(f"{path}: the split of {unknown[0]} is not in its name", hint=hint)
    else:
        chosen = {name: found[name] for name in in_order(found)}
    return [ParquetSplit(root, name, tuple(files)) for name, files in chosen.items()]


def parquet_names(folder: Path) -> list[str]:
    """Return the sorted names of the Parquet files below a folder, without hidden ones.

    Raises:
        DataError: the folder cannot be read.
    """
    names = (name for name, _, _ in files_below(folder))
    return sorted(name for name in names if name.lower().endswith(ENDING) and not JUNK.search(name))


def describe_split(split: ParquetSplit, report: Report) -> list[ImageParquet]:
    """Read the footers of a split's files; report the chosen columns.

    Raises:
        DataError: a file is damaged, has no images or no captions, or has other columns than the first.
    """
    files = [describe_parquet(split.root / name) for name in split.names]
    first = files[0]
    if not first.columns.captions:
        raise no_captions(first.path, first.schema)
    for file in files:
        if file.columns != first.columns:
            message = f"{file.path} has other columns than {first.path}: {file.columns}; not {first.columns}"
            raise DataError(message, hint="files of one split must have the same columns")
    count = f"{len(files)} files" if len(files) > 1 else split.names[0]
    report(Noted(f"{split.split}: {sum(map(len, files))} rows in {count}: {first.columns}"))
    if column := next((name for name in first.schema.names if name.lower() in SPLIT_COLUMNS), ""):
        message = f"{split.split}: the column {column} is not read; a Parquet file is of one split, that of its name"
        report(Noted(message))
    for missing in _missing(split.names):
        report(Noted(f"{split.split}: {missing}"))
    return files


def read_parquet_captions(split: ParquetSplit, files: Sequence[ImageParquet]) -> CaptionTable:
    """Read names and captions of all rows of a split, but no images; a row without a name gets one from its number.

    Raises:
        DataError: a file is damaged, or there are no rows.
    """
    columns, digest = files[0].columns, hashlib.sha256()
    paths: list[pa.Array] = []
    lists: dict[str, list[pa.Array]] = {field: [] for field in columns.captions}
    for name, file in zip(split.names, files, strict=True):
        digest.update(json.dumps(file.groups).encode())
        for start, rows in _in_blocks(file):
            block = [columns.name_in(row) or row_name(name, start + k) for k, row in enumerate(rows)]
            captions = [columns.captions_in(row) for row in rows]
            digest.update(json.dumps([block, captions]).encode())
            paths.append(pa.array(block, pa.large_string()))
            for field, blocks in lists.items():
                texts = [one[field] for one in captions]
                blocks.append(pa.array(texts, pa.large_list(pa.large_string())))
    if not paths:
        raise DataError(f"{files[0].path} has no rows", hint="give files with images and captions")
    fields = {field: pa.concat_arrays(blocks) for field, blocks in lists.items()}
    where = split.root / split.names[0] if len(files) == 1 else split.root
    return CaptionTable(where, split.split, pa.concat_arrays(paths), fields, digest.hexdigest())


def _in_blocks(file: ImageParquet) -> Iterator[tuple[int, list[Any]]]:
    """Yield the rows of a file in blocks, each with the number of its first row."""
    rows = file.rows()
    start = 0
    while block := list(islice(rows, _ROWS_AT_ONCE)):
        yield start, block
        start += len(block)


def _missing(names: Sequence[str]) -> Iterator[str]:
    """Yield a message for each set of files, numbered as `train-00000-of-00005`, that is incomplete."""
    matches = (_NUMBERED.fullmatch(PurePosixPath(name).with_suffix("").as_posix()) for name in names)
    counts = Counter((match[1], match[2]) for match in matches if match)
    for (stem, total), count in counts.items():
        if count < int(total):
            yield f"{count} of the {int(total)} files {stem}-*-of-{total}{ENDING} are here; the others are left out"
