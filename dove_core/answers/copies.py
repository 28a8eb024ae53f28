"""Hits as files: copies of their images, and a table of what is known of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from dove_core.errors import UsageError
from dove_core.files import atomic_file, make_folder, space_checked
from dove_core.index.images import not_there
from dove_core.index.rows import Row
from dove_core.index.searchable import Searchable
from dove_core.search.query import Hit

TABLE = "hits.csv"
_COLUMNS = ("rank", "score", "key", "caption", "file", "lon", "lat", "time", "source")
_LONGEST_KEY = 200
_MARKS = {
    ".jpg": re.compile(rb"\xff\xd8\xff"),
    ".png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    ".webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    ".tif": re.compile(rb"II[*+]\0|MM\0[*+]"),
    ".gif": re.compile(rb"GIF8[79]a"),
    ".bmp": re.compile(rb"BM"),
    ".jp2": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n"),
}


def copy_images(folder: Path, hits: Sequence[Hit], index: Searchable) -> list[Path]:
    """Write the hits' images, byte for byte, into a folder as `001_KEY.jpg` and return their paths, best first.

    The ending is that of the image's real format. `hits.csv` beside them tells rank, score, key, caption, file,
    longitude and latitude in degrees, time and source. Files of the same bytes that are already there are kept; nothing
    is written if one of the names holds something else.

    Raises:
        SearchIndexError: an image is not there any more.
        SpaceError: the disk is full.
        UsageError: a file of another content has one of the names, or the folder cannot be written.
    """
    make_folder(folder)
    paths, missing = [], []
    for hit in hits:
        image = index.image(hit.row)
        path = folder / _name(hit, image)
        paths.append(path)
        if not _is_there(path, image):
            missing.append((path, hit))
    table = _table(hits, paths)
    table_is_there = _is_there(folder / TABLE, table)
    for path, hit in missing:
        _write(path, index.image(hit.row))
    if not table_is_there:
        _write(folder / TABLE, table)
    return paths


def _name(hit: Hit, image: bytes) -> str:
    """Return `001_KEY.jpg`; a key from elsewhere may hold what no file's name should."""
    key = re.sub(r"[^A-Za-z0-9_.-]", "_", hit.row.key)[:_LONGEST_KEY]
    return f"{hit.rank:03d}_{key}{_ending(image, hit.row)}"


def _ending(image: bytes, row: Row) -> str:
    for ending, mark in _MARKS.items():
        if mark.match(image):
            return ending
    raise not_there(row.shard, row.key)


def _table(hits: Sequence[Hit], paths: Sequence[Path]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for hit, path in zip(hits, paths, strict=True):
        row = hit.row
        place = [f"{degrees:.7f}" for degrees in row.place] if row.place else ["", ""]
        writer.writerow(
            [hit.rank, f"{hit.score:.6f}", row.key, row.caption, path.name, *place, row.time, row.source]
        )  # None becomes an empty cell
    return text.getvalue().encode()


def _is_there(path: Path, data: bytes) -> bool:
    """Tell whether a file holds these bytes already.

    Raises:
        UsageError: it holds others, or is no file.
    """
    with space_checked(path):
        if not path.exists() and not path.is_symlink():
            return False
        if path.is_file() and path.read_bytes() == data:
            return True
    hint = "it may be of an earlier query: name another folder, or move the file away"
    raise UsageError(f"{path} is there already and holds something else", hint=hint)


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as stream:
        stream.write(data)
