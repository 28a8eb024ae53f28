"""How fast training goes, and which share of its time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """A stopwatch over a stretch of training: images of all processes, and this one's waiting."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was."""
        self._began, self._waited, self._images = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens meanwhile as waiting."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - began

    def advance(self, images: int) -> None:
        """Count images that were learned from."""
        self._images += images

    def figures(self) -> dict[str, float]:
        """Return `samples_per_second` and `waiting`, a share between 0 and 1."""
        seconds = time.perf_counter() - self._began
        return {"samples_per_second": self._images / seconds, "waiting": self._waited / seconds}
