"""A zip that grows member by member, and is a zip at the end.

Records go to `NAME.zip.subset.part`, each with its sizes in its local header, so that a later call can read which
members are here by walking from one to the next; a torn last one is cut off. When all are there a central directory is
written behind them, and the file gets its name. `NAME.zip.subset.json`, written first, says that `NAME.zip` is a subset
and of which version of the published archive.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dove_core.data.fetching.answers import Version
from dove_core.data.fetching.part import subset_note
from dove_core.data.zips import LOCAL_HEADER, content, read_directory
from dove_core.errors import DataError, DownloadError
from dove_core.files import make_folder, read_record, space_checked, write_record

_NOTE_FORMAT = 1
_LOCAL = struct.Struct("<4s5HIII2H")
_ENTRY = struct.Struct("<4s6HIII5HII")
_END = struct.Struct("<4s4HIIH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_DATE = 1 << 5 | 1  # 1980-01-01: equal members give equal records
_UTF_8, _ZIP64 = 0x800, 45
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF


class Record(NamedTuple):
    """A member as its record says: name, how it is packed, and where the record begins."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    header: int


class SubsetZip:
    """The zip at `target`, and what is to become it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.part = target.with_name(f"{target.name}.subset.part")
        self.note = subset_note(target)

    def version(self) -> Version | None:
        """Return which version of the published archive is here in part; None if `target` is no subset."""
        try:
            return read_record(self.note, Version, _NOTE_FORMAT, DownloadError, hint="")
        except DownloadError:
            return None

    def finished(self) -> list[Record]:
        """Return the members of the finished subset, none if there is none.

        Raises:
            DataError: it cannot be read.
        """
        if not self.note.exists() or not self.target.exists():
            return []
        with self.target.open("rb") as stream:
            found = read_directory(lambda at, n: _read_at(stream, at, n), self.target.stat().st_size, str(self.target))
        columns = (found.names.to_pylist(), *(c.tolist() for c in (found.method, found.crc, found.packed, found.size)))
        return [Record(*facts) for facts in zip(*columns, found.header.tolist(), strict=True)]

    def begun(self) -> list[Record]:
        """Return the members that are in the part; a torn last record is cut off, and so is a central directory.

        Raises:
            SpaceError, UsageError: the part cannot be written.
        """
        if not self.part.exists():
            return []
        with space_checked(self.part), self.part.open("r+b") as stream:
            records = list(_walk(stream, self.part.stat().st_size))
            stream.truncate(_end_of(records[-1]) if records else 0)
        return records

    def begin(self, version: Version) -> None:
        """Make ready to grow: note the version, and start from the finished subset if there is one."""
        make_folder(self.target.parent)
        was_subset = self.note.exists()
        if self.part.exists():
            write_record(self.note, version, _NOTE_FORMAT)
            return
        aside = self.part.with_suffix(".tmp")
        with space_checked(self.part), aside.open("wb") as copy:
            if was_subset and (records := self.finished()):
                with self.target.open("rb") as stream:
                    _copy(stream, copy, max(map(_end_of, records)))
        write_record(self.note, version, _NOTE_FORMAT)
        aside.replace(self.part)

    @contextmanager
    def growing(self) -> Iterator[BinaryIO]:
        """Give the part, to be written at its end."""
        with space_checked(self.part), self.part.open("ab") as stream:
            yield stream

    def finish(self, records: list[Record]) -> None:
        """Write the central directory, and give the zip its name when it is on the disk."""
        with self.growing() as stream:
            start = stream.tell()
            for record in records:
                stream.write(_entry(record))
            stream.write(_ending(len(records), start, stream.tell()))
            stream.flush()
            os.fsync(stream.fileno())
        self.part.replace(self.target)


def local_header(record: Record) -> bytes:
    """Return what stands before the packed bytes of a member.

    Raises:
        DataError: the member is too large for a plain record; images never are.
    """
    if max(record.packed, record.size) >= _MAX_32:
        raise DataError(f"{record.name} has {record.size} bytes: too large for an image")
    name = record.name.encode()
    flags = 0 if name.isascii() else _UTF_8
    return _LOCAL.pack(b"PK\x03\x04", 20, flags, record.method, 0, _DATE, record.crc, record.packed, record.size,
                       len(name), 0) + name  # fmt: skip


def _entry(record: Record) -> bytes:
    name = record.name.encode()
    is_far = record.header >= _MAX_32
    extra = struct.pack("<HHQ", 1, 8, record.header) if is_far else b""
    version = _ZIP64 if is_far else 20
    flags = 0 if name.isascii() else _UTF_8
    fixed = _ENTRY.pack(
        b"PK\x01\x02", 3 << 8 | version, version, flags, record.method, 0, _DATE, record.crc, record.packed,
        record.size, len(name), len(extra), 0, 0, 0, 0o644 << 16, _MAX_32 if is_far else record.header,
    )  # fmt: skip
    return fixed + name + extra


def _ending(count: int, start: int, end: int) -> bytes:
    """Return the end record, with the Zip64 ones before it where numbers are too large for it."""
    wide = b""
    if count >= _MAX_16 or start >= _MAX_32 or end - start >= _MAX_32:
        wide = _END_64.pack(b"PK\x06\x06", 44, 3 << 8 | _ZIP64, _ZIP64, 0, 0, count, count, end - start, start)
        wide += _LOCATOR_64.pack(b"PK\x06\x07", 0, end, 1)
    few = min(count, _MAX_16)
    return wide + _END.pack(b"PK\x05\x06", 0, 0, few, few, min(end - start, _MAX_32), min(start, _MAX_32), 0)


def _walk(stream: BinaryIO, length: int) -> Iterator[Record]:
    """Yield the records from the start on, as long as each is whole and its CRC is right."""
    at = 0
    while at + LOCAL_HEADER <= length:
        fixed = stream.read(LOCAL_HEADER)
        magic, _, _, method, _, _, crc, packed, size, name_length, extra = _LOCAL.unpack(fixed)
        if magic != b"PK\x03\x04" or extra or at + LOCAL_HEADER + name_length + packed > length:
            return
        rest = stream.read(name_length + packed)
        try:
            name = rest[:name_length].decode()
            content(fixed + rest, packed, size, crc, method, name)
        except (DataError, UnicodeDecodeError):
            return
        yield Record(name, method, crc, packed, size, at)
        at += LOCAL_HEADER + name_length + packed


def _end_of(record: Record) -> int:
    return record.header + LOCAL_HEADER + len(record.name.encode()) + record.packed


def _read_at(stream: BinaryIO, offset: int, length: int) -> bytes:
    stream.seek(offset)
    return stream.read(length)


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    """Copy the first bytes of a file."""
    while length > 0 and (chunk := source.read(min(1 << 20, length))):
        target.write(chunk)
        length -= len(chunk)
