"""How requests are made: several at once, repeated while a failure may pass, and stopped together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import TypeVar

import httpx

from dove_core.errors import DownloadError
from dove_core.events import Advanced, Event, Noted, Report, Started, silent

RERUN = "run the same command again later: finished files and partial ones are kept"

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Retry:
    """When to repeat a request that failed in a way that may pass.

    Attributes:
        retries: repetitions in a row without a new byte; one more failure is an error.
        first_wait: seconds before the first repetition; each further wait is twice as long.
        longest_wait: bound of those waits, in seconds.
        longest_asked: longest wait in seconds that a server may ask for; a longer one is an error.
    """

    retries: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_asked: float = 900.0

    def wait(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return min(self.first_wait * 2.0 ** min(failures - 1, 30), self.longest_wait)


class PassingError(Exception):
    """A failure that may pass; the server asked to wait at least `wait` seconds. `Transfers.persist` handles it."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class ChangedError(PassingError):
    """The file on the server is not the version that the bytes on this disk belong to."""

    def __init__(self) -> None:
        super().__init__("the file has changed on the server: starting over")


class StoppedError(Exception):
    """Another request of the same transfers failed, or Ctrl-C was pressed. It ends a thread."""


class Transfers:
    """The requests of one fetch: up to `connections` at once; the first error stops all of them.

    `report` is called by one thread at a time.
    """

    def __init__(self, connections: int = 1, retry: Retry | None = None, report: Report = silent) -> None:
        self.connections, self._retry, self._report = connections, retry or Retry(), report
        self._stop, self._lock = threading.Event(), threading.RLock()

    def check(self) -> None:
        """Raise StoppedError if the transfers were stopped."""
        if self._stop.is_set():
            raise StoppedError

    def report(self, event: Event) -> None:
        """Pass on an event, unless the transfers were stopped."""
        self.check()
        with self._lock:
            self._report(event)

    def at_once(self, job: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return what `job` returns for each item, in the order in which the calls end.

        On an error, or Ctrl-C, the other calls end at their next chunk. They are not waited for: a server may be
        silent for as long as the timeout allows, and threads of a `ThreadPool` end with the process.
        """
        if not items:
            return []
        with ThreadPool(min(self.connections, len(items))) as pool:
            try:
                return list(pool.imap_unordered(job, items))
            except BaseException:
                self._stop.set()
                raise

    def persist(self, attempt: Callable[[], Result], address: str, *, hint: str = RERUN,
                position: Callable[[], int] = lambda: 0) -> Result:  # fmt: skip
        """Return what `attempt` returns; repeat it, after growing waits, while its failures may pass.

        `position` returns how many bytes are here: after new bytes the count of failures starts again.

        Raises:
            DownloadError: the failure cannot pass, or the retries are exhausted.
        """
        failures, best = 0, position()
        while True:
            try:
                return attempt()
            except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
                raise DownloadError(f"{address} cannot be fetched: {error}", hint="check the address") from error
            except (PassingError, httpx.TransportError) as error:
                if position() > best:
                    failures, best = 0, position()
                failures += 1
                reason = str(error) or type(error).__name__
                asked = error.wait if isinstance(error, PassingError) else 0.0
                if asked > self._retry.longest_asked:
                    raise DownloadError(f"{address}: {reason} and asks to wait {asked:.0f} s", hint=hint) from error
                if failures > self._retry.retries:
                    message = f"{address}: {reason} (after {self._retry.retries} retries)"
                    raise DownloadError(message, hint=hint) from error
            wait = max(asked, self._retry.wait(failures))
            self.report(Noted(f"{address}: {reason}; trying again in {wait:.1f} s"))
            if self._stop.wait(wait):
                raise StoppedError


class Progress:
    """Counts the bytes of one task, and reports them ten times a second at most; any thread may add to it."""

    def __init__(self, task: str, transfers: Transfers) -> None:
        self._task, self._transfers = task, transfers
        self._position: int | None = None
        self._pending, self._reported = 0, 0.0
        self._lock = threading.Lock()

    def begin(self, position: int, total: int | None) -> None:
        """Report the start of the task at its first byte, and again when a file starts over."""
        if position != self._position:
            self._transfers.report(Started(self._task, total, "B", position))
        self._position = position

    def advance(self, amount: int) -> None:
        """Count `amount` more bytes."""
        with self._lock:
            self._position = (self._position or 0) + amount
            self._pending += amount
            if time.monotonic() - self._reported >= 0.1:
                self._flush()

    def end(self) -> None:
        """Report what is not reported yet."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._transfers.report(Advanced(self._task, self._pending))
        self._pending, self._reported = 0, time.monotonic()
