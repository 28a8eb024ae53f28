"""Directories of zip archives as columns, read through any `read(offset, length)`: a few dozen bytes a member.

`zipfile` makes an object of about 600 bytes for each member and reads local files only; SkyScript's archives hold about
a million members each, and some of them are read over HTTP.
"""

from __future__ import annotations

import bz2
import hashlib
import struct
import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from dove_core.data.file_kinds import kind_of
from dove_core.errors import DataError

_STORED, _DEFLATED, _BZIP2 = 0, 8, 12
_LOCAL_HEADER = 30  # bytes of a local header before the member's name

Read = Callable[[int, int], bytes]
"""`read(offset, length)` returns those bytes of a file, fewer where it ends."""

_ENTRY = struct.Struct("<4s4xHH4xIIIHHH8xI")
_LOCAL = struct.Struct("<4s2xH18xHH")
_END = struct.Struct("<4sH6xIIH")
_END_64 = struct.Struct("<4s36xQQ")
_LOCATOR_64 = struct.Struct("<4s4xQ4x")
_MAX_32 = 0xFFFFFFFF
_LONGEST_COMMENT = 65_535
_LONGEST_TAIL = 2**20
"""Where the end record is looked for if a longer tail than a comment follows it."""

_LONGEST_END_64 = 4096
_HEAD = 512
_MOST_EXTRA = 2 * 65_535
_ENCRYPTED, _UTF_8 = 1, 0x800
_HINT = "fetch it again, or remove it from the folder if it does not belong there"


@dataclass(frozen=True)
class ZipDirectory:
    """The central directory of a zip in columns, entries in the directory's order.

    Member i is in bytes `header[i]` to `end[i]`: local header, `packed[i]` bytes, data descriptor.

    Attributes:
        names: Arrow `large_string`, as the zip has them.
        header: (N,) int64, offset of the local header.
        end: (N,) int64, where the next record, or the directory, begins.
        packed: (N,) int64, bytes in the zip.
        size: (N,) int64, bytes unpacked.
        crc: (N,) uint32, CRC-32 of the unpacked bytes.
        method: (N,) uint16, 0 stored, 8 deflated.
        start: offset of the central directory.
        digest: its SHA-256; it covers every member's name, size and CRC.
    """

    names: Any
    header: np.ndarray
    end: np.ndarray
    packed: np.ndarray
    size: np.ndarray
    crc: np.ndarray
    method: np.ndarray
    start: int
    digest: str

    def __len__(self) -> int:
        """Count the entries, folders included."""
        return len(self.header)

    def content(self, number: int, record: bytes, name: str) -> bytes:
        """Return the unpacked bytes of a member; arguments and errors are those of the function `content`."""
        packed, size, crc, method = (int(one[number]) for one in (self.packed, self.size, self.crc, self.method))
        return content(record, packed, size, crc, method, name)


def read_directory(read: Read, size: int, name: str) -> ZipDirectory:
    """Read the central directory of the zip `name` of `size` bytes; Zip64 and bytes before the first member are fine.

    Raises:
        DataError: it is not a zip, or its directory is damaged.
    """
    start, length, shift = _find_directory(read, size, name)
    data = read(start, length)
    if len(data) < length:
        raise _damaged(name, "its directory is truncated")
    if shift and shift % 2**32 == 0:
        return _parse(data, start, 0, name, partial(_unwrapped, read, start, shift))
    return _parse(data, start, shift, name)


def directory_digest(read: Read, size: int, name: str) -> str:
    """Return the SHA-256 of a zip's central directory, without parsing it.

    Raises:
        DataError: it is not a zip, or it is truncated.
    """
    start, length, _ = _find_directory(read, size, name)
    return hashlib.sha256(read(start, length)).hexdigest()


