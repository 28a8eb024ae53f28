"""Ctrl-C and a scheduler's SIGTERM while training: the step under way is finished and saved first."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME = 2.0
"""Seconds within which a second signal is the first one once more: a terminal and a launcher both pass it on."""


class Interrupt:
    """While this context lasts, the first signal only sets `wanted`; one that comes later raises KeyboardInterrupt.

    `agreed` is for several processes, all of which know of it.
    In threads other than the main one, where Python allows no handlers, nothing changes.
    """

    def __init__(self) -> None:
        self.wanted = self.agreed = False
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


@contextmanager
def noticing_signals(note: Callable[[], None]) -> Iterator[None]:
    """While this context lasts, call `note` when a signal comes that wants an end, whoever handles it.

    Threads other than the main one can notice nothing: `note` is called at once.
    """
    if threading.current_thread() is not threading.main_thread():
        note()
        yield
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    before = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)

    def hear() -> None:
        while numbers := ear.recv(64):
            if set(numbers) & {*_SIGNALS, signal.SIGHUP, signal.SIGQUIT}:
                note()

    thread = threading.Thread(target=hear, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        mouth.close()
        thread.join()
        ear.close()
