"""How processes that train together notice that one of them is gone: a sign of life every few seconds.

A dead process is noticed at once, since its connections break. A machine that is cut off, frozen or without power says
nothing, and how long a healthy one may be silent in a collective nobody knows: the first process validates and saves
alone. So a thread of each process writes a new sign of life into a store, and looks at those of others: the first
process at everybody's, everybody at the first's.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from dove_core.training.network import break_connections

_LEAVE = 10.0
"""Seconds in which the main thread can fail by itself after its connections were broken, or a quarter of patience."""


class LostError(Exception):
    """Another process is gone; starting all of them again may help."""


class Signs(Protocol):
    """What signs of life are written to: torch's stores."""

    def set(self, key: str, value: str, /) -> None:
        """Write a value."""
        ...

    def check(self, keys: list[str], /) -> bool:
        """Tell whether all of some keys were written."""
        ...

    def get(self, key: str, /) -> bytes:
        """Read a value."""
        ...


class Pulse:
    """While this context lasts, another process's silence ends this one: its connections break, and `lost` says why.

    A process that does not fail of it within seconds, busy or waiting for a GPU, is ended with code 1.
    """

    def __init__(
        self,
        connect: Callable[[], Signs],
        rank: int,
        size: int,
        *,
        patience: int,
        arrival: int,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            connect: opens a connection of its own to the store.
            rank: this process.
            size: number of processes.
            patience: seconds of silence after which a process is lost.
            arrival: seconds within which each has to be heard for the first time.
            tell: called with the reason, once.
        """
        self.lost = ""
        self._connect, self._rank, self._patience, self._arrival, self._tell = connect, rank, patience, arrival, tell
        self._others = [other for other in (range(size) if rank == 0 else (0,)) if other != rank]
        self._seen: dict[int, bytes] = {}
        self._heard: dict[int, float] = {}
        self._over = threading.Event()

    def __enter__(self) -> Pulse:
        self._since = time.monotonic()
        for task in (self._beat, self._watch):
            threading.Thread(target=task, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()

    def _beat(self) -> None:
        """Write signs and read others'. It may wait for the store without end, which is why another thread watches."""
        own, count, store = uuid.uuid4().hex, 0, None
        while not self._over.wait(min(1.0, self._patience / 8) if count else 0):
            count += 1
            try:
                store = store or self._connect()
                store.set(_key(self._rank), f"{own}-{count}")
                for other in self._others:
                    if store.check([_key(other)]) and (sign := store.get(_key(other))) != self._seen.get(other):
                        self._seen[other], self._heard[other] = sign, time.monotonic()
            except (RuntimeError, ValueError):
                store = None  # the first process, which keeps the store, is gone or is not there yet

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._over.wait(min(1.0, self._patience / 8)):
            now = time.monotonic()
            if now - last > self._patience / 2:  # this process was stopped meanwhile, and maybe all were
                self._since += now - last
                self._heard = {other: heard + now - last for other, heard in self._heard.items()}
            last = now
            for other in self._others:
                arrived = other in self._heard
                silent = now - self._heard.get(other, self._since)
                if silent > (self._patience if arrived else self._arrival):
                    said = "was silent" if arrived else "did not come"
                    self._end(f"training process {other} {said} for {silent:.0f} seconds")
                    return

    def _end(self, reason: str) -> None:
        self.lost = reason
        if self._tell:
            self._tell(reason)
        break_connections()
        if not self._over.wait(min(_LEAVE, self._patience / 4)):
            os._exit(1)


def _key(rank: int) -> str:
    return f"pulse/{rank}"