def content(record: bytes, packed: int, size: int, crc: int, method: int, name: str) -> bytes:
    """Return the unpacked bytes of a member, their length and CRC checked.

    `record` has the zip's bytes from the member's local header on; `name` is for errors.

    Raises:
        DataError: the member is damaged, encrypted, or compressed by an unsupported method.
    """
    try:
        magic, flags, name_length, extra_length = _LOCAL.unpack_from(record)
    except struct.error:
        raise DataError(f"{name} is damaged: it is truncated") from None
    if magic != b"PK\x03\x04":
        raise DataError(f"{name} is damaged: the directory says it is at another place")
    if flags & _ENCRYPTED:
        raise DataError(f"{name} is encrypted")
    start = _LOCAL_HEADER + name_length + extra_length
    data = record[start : start + packed]
    if len(data) < packed:
        raise DataError(f"{name} is damaged: it is truncated")
    plain = _unpack(data, size, method, name)
    if len(plain) != size or zlib.crc32(plain) != crc:
        raise DataError(f"{name} is damaged: its length or CRC is wrong")
    return plain


def record_length(header: int, end: int, packed: int) -> int:
    """Return how many bytes to read from a local header on for the whole member."""
    return min(end - header, _LOCAL_HEADER + _MOST_EXTRA + packed)


def _unpack(data: bytes, size: int, method: int, name: str) -> bytes:
    if method == _STORED:
        return data
    if method not in (_DEFLATED, _BZIP2):
        raise DataError(f"{name} has compression method {method}, which is not supported: zip it stored or deflated")
    unpacker: Any = zlib.decompressobj(-15) if method == _DEFLATED else bz2.BZ2Decompressor()
    try:
        plain: bytes = unpacker.decompress(data, size + 1)  # not more, however much there is
    except (zlib.error, OSError, EOFError, ValueError) as error:
        raise DataError(f"{name} is damaged: {error}") from error
    return plain


def _find_directory(read: Read, size: int, name: str) -> tuple[int, int, int]:
    """Return offset and length of the directory, and what to add to the offsets in it.

    The end record may be followed by a comment, which may have the record's own mark in it, or by foreign bytes.
    """
    problem = ""
    for length in (_LONGEST_COMMENT + _END.size, _LONGEST_TAIL):
        start = max(0, size - length)
        tail = read(start, size - start)
        at = len(tail)
        while (at := tail.rfind(b"PK\x05\x06", 0, at)) >= 0:
            found, why = _directory_before(partial(_from_tail, read, tail, start), tail, at, start + at)
            if found is not None:
                return found
            problem = problem or why
        if problem or start == 0:
            break
    if problem:
        raise _damaged(name, problem)
    kind, advice = kind_of(head := read(0, _HEAD))
    if kind and not head.startswith(b"PK"):
        raise DataError(f"{name} cannot be read as a zip: it is {kind}", hint=advice.replace("FILE", name))
    raise _damaged(name, "it has no end record: it is truncated, or not a zip")


def _from_tail(read: Read, tail: bytes, first: int, offset: int, length: int) -> bytes:
    """Return a byte range, from the file's tail that begins at byte `first` if it is in it."""
    return tail[offset - first : offset - first + length] if offset >= first else read(offset, length)


def _directory_before(read: Read, tail: bytes, at: int, end: int) -> tuple[tuple[int, int, int] | None, str]:
    """Return what `_find_directory` returns for the end record at byte `end`, or why it is none."""
    if len(tail) - at < _END.size:
        return None, "its end record is truncated"
    disk, length, offset = _END.unpack_from(tail, at)[1:4]
    before = max(0, end - _LOCATOR_64.size - _LONGEST_END_64)
    data = read(before, end - before)
    if data[-_LOCATOR_64.size :][:4] == b"PK\x06\x07":
        # The locator's offset is wrong if bytes were put before the zip; the record is right before the locator.
        record = data.rfind(b"PK\x06\x06", 0, len(data) - _LOCATOR_64.size)
        if record < 0 or len(data) - record < _END_64.size:
            return None, "its Zip64 end record is not where it should be"
        _, length, offset = _END_64.unpack_from(data, record)
        end = before + record
    start = end - length
    if start < 0 or start < offset or (length and read(start, 4)[:4] != b"PK\x01\x02"):
        if disk not in (0, 0xFFFF):
            return None, f"it is the last of {disk + 1} files of one zip: join them, for example with zip -s 0"
        return None, "its end record does not fit its length"
    return (start, length, start - offset), ""


