"""Images per second of a training, and the share of time that it waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Throughput:
    """Counts images of all processes, and the time that this process waits for data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start counting from zero."""
        self._start, self._waited, self._images = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of this context as waiting."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - start

    def advance(self, images: int) -> None:
        """Count images that were trained on."""
        self._images += images

    def figures(self) -> dict[str, float]:
        """Return `samples_per_second` and `waiting`, a share between 0 and 1."""
        seconds = time.perf_counter() - self._start
        return {"samples_per_second": self._images / seconds, "waiting": self._waited / seconds}
