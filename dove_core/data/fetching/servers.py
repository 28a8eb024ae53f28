"""Files on a web server, or in a folder that fsspec reaches (`/data/copy`, `file://`, `s3://`, `gs://`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import httpx

from dove_core.buckets import fact_of
from dove_core.data.fetching.clients import shown
from dove_core.data.fetching.transfers import ChangedError, PassingError
from dove_core.errors import DownloadError

Presence = Literal["present", "missing", "forbidden", "unusable", "unreachable"]

WRONG_CONTENT = (
    "the file may have moved, or the server sent a login or proxy page instead: open the address in a browser, "
    "or choose another server with --mirror"
)
_REFUSED = (
    "either there is no such file (a bucket that does not allow listing answers 403 for a missing file too) or access "
    "is refused: check the address, or choose another server with --mirror"
)
_LOGIN = "give name and password in the address: --mirror https://NAME:PASSWORD@HOST/FOLDER"
_ADDRESS = "check the address, or choose another server with --mirror"
_CREDENTIALS = "check your credentials for this place; FSSPEC_S3_ANON=true reads a public bucket without credentials"
_BLOCK = 4 * 2**20  # bytes of one read through fsspec
_PLAIN = {"Accept-Encoding": "identity"}  # ranges and lengths of the file itself, not of a compressed form
_PRESENCE: dict[int, Presence] = {401: "forbidden", 403: "forbidden", 404: "missing", 410: "missing"}
_PASSING_STATUS = (408, 425, 429)
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an archive without members
PARQUET = b"PAR1"  # a Parquet file begins and ends with it
_TABLE_MARGIN = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and blanks may stand before a table


@dataclass(frozen=True)
class Version:
    """What distinguishes one version of a remote file from the next; None where the server does not say.

    `mark` is the strong ETag, or else the date of the last change: a value for `If-Range`. `size` is in bytes.
    """

    mark: str | None
    size: int | None

    def agrees_with(self, other: Version) -> bool:
        """Return whether both can be the same version."""
        pairs = ((self.mark, other.mark), (self.size, other.size))
        return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)


@dataclass(frozen=True)
class Remote:
    """What an address has: whether the file is there, which version, whether ranges can be requested, or why not."""

    presence: Presence
    version: Version = Version(None, None)
    has_ranges: bool = False
    problem: DownloadError | None = None


@dataclass(frozen=True)
class Answer:
    """Bytes of a file of this version, from `offset` on."""

    offset: int
    version: Version
    chunks: Iterator[bytes]


class WebFile:
    """A file on a web server; requests raise PassingError or httpx.TransportError where a retry may help."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client = url, client
        self._has_steady_tags = True

    @property
    def address(self) -> str:
        """Return the address for messages, without password and signature."""
        return shown(self._url)

    def examine(self) -> Remote:
        """Request one byte: that shows length, version and ranges, where some servers refuse HEAD."""
        headers = {**_PLAIN, "Range": "bytes=0-0"}
        with self._client.stream("GET", self._url, headers=headers, follow_redirects=True) as answer:
            if answer.status_code == 416:  # an empty file has no first byte
                return Remote("present", Version(None, 0))
            try:
                self._check(answer)
            except DownloadError as error:
                return Remote(_PRESENCE.get(answer.status_code, "unusable"), problem=error)
            return Remote("present", self._version_in(answer, 0), has_ranges=_is_range(answer))

    def settled(self, version: Version) -> Version:
        """Return a version as answers can be compared with it: without its ETag if each answer has another one.

        Some servers make a file again for each request, or several give it ETags of their own. From then on this file's
        versions have the date of the last change instead, if there is one.
        """
        if not _is_tag(version.mark) or not self._has_steady_tags:
            return self._comparable(version)
        now = self.examine().version
        is_other = now.mark != version.mark and now.size is not None and now.size == version.size
        if is_other and self.examine().version.mark != now.mark:
            self._has_steady_tags = False
        return self._comparable(version)

    def kept_elsewhere(self, version: Version) -> Path | None:
        """Return the same version of the file in another program's cache on this machine; a web server has none."""
        return None

    @contextmanager
    def answer(self, start: int = 0, end: int | None = None, kept: Version | None = None) -> Iterator[Answer]:
        """Give the bytes from `start` up to `end`, or the whole file if the server does not serve ranges.

        Raises:
            ChangedError: the file is not of the version `kept`.
            DownloadError: it cannot be fetched.
        """
        headers = dict(_PLAIN)
        kept = None if kept is None else self._comparable(kept)
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
            headers |= self._condition(kept)
        with self._client.stream("GET", self._url, headers=headers, follow_redirects=True) as response:
            if kept is not None and response.status_code == 416:  # it is shorter now
                raise ChangedError
            self._check(response)
            offset = start if _is_range(response) else 0
            version = self._version_in(response, offset, kept)
            # A server may ignore If-Range, and send the whole of another version where a range was requested.
            if kept is not None and (offset or end is not None) and not kept.agrees_with(version):
                raise ChangedError
            yield Answer(offset, version, response.iter_raw())

    def _check(self, answer: httpx.Response) -> None:
        """Check that an answer is successful and carries the file."""
        check_answer(answer)

    def _version_in(self, answer: httpx.Response, offset: int, kept: Version | None = None) -> Version:
        """Return which version an answer's bytes belong to, with the kind of mark that `kept` has."""
        is_dated = kept is not None and kept.mark is not None and not _is_tag(kept.mark)
        return _version_of(answer, offset, by_tag=self._has_steady_tags and not is_dated)

    def _comparable(self, version: Version) -> Version:
        """Return a version without its ETag if each answer has another one."""
        return version if self._has_steady_tags or not _is_tag(version.mark) else replace(version, mark=None)

    def _condition(self, kept: Version | None) -> dict[str, str]:
        """Return the header that requests a range of this version only."""
        return {} if kept is None or kept.mark is None else {"If-Range": kept.mark}


