"""Ranges of a remote file: some bytes of it, and the directory of a zip, which lies at its end."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dove_core.data.fetching.answers import WRONG_CONTENT, Version
from dove_core.data.fetching.servers import Origin
from dove_core.data.fetching.transfers import ChangedError, PassingError, Progress, Transfers
from dove_core.data.zips import ZipDirectory, read_directory
from dove_core.errors import DataError, DownloadError
from dove_core.files import atomic_file

_PIECE = 4 * 2**20  # bytes of a directory in one request
_CHANGED = "run the same command again: what is the same in the new version is kept"


def fetch_range(origin: Origin, start: int, end: int, version: Version, transfers: Transfers) -> bytes:
    """Return the bytes from `start` up to `end` of a file of this version.

    Raises:
        DownloadError: refused, missing, of another version now, or the retries are exhausted.
    """
    found = bytearray()

    def attempt() -> None:
        try:
            with origin.answer(start + len(found), end, version) as answer:
                if answer.offset != start + len(found):
                    raise PassingError("the server sent the whole file instead of a range")
                for chunk in answer.chunks:
                    transfers.check()
                    found.extend(chunk[: end - start - len(found)])  # some servers send more than requested
        except ChangedError as error:
            raise DownloadError(f"{origin.address} has changed while it was fetched", hint=_CHANGED) from error
        if len(found) < end - start:
            raise PassingError(f"the connection ended after {len(found)} of {end - start} bytes")

    transfers.persist(attempt, origin.address, position=lambda: len(found))
    return bytes(found)


class KeptDirectory:
    """The directory of a remote zip, kept in a file of this machine under its version."""

    def __init__(self, folder: Path, name: str, version: Version) -> None:
        tag = hashlib.sha256(f"{version.mark} {version.size}".encode()).hexdigest()[:16]
        self._folder, self._name, self._version = folder, name, version
        self._path = folder / f"{name}-{tag}.directory"

    def read(self) -> ZipDirectory | None:
        """Return the directory; None if it is not here."""
        size = self._version.size
        if self._version.mark is None or size is None or not self._path.is_file():
            return None
        tail = self._path.read_bytes()
        start = size - len(tail)
        try:
            return read_directory(lambda at, length: tail[at - start : at - start + length], size, str(self._path))
        except DataError:
            self._path.unlink()
            return None

    def fetch(self, origin: Origin, transfers: Transfers) -> ZipDirectory:
        """Fetch the end of the zip with its directory, and keep it.

        Raises:
            DownloadError: refused, missing, not a zip, of another version now, or the retries are exhausted.
        """
        size, tail = self._version.size, b""
        assert size is not None

        def read(offset: int, length: int) -> bytes:
            nonlocal tail
            if offset < size - len(tail):
                tail = self._range(origin, offset, size - len(tail), transfers) + tail
            return tail[offset - size + len(tail) :][:length]

        try:
            directory = read_directory(read, size, origin.address)
        except DataError as error:
            raise DownloadError(error.message, hint=WRONG_CONTENT) from error
        if self._version.mark is not None:
            for older in self._folder.glob(f"{self._name}-*.directory"):
                older.unlink()
            with atomic_file(self._path) as stream:
                stream.write(tail)
        return directory

    def _range(self, origin: Origin, start: int, end: int, transfers: Transfers) -> bytes:
        """Return a range, in pieces that are fetched at once."""
        progress = Progress(f"directory of {self._name}", transfers)
        progress.begin(0, end - start)

        def piece(at: int) -> tuple[int, bytes]:
            data = fetch_range(origin, at, min(at + _PIECE, end), self._version, transfers)
            progress.advance(len(data))
            return at, data

        pieces = sorted(transfers.at_once(piece, range(start, end, _PIECE)))
        progress.end()
        return b"".join(data for _, data in pieces)