def _parse(
    data: bytes, start: int, shift: int, name: str, corrected: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> ZipDirectory:
    types = {"header": "q", "packed": "q", "size": "q", "crc": "I", "method": "H"}
    columns = {key: array(kind) for key, kind in types.items()}
    header, packed, size, crc, method = (column.append for column in columns.values())
    names, offsets, at = bytearray(), array("q", [0]), 0
    unpack, fixed = _ENTRY.unpack_from, _ENTRY.size
    while at < len(data):
        try:
            magic, bits, how, sum_, less, whole, n, extra, comment, place = unpack(data, at)
        except struct.error:
            raise _damaged(name, "its directory is truncated") from None
        if magic != b"PK\x01\x02":
            raise _damaged(name, "its directory is damaged")
        raw = data[at + fixed : at + fixed + n]
        if _MAX_32 in (less, whole, place):
            more = data[at + fixed + n : at + fixed + n + extra]
            whole, less, place = _wide(more, whole, less, place, name)
        names += raw if raw.isascii() and b"\0" not in raw else _as_utf_8(raw, bits)
        offsets.append(len(names))
        header(place + shift), packed(less), size(whole), crc(sum_), method(how)
        at += fixed + n + extra + comment
    text = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(bytes(names)))
    arrays = {key: np.frombuffer(column, types[key]) for key, column in columns.items()}
    arrays["header"] = corrected(arrays["header"])
    end = _ends(arrays["header"], start, name)
    return ZipDirectory(text, end=end, start=start, digest=hashlib.sha256(data).hexdigest(), **arrays)


def _unwrapped(read: Read, start: int, shift: int, header: np.ndarray) -> np.ndarray:
    """Return offsets whose upper 32 bits are lost, as macOS writes them into zips of over 4 GB without Zip64.

    Members lie in the order of the directory, so each smaller offset begins another 4 GiB. If there are no local
    headers at the offsets then, `shift` bytes lie before the zip.
    """
    wraps = np.cumsum(np.diff(header, prepend=header[:1]) < 0)
    found: np.ndarray = header + wraps * 2**32
    borders = np.flatnonzero(np.diff(wraps, prepend=-1))
    ends = np.append(borders[1:] - 1, len(header) - 1)
    checked = found[np.unique(np.concatenate([borders, ends]))]
    if all(offset < start and read(int(offset), 4) == b"PK\x03\x04" for offset in checked):
        return found
    return header + shift


def _ends(header: np.ndarray, start: int, name: str) -> np.ndarray:
    """Return for each record where the next one begins, or the directory does."""
    if len(header) and (header.min() < 0 or header.max() >= start):
        raise _damaged(name, "its directory points outside of it")
    borders = np.append(np.unique(header), start)
    ends: np.ndarray = borders[np.searchsorted(borders, header, side="right")]
    return ends


def _wide(extra: bytes, size: int, packed: int, header: int, name: str) -> tuple[int, int, int]:
    """Replace values that do not fit into 32 bits by those in the Zip64 field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            try:
                found = [next(wide) if value == _MAX_32 else value for value in (size, packed, header)]
            except StopIteration:
                break
            if max(found) < 2**62:
                return found[0], found[1], found[2]
            break
        at += 4 + length
    raise _damaged(name, "a large member's Zip64 field is missing or wrong")


def _as_utf_8(raw: bytes, flags: int) -> bytes:
    """Decode a name as UTF-8 if its flag says so or it is valid, else as code page 437; a zero byte ends it.

    Info-ZIP and macOS write UTF-8 without the flag.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace") if flags & _UTF_8 else raw.decode("cp437")
    return text.split("\0", 1)[0].encode()


def _damaged(name: str, what: str) -> DataError:
    return DataError(f"{name} cannot be read as a zip: {what}", hint=_HINT)
