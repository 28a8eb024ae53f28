"""How much of a file is here, told ten times a second at most."""

from __future__ import annotations

import threading
import time

from dove_core.events import Advanced, Report, Started


class Progress:
    """Counts the bytes of one task; any thread may tell it of new ones."""

    def __init__(self, task: str, report: Report) -> None:
        self._task, self._report = task, report
        self._position: int | None = None
        self._pending, self._told = 0, 0.0
        self._lock = threading.Lock()

    def at(self, position: int, total: int | None) -> None:
        """Tell where the next bytes belong: news at the first call, and when a file starts over."""
        if position != self._position:
            self._report(Started(self._task, total, "B", position))
        self._position = position

    def advance(self, amount: int) -> None:
        """Count `amount` more bytes."""
        with self._lock:
            self._position = (self._position or 0) + amount
            self._pending += amount
            if time.monotonic() - self._told >= 0.1:
                self._tell()

    def flush(self) -> None:
        """Tell what has not been told yet."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        if self._pending:
            self._report(Advanced(self._task, self._pending))
        self._pending, self._told = 0, time.monotonic()
