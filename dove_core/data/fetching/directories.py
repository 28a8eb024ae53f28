"""The directory of a zip that lies elsewhere, read by ranges and kept beside the data."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dove_core.data.fetching.answers import Pace, Version
from dove_core.data.fetching.origins import Origin
from dove_core.data.fetching.progress import Progress
from dove_core.data.fetching.segments import at_once, fetch_range
from dove_core.data.zips import ZipDirectory, read_directory
from dove_core.errors import DataError
from dove_core.events import Report, silent
from dove_core.files import atomic_file

_PIECE = 4 * 2**20
_KEEP_SUFFIX = ".directory"


def remote_directory(
    origin: Origin, version: Version, name: str, kept_in: Path, *, pace: Pace, report: Report = silent
) -> ZipDirectory:
    """Fetch the directory of a zip, and keep it in a folder for later calls.

    Raises:
        ChangedError: the zip is of another version now.
        DataError: it is no zip.
        DownloadError: refused, missing, or patience is at its end.
    """
    assert version.size is not None
    end = _End(origin, version, name, pace, report)
    directory = read_directory(end.read, version.size, origin.address)
    if version.mark is not None:
        for old in kept_in.glob(f"{name}-*{_KEEP_SUFFIX}"):
            old.unlink()
        with atomic_file(_place(version, name, kept_in)) as stream:
            stream.write(end.bytes)
    return directory


def kept_directory(version: Version, name: str, kept_in: Path) -> ZipDirectory | None:
    """Return the directory of a zip of this version, if an earlier call kept it."""
    place = _place(version, name, kept_in)
    if version.mark is None or version.size is None or not place.is_file():
        return None
    end = place.read_bytes()
    start = version.size - len(end)
    try:
        return read_directory(lambda at, length: end[at - start : at - start + length], version.size, str(place))
    except DataError:
        place.unlink()
        return None


def _place(version: Version, name: str, kept_in: Path) -> Path:
    tag = hashlib.sha256(f"{version.mark} {version.size}".encode()).hexdigest()[:16]
    return kept_in / f"{name}-{tag}{_KEEP_SUFFIX}"


class _End:
    """The last bytes of a remote file: as many as were asked for so far, none of them fetched twice."""

    def __init__(self, origin: Origin, version: Version, name: str, pace: Pace, report: Report) -> None:
        assert version.size is not None
        self._origin, self._version, self._pace, self._report = origin, version, pace, report
        self._start, self.bytes, self._task = version.size, b"", f"directory of {name}"

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` on."""
        if offset < self._start:
            self._extend(offset)
        return self.bytes[offset - self._start : offset - self._start + length]

    def _extend(self, offset: int) -> None:
        progress = Progress(self._task, self._report if self.bytes else silent)  # the very end is soon here
        progress.at(0, self._start - offset)
        starts = range(offset, self._start, _PIECE)
        pieces: dict[int, bytes] = {}
        for start, piece in at_once(
            lambda start, stop: fetch_range(self._origin, start, min(start + _PIECE, self._start), self._version,
                                            pace=self._pace, stop=stop, report=self._report),
            starts, self._pace.connections,
        ):  # fmt: skip
            pieces[start] = piece
            progress.advance(len(piece))
        progress.flush()
        self.bytes = b"".join(pieces[start] for start in starts) + self.bytes
        self._start = offset
