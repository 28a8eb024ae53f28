"""Ctrl-C, and SIGTERM or SIGHUP of a scheduler or terminal: training finishes the current step and saves first."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME = 2.0
"""Seconds within which a second signal counts as the first one: a terminal and a launcher may both send it."""


class Interrupt:
    """While this context lasts, the first signal only sets `requested`; a later one raises KeyboardInterrupt.

    In threads other than the main one, where Python allows no signal handlers, this does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._first_at = 0.0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and time.monotonic() - self._first_at > _SAME:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._first_at = True, time.monotonic()
