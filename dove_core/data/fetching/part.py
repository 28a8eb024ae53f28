"""A file that is not whole yet: its bytes, and notes that say which version they are of and which of them are here.

`NAME.part` holds the bytes and `NAME.part.json` the version. A file that comes in one stream has all bytes up to the
length of its part. One that comes in segments has a sparse part of full length, and `NAME.part.journal` says how many
bytes of each segment are written: one 64-bit number a segment, changed after the bytes are written.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dove_core.data.fetching.answers import OTHER_CONTENT, Version
from dove_core.data.fetching.progress import Progress
from dove_core.errors import DownloadError
from dove_core.files import read_record, space_checked, write_record

_NOTE_FORMAT = 1
_SEGMENT_NOTE_FORMAT = 2
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an archive without members
_TABLE_MARGIN = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and blanks may stand before a table


@dataclass(frozen=True)
class _SegmentNote:
    mark: str
    size: int
    segment: int


class Part:
    """The bytes that are here so far, and the notes beside them."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")
        self.journal = target.with_name(f"{target.name}.part.journal")

    def length(self) -> int:
        """Return how many bytes are here, if they came in one stream."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> Version | None:
        """Return which version one stream has brought, whole or in part; None if there is nothing to go on from."""
        try:
            version = read_record(self.note, Version, _NOTE_FORMAT, DownloadError, hint="")
        except DownloadError:  # without a readable note nobody knows what the bytes are
            return None
        length = self.length()
        begun = version.mark is not None and length > 0 and (version.size is None or length < version.size)
        return version if begun or length == version.size else None

    def segments(self) -> Segments | None:
        """Return the segments that are here; None if the file does not come in segments."""
        try:
            note = read_record(self.note, _SegmentNote, _SEGMENT_NOTE_FORMAT, DownloadError, hint="")
            counts = array("q", self.journal.read_bytes())
            is_sound = note.segment > 0 and self.length() == note.size
        except (DownloadError, OSError, ValueError):
            return None
        found = Segments(Version(note.mark, note.size), note.segment, counts)
        return found if is_sound and found.is_sound() else None

    def begin(self, version: Version) -> None:
        """Forget what is here; the note is on disk before the first byte is."""
        self.discard()
        write_record(self.note, version, _NOTE_FORMAT)

    def begin_segments(self, version: Version, segment: int) -> Segments:
        """Make ready for segments, keeping what one stream has brought of the same version; the note comes last."""
        assert version.mark is not None and version.size is not None
        kept = self.version()
        done = self.length() if kept is not None and kept.mark == version.mark and kept.size == version.size else 0
        counts = array("q", (min(segment, max(0, done - at)) for at in range(0, version.size, segment)))
        if not done:
            self.discard()
        with space_checked(self.path):
            self.journal.write_bytes(counts.tobytes())
            write_record(self.note, _SegmentNote(version.mark, version.size, segment), _SEGMENT_NOTE_FORMAT)
            with self.path.open("ab") as stream:
                stream.truncate(version.size)
        return Segments(version, segment, counts)

    def append(self, chunks: Iterable[bytes], offset: int, size: int | None, progress: Progress) -> int:
        """Write from `offset` on; return the end, which lies beyond `size` if the server sends more than that."""
        with space_checked(self.path), self.path.open("r+b" if offset else "wb") as stream:
            stream.seek(offset)
            try:
                for chunk in chunks:
                    offset += len(chunk)
                    if size is not None and offset > size:
                        break
                    stream.write(chunk)
                    progress.advance(len(chunk))
            finally:
                progress.flush()
        return offset

    @contextmanager
    def files(self) -> Iterator[tuple[int, int]]:
        """Give the descriptors of part and journal, open for writing in place."""
        with space_checked(self.path), self.path.open("r+b") as data, self.journal.open("r+b") as journal:
            yield data.fileno(), journal.fileno()

    def check_start(self, address: str) -> None:
        """Refuse, and remove, what by its first bytes is not what the target's ending says."""
        with self.path.open("rb") as stream:
            problem = start_problem(stream.read(1024), self.target)
        if problem:
            self.discard()
            raise DownloadError(f"what came from {address} is not {self.target.name}: {problem}", hint=OTHER_CONTENT)

    def finish(self) -> None:
        """Put the bytes on disk for good, then give them their name."""
        with space_checked(self.path), self.path.open("r+b") as stream:
            os.fsync(stream.fileno())
        subset_note(self.target).unlink(missing_ok=True)  # before the name: nothing whole is ever called a subset
        self.path.replace(self.target)
        self.forget()

    def forget(self) -> None:
        """Remove notes whose part is gone."""
        if not self.path.exists():
            self.note.unlink(missing_ok=True)
            self.journal.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what is here."""
        for path in (self.note, self.path, self.journal):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Segments:
    """Bytes written of each segment of a file; `segment` is the length of all but the last."""

    version: Version
    segment: int
    counts: array[int]

    def length(self, number: int) -> int:
        """Return how many bytes a segment has."""
        assert self.version.size is not None
        return min(self.segment, self.version.size - number * self.segment)

    def missing(self) -> list[int]:
        """Return the numbers of the segments that are not whole."""
        return [number for number, count in enumerate(self.counts) if count < self.length(number)]

    def is_sound(self) -> bool:
        """Say whether the counts can be true."""
        size = self.version.size or 0
        right_number = len(self.counts) == -(-size // self.segment)
        return right_number and all(0 <= count <= self.length(number) for number, count in enumerate(self.counts))


def subset_note(target: Path) -> Path:
    """Return the note that says that `target` is only some of the published file."""
    return target.with_name(f"{target.name}.subset.json")


def partial_length(target: Path) -> int:
    """Return how many bytes of `target` an unfinished download keeps."""
    part = Part(target)
    segments = part.segments()
    if segments is not None:
        return sum(segments.counts)
    return part.length() if part.version() else 0


def start_problem(start: bytes, target: Path) -> str:
    """Say why a file that begins with these bytes is not what the ending of `target` says; "" if it may be."""
    ending = target.suffix.lower()
    if not start:
        return "it is empty"
    if ending == ".zip" and not start.startswith(_ZIP_STARTS):
        return f"it begins with {start[:8]!r}, not as a zip archive does"
    if ending == ".csv" and (b"\0" in start or start.lstrip(_TABLE_MARGIN).startswith(b"<")):
        return f"it begins with {start[:8]!r}, not as a table does"
    return ""
