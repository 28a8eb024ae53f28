"""Ctrl-C and a scheduler's SIGTERM while training: the step under way is finished and saved first."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME = 2.0
"""Seconds within which a second signal is the first one once more: a terminal and a launcher both pass it on."""


class Interrupt:
    """While this context lasts, the first signal only sets `wanted`; one that comes later raises KeyboardInterrupt.

    In threads other than the main one, where Python allows no handlers, nothing changes.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted and time.monotonic() - self._since > _SAME:
            raise KeyboardInterrupt
        if not self.wanted:
            self.wanted, self._since = True, time.monotonic()
