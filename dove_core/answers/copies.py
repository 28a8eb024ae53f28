"""Copies of the images of hits, and a table of their metadata."""

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
_FIRST_BYTES = {
    ".jpg": re.compile(rb"\xff\xd8\xff"),
    ".png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    ".webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    ".tif": re.compile(rb"II[*+]\0|MM\0[*+]"),
    ".gif": re.compile(rb"GIF8[79]a"),
    ".bmp": re.compile(rb"BM"),
    ".jp2": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n"),
}


def copy_images(folder: Path, hits: Sequence[Hit], index: Searchable) -> list[Path]:
    """Copy the images of hits, byte for byte, into a folder as `001_KEY.jpg`; return the paths, best first.

    The suffix is that of the image's format. `hits.csv` in the same folder has rank, score, key, caption, file,
    longitude and latitude in degrees, time and source. A file that exists with the same content is kept. If one exists
    with other content, nothing is written.

    Raises:
        SearchIndexError: an image is missing or was changed.
        SpaceError: the disk is full.
        UsageError: a file exists with other content, or the folder cannot be written.
    """
    make_folder(folder)
    paths, missing = [], []
    for hit in hits:
        image = index.image(hit.row)
        path = folder / _name(hit, image)
        paths.append(path)
        if not _has_content(path, image):
            missing.append((path, hit))
    table = _table(hits, paths)
    has_table = _has_content(folder / TABLE, table)
    for path, hit in missing:
        _write(path, index.image(hit.row))
    if not has_table:
        _write(folder / TABLE, table)
    return paths


def _name(hit: Hit, image: bytes) -> str:
    """Return `001_KEY.jpg`; characters of the key that are not safe in a file name become `_`."""
    key = re.sub(r"[^A-Za-z0-9_.-]", "_", hit.row.key)[:_LONGEST_KEY]
    return f"{hit.rank:03d}_{key}{_suffix(image, hit.row)}"


def _suffix(image: bytes, row: Row) -> str:
    for suffix, first_bytes in _FIRST_BYTES.items():
        if first_bytes.match(image):
            return suffix
    raise not_there(row)


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


def _has_content(path: Path, data: bytes) -> bool:
    """Return whether a file exists and has these bytes.

    Raises:
        UsageError: the path exists, and is a folder or has other bytes.
    """
    with space_checked(path):
        if not path.exists() and not path.is_symlink():
            return False
        if path.is_file() and path.read_bytes() == data:
            return True
    hint = "it may belong to an earlier query; choose another folder, or move the file"
    raise UsageError(f"{path} exists and has other content", hint=hint)


def _write(path: Path, data: bytes) -> None:
    with atomic_file(path) as stream:
        stream.write(data)
