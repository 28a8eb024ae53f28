"""What a server's answer means: whether it is the file, which version, how long, and whether a retry may help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath

import httpx

from dove_core.data.fetching.transfers import PassingError
from dove_core.errors import DownloadError

WRONG_CONTENT = (
    "the file may have moved, or the server sent a login or proxy page instead: open the address in a browser, "
    "or choose another server with --mirror"
)
_REFUSED = (
    "either there is no such file (a bucket that does not allow listing answers 403 for a missing file too) or access "
    "is refused: check the address, or choose another server with --mirror"
)
_PASSING_STATUS = (408, 425, 429)
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an archive without members
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


def check_answer(answer: httpx.Response) -> None:
    """Check that an answer carries the requested file, or a range of it.

    Raises:
        PassingError: the server is busy or has a fault that may pass.
        DownloadError: refused, missing, a web page instead of a file, or compressed.
    """
    status, url = f"{answer.status_code} {answer.reason_phrase}".rstrip(), answer.url
    if answer.status_code in _PASSING_STATUS or answer.status_code >= 500:
        raise PassingError(f"the server answered {status}", _asked_wait(answer))
    if answer.status_code == 403:
        raise DownloadError(f"the server refused {url} ({status})", hint=_REFUSED)
    if answer.status_code not in (200, 206):
        hint = "check the address, or choose another server with --mirror"
        raise DownloadError(f"{url} cannot be fetched: the server answered {status}", hint=hint)
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and PurePosixPath(url.path).suffix not in (".html", ".htm"):
        raise DownloadError(f"{url} returned a web page ({kind}), not the file", hint=WRONG_CONTENT)
    coding = answer.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity":
        raise DownloadError(f"{url} is sent compressed ({coding}), although not requested", hint=WRONG_CONTENT)


def version_of(answer: httpx.Response, offset: int) -> Version:
    """Return which version an answer's bytes belong to; they must begin at `offset`.

    Raises:
        PassingError: the answer has another range than was requested.
    """
    etag = answer.headers.get("ETag", "")
    mark = answer.headers.get("Last-Modified") if etag in ("", '""') or etag.startswith("W/") else etag
    length = answer.headers.get("Content-Length", "")
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            raise PassingError("the server sent another range of the file than requested")
        length = match[2]
    return Version(mark, int(length) if length.isdigit() else None)


def content_problem(start: bytes, name: str) -> str:
    """Return why a file that begins with these bytes cannot be what the ending of `name` says; "" if it can be."""
    ending = PurePosixPath(name).suffix.lower()
    if not start:
        return "it is empty"
    if ending == ".zip" and not start.startswith(_ZIP_STARTS):
        return f"it begins with {start[:8]!r}, which is not the start of a zip archive"
    if ending == ".csv" and (b"\0" in start or start.lstrip(_TABLE_MARGIN).startswith(b"<")):
        return f"it begins with {start[:8]!r}, which is not the start of a table"
    return ""


def _asked_wait(answer: httpx.Response) -> float:
    """Return the seconds that `Retry-After` asks for, as a number or as a date; 0 if it does not."""
    value = answer.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
