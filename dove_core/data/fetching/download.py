"""One URL -> one verified file.

Bytes go to `NAME.part` beside the target, and `NAME.part.json` says which version of the remote file they belong to.
The target itself appears by a rename, once its length, its first bytes and its MD5 sum are right. A kill, a dropped
connection or a full disk therefore loses nothing: the next call asks the server for the missing bytes only.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import httpx

from dove_core.data.fetching.answers import (
    OTHER_CONTENT,
    PATIENT,
    PLAIN,
    PassingError,
    Patience,
    Version,
    check_answer,
    persist,
    version_of,
)
from dove_core.errors import DownloadError
from dove_core.events import Advanced, Noted, Report, Saved, Started, silent
from dove_core.files import make_folder, read_record, space_checked, write_record

_NOTE_FORMAT = 1
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an archive without members
_TABLE_MARGIN = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and blanks may stand before a table


def download(
    url: str,
    target: Path,
    *,
    client: httpx.Client,
    size: int | None = None,
    md5: str | None = None,
    md5_source: str = "the caller",
    patience: Patience = PATIENT,
    report: Report = silent,
) -> None:
    """Fetch `url` into `target`, going on where an earlier call stopped.

    A file that has changed on the server meanwhile starts over, which a `Noted` and a second `Started` tell. After an
    MD5 mismatch the whole `.part` stays: another call without `md5` takes it as it is, without fetching it again.

    Args:
        url: where the file lies.
        target: what it becomes; its ending (.zip, .csv) says which first bytes are believed.
        client: makes the requests, with its own proxies, and its timeout for a silent server.
        size: length in bytes, believed if the server does not tell it along with the file.
        md5: expected sum, 32 hexadecimal digits; None: no check.
        md5_source: who states that sum, for the error.
        patience: how often and how long to retry.
        report: receives Started, Advanced, Noted and Saved.

    Raises:
        DownloadError: refused, missing, another kind of file, wrong sum, or patience is at its end.
        SpaceError: the disk is full.
    """
    part = _Part(target)
    make_folder(target.parent)
    progress = _Progress(f"fetch {target.name}", report)
    persist(
        lambda: _receive(url, part, client, size, progress, report),
        url,
        hint=f"run the same command again later: what is kept in {part.path} is not fetched twice",
        patience=patience,
        reached=part.length,
        report=report,
    )
    part.check_start(url)
    if md5 is not None:
        check_md5(part.path, md5, md5_source, report=report)
    part.finish()
    report(Saved(target))


def partial_length(target: Path) -> int:
    """Return how many bytes of `target` an unfinished download keeps."""
    part = _Part(target)
    return part.length() if part.version() else 0


def check_md5(path: Path, md5: str, source: str, *, report: Report = silent) -> None:
    """Hold the bytes of `path` to an MD5 sum; the file stays, whatever comes out.

    Raises:
        DownloadError: the sum is another one; the message says who stated it.
    """
    digest = hashlib.md5(usedforsecurity=False)
    progress = _Progress(f"verify {path.name.removesuffix('.part')}", report)
    progress.at(0, path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            progress.advance(len(chunk))
    progress.flush()
    if digest.hexdigest() != md5.lower():
        hint = (
            f"delete {path} and run the same command again to fetch it anew; if the sum is wrong again, the file may "
            "have been renewed since the sum was taken: --no-checksums accepts it as it is"
        )
        raise DownloadError(f"{path} has the MD5 sum {digest.hexdigest()}, not {md5} as stated by {source}", hint=hint)


def _receive(
    url: str, part: _Part, client: httpx.Client, size: int | None, progress: _Progress, report: Report
) -> None:
    """Bring `part` to its full length with one request."""
    kept = part.version()
    offset = part.length() if kept else 0
    if kept and kept.size == offset:
        if size in (None, offset):
            progress.at(offset, offset)
            return
        kept, offset = None, 0  # whole, but meanwhile the server has told another length
    asked = {**PLAIN, "Range": f"bytes={offset}-", "If-Range": kept.mark or ""} if kept else PLAIN
    with client.stream("GET", url, headers=asked, follow_redirects=True) as answer:
        offset, told = _place_of(answer, url, part, kept, size, report)
        progress.at(offset, told.size)
        end = part.append(answer.iter_raw(), offset, told.size, progress)
    if told.size is not None and end > told.size:
        part.discard()
        raise PassingError(f"the server sent more than the {told.size} bytes it announced")
    if told.size is not None and end < told.size:
        raise PassingError(f"the server broke off after {end} of {told.size} bytes")


def _place_of(
    answer: httpx.Response, url: str, part: _Part, kept: Version | None, size: int | None, report: Report
) -> tuple[int, Version]:
    """Return where an answer's bytes belong and what they are of; make `part` ready for them."""
    changed = "the file has changed on the server"
    if kept and answer.status_code == 416:  # it has become shorter than what is here
        part.discard()
        raise PassingError(f"{changed}: starting over")
    check_answer(answer)
    offset = part.length() if kept else 0
    told = version_of(answer, offset, size)
    if answer.status_code == 206 and offset:
        if kept and not kept.agrees_with(told):  # a server that passes over If-Range
            part.discard()
            raise PassingError(f"{changed}: starting over")
        return offset, told
    if kept:
        report(Noted(f"{url}: {'the server cannot resume' if kept.agrees_with(told) else changed}: starting over"))
    part.begin(told)
    return 0, told


