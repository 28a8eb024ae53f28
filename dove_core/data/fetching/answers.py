"""What a server's answers mean: is this the file, which version of it, how long is it, and is asking again worth it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import PurePosixPath
from typing import Literal, TypeVar

import httpx

from dove_core.errors import DownloadError
from dove_core.events import Noted, Report, silent

PLAIN = {"Accept-Encoding": "identity"}
"""Headers of every request: ranges and lengths shall be of the file itself, not of a compressed form."""

OTHER_CONTENT = (
    "the file may have moved, or a login or proxy page came in its place: open the address in a browser, "
    "or name another server with --mirror"
)
_REFUSED = (
    "either there is no such file (a bucket that may not be listed answers 403 for a missing one too) or access is "
    "refused: check the address, or name another server with --mirror"
)
_PASSING_STATUS = (408, 425, 429)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How long to go on after failures that may pass.

    After `retries` repetitions in a row without a new byte it is an error. The first comes after a wait of `first_wait`
    seconds, each further one after twice the wait before it, up to `longest_wait`. A longer wait that the server asks
    for is honoured up to `longest_asked` seconds.
    """

    retries: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_asked: float = 900.0

    def wait(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return min(self.first_wait * 2.0 ** min(failures - 1, 30), self.longest_wait)


PATIENT = Patience()


@dataclass(frozen=True)
class Pace:
    """How bytes are brought: requests at once, bytes of a segment of a large file, and how long to go on."""

    connections: int = 1
    segment: int = 64 * 2**20
    patience: Patience = PATIENT


class PassingError(Exception):
    """A failure that may pass; the server asked to wait at least `wait` seconds. Never leaves `persist`."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class ChangedError(PassingError):
    """The file is another one than the bytes that are here belong to. Never leaves `persist`."""

    def __init__(self) -> None:
        super().__init__("the file has changed on the server: starting over")


@dataclass(frozen=True)
class Version:
    """What tells one version of a remote file from the next; None where the server is silent.

    `mark` is the strong ETag, or else the date of the last change: what `If-Range` takes. `size` is in bytes.
    """

    mark: str | None
    size: int | None

    def agrees_with(self, other: Version) -> bool:
        """Say whether nothing speaks against both being the same version."""
        pairs = ((self.mark, other.mark), (self.size, other.size))
        return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)


@dataclass(frozen=True)
class Remote:
    """What there is at an address; `problem` says more where it cannot be fetched."""

    presence: Literal["present", "missing", "forbidden", "unusable"]
    version: Version
    problem: DownloadError | None = None


@dataclass(frozen=True)
class Answer:
    """Bytes that come, from `offset` on, of a file of this version."""

    offset: int
    version: Version
    chunks: Iterator[bytes]


def persist(
    attempt: Callable[[], Result],
    url: str,
    *,
    hint: str,
    patience: Patience = PATIENT,
    reached: Callable[[], int] = lambda: 0,
    pause: Callable[[float], None] = time.sleep,
    report: Report = silent,
) -> Result:
    """Return what `attempt` returns; repeat it, with growing waits, while its failures may pass.

    `reached` counts the bytes that are here: a failure after new ones is again the first in its row. `pause` waits.

    Raises:
        DownloadError: the failure cannot pass, or too many came in a row; `hint` tells the way out.
    """
    failures, best = 0, reached()
    while True:
        try:
            return attempt()
        except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
            raise DownloadError(f"{url} cannot be fetched: {error}", hint="check the address") from error
        except (PassingError, httpx.TransportError) as error:
            if reached() > best:
                failures, best = 0, reached()
            failures += 1
            reason = str(error) or type(error).__name__
            asked = error.wait if isinstance(error, PassingError) else 0.0
            if asked > patience.longest_asked:
                raise DownloadError(f"{url}: {reason} and asks for a wait of {asked:.0f} s", hint=hint) from error
            if failures > patience.retries:
                raise DownloadError(f"{url}: {reason} (after {patience.retries} retries)", hint=hint) from error
        wait = max(asked, patience.wait(failures))
        report(Noted(f"{url}: {reason}; trying again in {wait:.1f} s"))
        pause(wait)


def check_answer(answer: httpx.Response) -> None:
    """Let an answer pass that carries the file that was asked for, or a part of it.

    Raises:
        PassingError: the server is busy or broken for the moment.
        DownloadError: refused, missing, a web page in the place of a file, or compressed unasked.
    """
    status, url = answer.status_code, answer.url
    if status in _PASSING_STATUS or status >= 500:
        raise PassingError(f"the server answered {status} {answer.reason_phrase}".rstrip(), _asked_wait(answer))
    if status == 403:
        raise DownloadError(f"the server refused {url} (403)", hint=_REFUSED)
    if status not in (200, 206):
        hint = "check the address, or name another server with --mirror"
        raise DownloadError(f"{url} cannot be had: {status} {answer.reason_phrase}".rstrip(), hint=hint)
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    ending = PurePosixPath(url.path).suffix.lower()
    if kind in ("text/html", "application/xhtml+xml") and ending not in (".html", ".htm"):
        raise DownloadError(f"{url} answered with a web page, not with the file", hint=OTHER_CONTENT)
    coding = answer.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity":
        raise DownloadError(f"{url} comes compressed as {coding}, although asked not to", hint=OTHER_CONTENT)


def version_of(answer: httpx.Response, offset: int, size: int | None = None) -> Version:
    """Return the version that an answer's bytes belong to.

    Args:
        answer: 200 with the whole file, or 206 with its bytes from `offset` on.
        offset: first byte that was asked for.
        size: the whole file's length, believed if the answer does not tell it.

    Raises:
        PassingError: the answer carries other bytes than were asked for.
    """
    etag = answer.headers.get("ETag", "")
    mark = answer.headers.get("Last-Modified") if etag in ("", '""') or etag.startswith("W/") else etag
    length = answer.headers.get("Content-Length", "")
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            raise PassingError("the server sent another part of the file than was asked for")
        length = match[2]
    return Version(mark, int(length) if length.isdigit() else size)


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