class StoredFile:
    """A file in a folder or bucket that fsspec reaches; it has the methods of `WebFile`."""

    def __init__(self, files: Any, path: str) -> None:
        self._files, self._path = files, path

    @property
    def address(self) -> str:
        """Return the path, with its protocol if it is not on this machine."""
        return shown(str(self._files.unstrip_protocol(self._path)).removeprefix("file://"))

    def examine(self) -> Remote:
        """Ask for length and mark."""
        try:
            return Remote("present", self._version(), has_ranges=True)
        except DownloadError as error:
            presence: Presence = "forbidden" if isinstance(error.__cause__, PermissionError) else "missing"
            return Remote(presence, problem=error)

    def settled(self, version: Version) -> Version:
        """Return the version: its mark stays until the file changes."""
        return version

    def kept_elsewhere(self, version: Version) -> Path | None:
        """Return None: no other program's cache is known."""
        return None

    @contextmanager
    def answer(self, start: int = 0, end: int | None = None, kept: Version | None = None) -> Iterator[Answer]:
        """Read a range in blocks; the version is compared before the first and after each."""
        version = self._version()
        if kept is not None and not kept.agrees_with(version):
            raise ChangedError
        assert version.size is not None
        yield Answer(start, version, self._blocks(start, version.size if end is None else end, version))

    def _blocks(self, start: int, end: int, version: Version) -> Iterator[bytes]:
        for at in range(start, end, _BLOCK):
            with self._errors_translated():
                block: bytes = self._files.cat_file(self._path, start=at, end=min(end, at + _BLOCK))
            if self._version() != version:
                raise ChangedError
            yield block

    def _version(self) -> Version:
        with self._errors_translated():
            facts = self._files.info(self._path)
        if facts.get("type") == "directory":
            raise DownloadError(f"{self.address} is a folder, not a file", hint=_ADDRESS)
        size, mark = fact_of(facts)
        return Version(mark or None, size)

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        """Turn a file system's error into one that names the address, or into one that may pass."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DownloadError(f"{self.address} does not exist", hint=_ADDRESS) from error
        except Exception as error:  # each file system has errors of its own
            if isinstance(error, PermissionError) or "CredentialsError" in type(error).__name__:
                raise DownloadError(f"{self.address} cannot be read: {error}", hint=_CREDENTIALS) from error
            raise PassingError(str(error) or type(error).__name__) from error


Origin = WebFile | StoredFile


def content_problem(start: bytes, name: str) -> str:
    """Return why a file that begins with these bytes cannot be what the ending of `name` says; "" if it can be."""
    ending = PurePosixPath(name).suffix.lower()
    if not start:
        return "it is empty"
    if ending == ".zip" and not start.startswith(_ZIP_STARTS):
        return f"it begins with {start[:8]!r}, which is not the start of a zip archive"
    if ending == ".parquet" and not start.startswith(PARQUET):
        return f"it begins with {start[:8]!r}, which is not the start of a Parquet file"
    if ending == ".csv" and (b"\0" in start or start.lstrip(_TABLE_MARGIN).startswith(b"<")):
        return f"it begins with {start[:8]!r}, which is not the start of a table"
    return ""


def check_answer(answer: httpx.Response) -> None:
    """Check that an answer is successful and carries the file, or a range of it, not a web page.

    Raises:
        DownloadError: it is not.
        PassingError: a retry may help.
    """
    status, url = f"{answer.status_code} {answer.reason_phrase}".rstrip(), shown(str(answer.url))
    if answer.status_code in _PASSING_STATUS or answer.status_code >= 500:
        raise PassingError(f"the server answered {status}", _asked_wait(answer.headers.get("Retry-After", "")))
    if answer.status_code == 403:
        raise DownloadError(f"the server refused {url} ({status})", hint=_REFUSED)
    if answer.status_code == 401:
        raise DownloadError(f"{url} needs a login: the server answered {status}", hint=_LOGIN)
    if answer.status_code not in (200, 206):
        raise DownloadError(f"{url} cannot be fetched: the server answered {status}", hint=_ADDRESS)
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and PurePosixPath(answer.url.path).suffix not in (
        ".html",
        ".htm",
    ):
        raise DownloadError(f"{url} returned a web page ({kind}), not the file", hint=WRONG_CONTENT)
    coding = answer.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity":
        raise DownloadError(f"{url} is sent compressed ({coding}), although not requested", hint=WRONG_CONTENT)


def _is_range(answer: httpx.Response) -> bool:
    """Return whether an answer has a range of the file; some servers send one with the status 200."""
    if answer.status_code == 206:
        return True
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    return match is not None and (int(match[1]) > 0 or str(int(match[2]) + 1) != match[3])


def _is_tag(mark: str | None) -> bool:
    """Return whether a mark is a strong ETag; else it is a date."""
    return mark is not None and mark.startswith('"')


def _version_of(answer: httpx.Response, offset: int, *, by_tag: bool) -> Version:
    """Return which version an answer's bytes belong to; they must begin at `offset`."""
    etag = answer.headers.get("ETag", "")
    mark = etag if by_tag and _is_tag(etag) and etag != '""' else answer.headers.get("Last-Modified")
    length = answer.headers.get("Content-Length", "")
    if _is_range(answer):
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            raise PassingError("the server sent another range of the file than requested")
        length = match[2]
    return Version(mark, int(length) if length.isdigit() else None)


def _asked_wait(asked: str) -> float:
    """Return the seconds that `Retry-After` asks for, as a number or as a date; 0 if it is neither."""
    if asked.isdecimal():
        return float(asked)
    try:
        moment = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