class _Part:
    """The bytes that are here so far, and the note of which version they are."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> Version | None:
        """Return which version is here, whole or in part; None if there is nothing to go on from."""
        try:
            version = read_record(self.note, Version, _NOTE_FORMAT, DownloadError, hint="")
        except DownloadError:  # without a readable note nobody knows what the bytes are
            return None
        length = self.length()
        begun = version.mark is not None and length > 0 and (version.size is None or length < version.size)
        return version if begun or length == version.size else None

    def begin(self, version: Version) -> None:
        """Forget what is here; the note is on disk before the first byte is."""
        self.discard()
        write_record(self.note, version, _NOTE_FORMAT)

    def append(self, chunks: Iterable[bytes], offset: int, size: int | None, progress: _Progress) -> int:
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

    def check_start(self, url: str) -> None:
        """Refuse, and remove, what by its first bytes is not what the target's ending says."""
        with self.path.open("rb") as stream:
            start = stream.read(1024)
        ending, problem = self.target.suffix.lower(), ""
        if not start:
            problem = "it is empty"
        elif ending == ".zip" and not start.startswith(_ZIP_STARTS):
            problem = f"it begins with {start[:8]!r}, not as a zip archive does"
        elif ending == ".csv" and (b"\0" in start or start.lstrip(_TABLE_MARGIN).startswith(b"<")):
            problem = f"it begins with {start[:8]!r}, not as a table does"
        if problem:
            self.discard()
            raise DownloadError(f"what came from {url} is not {self.target.name}: {problem}", hint=OTHER_CONTENT)

    def finish(self) -> None:
        """Put the bytes on disk for good, then give them their name."""
        with space_checked(self.path), self.path.open("r+b") as stream:
            os.fsync(stream.fileno())
        self.path.replace(self.target)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class _Progress:
    """Reports how much of a file is here, ten times a second at most."""

    def __init__(self, task: str, report: Report) -> None:
        self._task, self._report = task, report
        self._position: int | None = None
        self._pending, self._told = 0, 0.0

    def at(self, position: int, total: int | None) -> None:
        """Tell where the next bytes belong: news at the first call, and when a file starts over."""
        if position != self._position:
            self._report(Started(self._task, total, "B", position))
        self._position = position

    def advance(self, amount: int) -> None:
        self._position = (self._position or 0) + amount
        self._pending += amount
        if time.monotonic() - self._told >= 0.1:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            self._report(Advanced(self._task, self._pending))
        self._pending, self._told = 0, time.monotonic()
