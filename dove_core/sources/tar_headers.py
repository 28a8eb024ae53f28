"""Positions of the files in a tar, from its headers.

This is five times faster than `tarfile`: 0.45 instead of 2.4 s for 10,000 webdataset samples of three members, which
have two headers each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from dove_core.errors import DataError

_BLOCK = 512
_REGULAR, _EMPTY = (b"0", b"\0", b"7"), (b"1", b"2", b"3", b"4", b"5", b"6")
"""Types of members: files; and links, devices and folders, which have no data, whatever size their header has."""

_EXTENDED = {b"x": "", b"L": "path", b"K": "linkpath"}
"""Types of extended headers of the next member, with the name of the value for GNU's."""

_LONGEST_HEADER = 2**20
"""Largest size of an extended header in bytes."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: its name, and the offset and size of its data."""

    name: str
    offset: int
    size: int


def members(file: int) -> Iterator[Member]:
    """Yield the regular files of a tar in order; ustar, PAX and GNU headers are supported.

    Args:
        file: descriptor of the tar; its position is not used.

    Raises:
        DataError: the file is truncated, damaged, or not a tar; members before the damage have been yielded.
        OSError: the file cannot be read.
    """
    offset, end = 0, os.fstat(file).st_size
    known: dict[str, bytes] = {}  # values of extended headers for the next member
    while offset < end or known:
        header = os.pread(file, _BLOCK, offset)
        if not header.strip(b"\0") and not known:
            return
        size, kind = _checked(header, offset), header[156:157]
        if kind in _EXTENDED:
            data = os.pread(file, min(size, _LONGEST_HEADER), offset + _BLOCK)
            if len(data) < size:
                raise DataError(f"the extended header at byte {offset} is truncated or too long")
            known |= _pax(data, offset) if kind == b"x" else {_EXTENDED[kind]: data.split(b"\0", 1)[0]}
        elif kind == b"S":
            raise DataError(f"the sparse file at byte {offset} is not supported")
        elif kind != b"g":
            size = _whole(known["size"], 10, offset) if "size" in known else size
            name = (known.get("path") or _name(header)).decode("utf-8", "replace")
            is_sparse = any(key.startswith("GNU.sparse") for key in known)
            known = {}
            if kind in _EMPTY or (kind == b"\0" and name.endswith("/")):
                size = 0
            elif offset + _BLOCK + size > end:
                raise DataError(f"{name} is truncated")
            elif kind in _REGULAR and not is_sparse:
                yield Member(name, offset + _BLOCK, size)
        offset += _BLOCK + -(-size // _BLOCK) * _BLOCK


def _checked(header: bytes, offset: int) -> int:
    """Return the size in a header after checking its checksum."""
    if len(header) < _BLOCK:
        raise DataError(f"the header at byte {offset} is truncated")
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if total != _whole(header[148:156], 8, offset):
        raise DataError(f"no valid header at byte {offset}")
    field = header[124:136]
    if field[0] == 0x80:  # GNU's encoding of sizes from 8 GiB
        return int.from_bytes(field[1:], "big")
    return _whole(field, 8, offset)


def _whole(text: bytes, base: int, offset: int) -> int:
    try:
        number = int(text.strip(b" \0") or b"0", base)
    except ValueError:
        number = -1
    if number < 0:
        raise DataError(f"no valid header at byte {offset}")
    return number


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0", 1)[0], b""
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
    return prefix + b"/" + name if prefix else name


def _pax(data: bytes, offset: int) -> dict[str, bytes]:
    """Parse the records `LENGTH KEY=VALUE\\n` of an extended header."""
    values: dict[str, bytes] = {}
    at = 0
    while at < len(data) and data[at] != 0:
        blank = data.find(b" ", at, at + 20)
        length = _whole(data[at:blank], 10, offset) if blank > at else 0
        key, equals, value = data[blank + 1 : at + length - 1].partition(b"=")
        if length < 5 or at + length > len(data) or not equals:
            raise DataError(f"the extended header at byte {offset} is damaged")
        values[key.decode("utf-8", "replace")] = value
        at += length
    return values
