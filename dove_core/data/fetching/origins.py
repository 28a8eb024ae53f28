"""Where files come from: a web server, or a folder that fsspec reaches (`/data/copy`, `file://`, `s3://`, `gs://`)."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from dove_core.buckets import file_system
from dove_core.data.fetching.answers import (
    PATIENT,
    PLAIN,
    Answer,
    ChangedError,
    PassingError,
    Patience,
    Remote,
    Version,
    check_answer,
    persist,
    version_of,
)
from dove_core.errors import DownloadError, UsageError
from dove_core.events import Report, silent

_BLOCK = 4 * 2**20  # bytes of one read through fsspec
_SILENCE = 30.0  # seconds without a byte before a connection is given up
_PRESENCE = {403: "forbidden", 404: "missing", 410: "missing"}


class Origin(Protocol):
    """One file, wherever it lies."""

    @property
    def address(self) -> str:
        """Say where it lies, for people."""

    def examine(self) -> Remote:
        """Say whether the file is there, how long it is, and which version.

        Raises:
            PassingError, httpx.TransportError: nobody knows for the moment; asking again may help.
        """

    def answer(
        self, start: int = 0, end: int | None = None, kept: Version | None = None
    ) -> AbstractContextManager[Answer]:
        """Give the bytes from `start` up to `end`, or more of them than asked for if there is no other way.

        Args:
            start: first byte.
            end: byte behind the last one; None: to the end of the file.
            kept: the version of the bytes that are here already; another one is never mixed with it.

        Raises:
            ChangedError: the file is not of the version `kept`.
            PassingError, httpx.TransportError: a failure that may pass.
            DownloadError: one that cannot.
        """


def probe(
    origin: Origin,
    *,
    patience: Patience = PATIENT,
    pause: Callable[[float], None] = time.sleep,
    report: Report = silent,
) -> Remote:
    """Say what there is at an address, whether it can be fetched or not.

    Raises:
        DownloadError: nobody answers, and patience is at its end.
    """
    hint = "check the network and the address, or name another server with --mirror"
    return persist(origin.examine, origin.address, hint=hint, patience=patience, pause=pause, report=report)


class WebFile:
    """A file on a web server."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client = url, client

    @property
    def address(self) -> str:
        """Return the URL."""
        return self._url

    def examine(self) -> Remote:
        """Ask with HEAD, or else for one byte."""
        try:
            head = self._client.head(self._url, headers=PLAIN, follow_redirects=True)
            if head.status_code == 200 and head.headers.get("Content-Length", "").isdigit():
                return _judged(head)
        except httpx.TransportError:  # some servers hang up on HEAD
            pass
        # Some refuse HEAD and serve GET: ask for one byte, and hang up if everything comes.
        headers = {**PLAIN, "Range": "bytes=0-0"}
        with self._client.stream("GET", self._url, headers=headers, follow_redirects=True) as answer:
            if answer.status_code == 416:  # an empty file has no first byte
                return Remote("present", Version(None, 0))
            return _judged(answer)

    @contextmanager
    def answer(self, start: int = 0, end: int | None = None, kept: Version | None = None) -> Iterator[Answer]:
        """Ask for a range, on condition that the version is the same."""
        headers = dict(PLAIN)
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
            if kept is not None and kept.mark is not None:
                headers["If-Range"] = kept.mark
        with self._client.stream("GET", self._url, headers=headers, follow_redirects=True) as response:
            if kept is not None and response.status_code == 416:  # it has become shorter
                raise ChangedError
            check_answer(response)
            is_part = response.status_code == 206
            version = version_of(response, start if is_part else 0)
            if is_part and kept is not None and not kept.agrees_with(version):  # a server that passes over If-Range
                raise ChangedError
            yield Answer(start if is_part else 0, version, response.iter_raw())


