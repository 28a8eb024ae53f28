"""The reader of the files that a plan names: members of zips by offset, or files of folders."""

from __future__ import annotations

import os
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dove_core.data.zips import Read, content, record_length
from dove_core.errors import DataError
from dove_core.names import real_name

_OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class MemberLocation:
    """Where one file lies: in the zip or folder number `place`, under `name`; `header` is -1 in a folder."""

    place: int
    name: str
    header: int
    length: int
    packed: int
    size: int
    crc: int
    method: int

    @classmethod
    def of(cls, row: Mapping[str, Any], prefix: str) -> MemberLocation | None:
        """Return the location in a plan's row, None if there is none."""
        if row[f"{prefix}place"] is None:
            return None
        return cls(*(row[prefix + name] for name in cls.__slots__))


class NoImageError(DataError):
    """A row has no image. Caught within a shard's task."""


class LostSourceError(Exception):
    """A whole zip or Parquet file cannot be read any more, or has changed. Caught within a shard's task."""


class MemberReader:
    """Reads from the zips and folders of a release, which are opened when first read."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = list(places)
        self._versions: dict[int, tuple[int, int]] = {}
        self._stems = [stem_of(place) for place in places]
        self._files: OrderedDict[int, int] = OrderedDict()

    def __del__(self) -> None:
        """Close the zips."""
        for file in self.__dict__.get("_files", {}).values():
            os.close(file)

    def expect(self, locations: Sequence[MemberLocation]) -> None:
        """Tell the operating system what is read next, so that a slow disk can read it in one sweep."""
        for where in sorted((where for where in locations if where.header >= 0), key=lambda w: (w.place, w.header)):
            try:
                os.posix_fadvise(self._file(where), where.header, where.length, os.POSIX_FADV_WILLNEED)
            except (OSError, AttributeError):  # not supported by every system and disk
                return

    def read(self, where: MemberLocation, limit: int) -> bytes:
        """Return a file's bytes; those from a zip have their CRC checked.

        Raises:
            DataError: the file is damaged, encrypted, cannot be read, or has more than `limit` bytes.
            LostSourceError: the zip cannot be read.
        """
        name = f"{self._stems[where.place]}/{where.name}"
        if max(where.size, where.packed) > limit:
            raise DataError(f"{name} has {where.size} bytes, more than {limit}")
        if where.header < 0:
            return self._read_file(self._places[where.place] / real_name(where.name), name)
        try:
            length = record_length(where.header, where.header + where.length, where.packed)
            record = os.pread(self._file(where), length, where.header)
        except OSError as error:
            raise LostSourceError(f"{self._places[where.place]} cannot be read: {error.strerror or error}") from error
        return content(record, where.packed, where.size, where.crc, where.method, name)

    def check_unchanged(self) -> None:
        """Check that no zip was written to since it was opened.

        Raises:
            LostSourceError: a zip was written to.
        """
        for place, file in self._files.items():
            if _version(file) != self._versions[place]:
                raise LostSourceError(f"{self._places[place]} was changed while it was read")

    @staticmethod
    def _read_file(path: Path, name: str) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            decomposed = path.with_name(unicodedata.normalize("NFD", path.name))  # as macOS writes names
            if decomposed != path and decomposed.exists():
                return decomposed.read_bytes()
            raise DataError(f"{name} does not exist any more") from None
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror or error}") from error

    def _file(self, where: MemberLocation) -> int:
        if where.place not in self._files:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            file = os.open(self._places[where.place], os.O_RDONLY)
            self._files[where.place], self._versions[where.place] = file, _version(file)
        self._files.move_to_end(where.place)
        return self._files[where.place]


def _version(file: int) -> tuple[int, int]:
    facts = os.fstat(file)
    return facts.st_size, facts.st_mtime_ns


def stem_of(place: Path) -> str:
    """Return the first folder in the names of files from this zip or folder."""
    stem = place.resolve().name if place.is_dir() else place.stem
    return stem.encode("utf-8", "replace").decode()


@contextmanager
def open_zip(path: Path) -> Iterator[tuple[Read, int]]:
    """Yield a function that reads byte ranges of a file, and the file's length in bytes.

    Raises:
        DataError: the file cannot be opened.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read as a zip: {error.strerror}", hint="check the file's permissions"
        ) from error
    try:
        yield lambda offset, length: _read_all(file, offset, length), os.fstat(file).st_size
    finally:
        os.close(file)


def _read_all(file: int, offset: int, length: int) -> bytes:
    """Read a byte range of a file; one system call returns at most 2 GiB."""
    pieces = []
    while length > 0 and (piece := os.pread(file, min(length, 2**30), offset)):
        pieces.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
