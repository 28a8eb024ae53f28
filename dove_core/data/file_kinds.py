"""What a file is by its first bytes, for files that are not what they should be, and what to do with them."""

from __future__ import annotations

import re
from pathlib import Path

from dove_core.errors import DataError

_POINTER = b"version https://git-lfs.github.com/spec/"
_HTML = re.compile(rb"(?i)\s*(?:<!doctype html|<html|<\?xml)")
_UNPACK = "unpack it and give the folder with its files"
_KINDS = (
    (b"Rar!\x1a\x07", "a RAR archive", f"{_UNPACK}: unrar x FILE, or 7z x FILE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", f"{_UNPACK}: 7z x FILE"),
    (b"\x1f\x8b", "compressed by gzip", f"{_UNPACK}: tar -xf FILE for a .tar.gz, gunzip FILE for a .gz"),
    (b"BZh", "compressed by bzip2", f"{_UNPACK}: tar -xf FILE, or bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "compressed by xz", f"{_UNPACK}: tar -xf FILE, or unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", f"{_UNPACK}: tar --zstd -xf FILE, or unzstd FILE"),
    (b"PK\x03\x04", "a zip", f"{_UNPACK}: unzip FILE"),
    (b"PAR1", "a Parquet file", "rename it: its name must end in .parquet"),
    (b"SQLite format 3", "an SQLite database", "export the table as a CSV"),
)


def is_pointer(head: bytes) -> bool:
    """Tell whether a file is a pointer that Git LFS puts in the place of a large file."""
    return head.startswith(_POINTER)


def kind_of(head: bytes) -> tuple[str, str]:
    """Return what a file with these first bytes is, and what to do with it; two empty texts if nothing is known.

    >>> kind_of(b"Rar!\\x1a\\x07\\x00")[0]
    'a RAR archive'
    """
    if not head:
        return "empty", "fetch it again"
    if is_pointer(head):
        return "a pointer of Git LFS, not the file itself", "fetch the file with: git lfs pull"
    if _HTML.match(head):
        return "a web page, not the file itself", "fetch it again in a browser, or ask for the direct address"
    if head[257:262] == b"ustar":
        return "a tar", f"{_UNPACK}: tar -xf FILE"
    return next(((kind, hint) for magic, kind, hint in _KINDS if head.startswith(magic)), ("", ""))


def refuse_other_kind(file: Path, head: bytes, *, hint: str) -> None:
    """Refuse a file of text that is of a known other kind, or has bytes that no text has.

    Raises:
        DataError: it is an archive, a pointer, a web page or the like.
    """
    kind, advice = kind_of(head) if head else ("", "")
    if kind:
        raise DataError(f"{file} is {kind}", hint=advice.replace("FILE", str(file)))
    if b"\0\0\0\0" in head:
        raise DataError(f"{file} is not a text file", hint=hint)