class StoredFile:
    """A file in a folder or bucket that fsspec reaches."""

    def __init__(self, files: Any, path: str) -> None:
        self._files, self._path = files, path

    @property
    def address(self) -> str:
        """Return the path, with its protocol where it is not of this machine."""
        return str(self._files.unstrip_protocol(self._path)).removeprefix("file://")

    def examine(self) -> Remote:
        """Ask for length and mark."""
        try:
            return Remote("present", self._version())
        except DownloadError as error:
            cause = error.__cause__
            return Remote("forbidden" if isinstance(cause, PermissionError) else "missing", Version(None, None), error)

    @contextmanager
    def answer(self, start: int = 0, end: int | None = None, kept: Version | None = None) -> Iterator[Answer]:
        """Read a range in blocks; the version is looked at before and behind them."""
        version = self._version()
        if kept is not None and not kept.agrees_with(version):
            raise ChangedError
        assert version.size is not None
        yield Answer(start, version, self._blocks(start, version.size if end is None else end, version))

    def _blocks(self, start: int, end: int, version: Version) -> Iterator[bytes]:
        for at in range(start, end, _BLOCK):
            with self._translated():
                block: bytes = self._files.cat_file(self._path, start=at, end=min(end, at + _BLOCK))
            if self._version() != version:
                raise ChangedError
            yield block

    def _version(self) -> Version:
        with self._translated():
            facts = self._files.info(self._path)
        if facts.get("type") == "directory":
            raise DownloadError(f"{self.address} is a folder, not a file", hint="check the address") from None
        marks = (facts.get(name) for name in ("ETag", "etag", "generation", "mtime", "LastModified", "created"))
        mark = next((str(mark) for mark in marks if mark is not None), None)
        return Version(mark, int(facts["size"]))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what a file system raises into a failure that may pass, or one that cannot."""
        try:
            yield
        except FileNotFoundError as error:
            hint = "check the address, or name another with --mirror"
            raise DownloadError(f"{self.address} does not exist", hint=hint) from error
        except PermissionError as error:
            hint = "check your credentials for this place; FSSPEC_S3_ANON=true reads a public bucket without any"
            raise DownloadError(f"access to {self.address} is refused: {error}", hint=hint) from error
        except Exception as error:  # each file system has errors of its own
            if isinstance(error, OSError) and error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG):
                raise DownloadError(f"{self.address} cannot be read: {error}", hint="check the address") from error
            if type(error).__name__ in ("NoCredentialsError", "DefaultCredentialsError"):
                hint = "set up credentials; FSSPEC_S3_ANON=true reads a public bucket without any"
                raise DownloadError(f"{self.address} cannot be read: {error}", hint=hint) from error
            raise PassingError(str(error) or type(error).__name__) from error


@contextmanager
def opened(base: str, connections: int) -> Iterator[Callable[[str], Origin]]:
    """Give a function from a path below `base` to the file there.

    Args:
        base: a web address, a folder of this machine, or a folder with a protocol that fsspec knows.
        connections: how many requests there will be at once.

    Raises:
        UsageError: `base` is none of these, or its protocol needs a package that is not installed.
    """
    if base.startswith(("http://", "https://")):
        root = _checked_web(base)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        with httpx.Client(timeout=httpx.Timeout(_SILENCE, pool=None), limits=limits) as client:
            yield lambda path: WebFile(root + quote(path), client)
        return
    files, root = _folder(base)
    yield lambda path: StoredFile(files, f"{root}/{path}")


def _checked_web(base: str) -> str:
    try:
        host = httpx.URL(base).host
    except httpx.InvalidURL:
        host = ""
    if not host:
        raise UsageError(f"{base} is not a web address", hint="a mirror looks like https://example.org/SkyScript/")
    return base.rstrip("/") + "/"


def _folder(base: str) -> tuple[Any, str]:
    """Return the file system and the path in it of a folder or bucket."""
    if "://" in base and not base.startswith("file://"):
        files = file_system(base)
        return files, str(files._strip_protocol(base)).rstrip("/")
    place = Path(base.removeprefix("file://"))
    if not place.is_dir():
        hint = "a mirror is a web address, a folder, or s3://bucket/folder and the like"
        raise UsageError(f"{base} is not a web address, and no folder either", hint=hint)
    return file_system("file://"), str(place.absolute())


def _judged(answer: httpx.Response) -> Remote:
    try:
        check_answer(answer)
    except DownloadError as error:
        presence = _PRESENCE.get(answer.status_code, "unusable")
        return Remote(presence, Version(None, None), error)  # type: ignore[arg-type]
    return Remote("present", version_of(answer, 0))
