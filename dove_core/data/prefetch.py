"""Prefetching of shards in a bucket: they are downloaded before they are read, in the order of the plan."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from dove_core.cache import Cache
from dove_core.data.batch_plan import BatchPlan
from dove_core.data.reader import Shards
from dove_core.errors import DoveError, UsageError

_THREADS = 4
_MOST = 16
"""Most shards that are prefetched; fewer where the cache is too small."""


class Prefetcher:
    """Fetches items in threads before they are needed: at most `count` more than the steps so far have needed.

    Errors are ignored: reading the item raises the same error again.
    """

    def __init__(self, steps: Iterable[list[int]], bring: Callable[[int], None], *, count: int) -> None:
        """Start the threads.

        Args:
            steps: for each step, the items that no step before has needed.
            bring: fetches one item; called in several threads.
            count: see above.
        """
        self._next = ((step, item) for step, items in enumerate(steps) for item in items)
        self._bring, self._count = bring, count
        self._changed = threading.Condition()
        self._steps_of: deque[int] = deque()  # of the items begun that no step so far has needed
        self._taken, self._over = 0, False
        for _ in range(min(_THREADS, count)):
            threading.Thread(target=self._work, daemon=True).start()

    def taken(self) -> None:
        """Count one more step as done."""
        with self._changed:
            self._taken += 1
            while self._steps_of and self._steps_of[0] < self._taken:
                self._steps_of.popleft()
            self._changed.notify_all()

    def close(self) -> None:
        """Fetch no more items."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._over and len(self._steps_of) >= self._count:
                    self._changed.wait()
                found = None if self._over else next(self._next, None)
                if found is None:
                    return
                step, item = found
                if step >= self._taken:
                    self._steps_of.append(step)
            with suppress(DoveError, OSError):
                self._bring(item)


@contextmanager
def prefetching(samples: object, plan: BatchPlan) -> Iterator[Callable[[], None]]:
    """Prefetch the shards that a plan reads, if they are in a bucket; yield a function to call after each batch.

    Raises:
        UsageError: the cache cannot hold the shards that are read at once.
    """
    if not isinstance(samples, Shards) or not samples.folder.is_remote:
        yield lambda: None
        return
    count = _room(samples, plan.window)
    prefetcher = Prefetcher(_steps(samples, plan), samples.bring, count=count)
    try:
        yield prefetcher.taken
    finally:
        prefetcher.close()


def _room(samples: Shards, window: int) -> int:
    """Return how many shards may be prefetched at most."""
    largest, bound = max(1, samples.largest()), Cache(samples.folder.cache).bound
    needed = min(len(samples.names), window + 1)
    if bound // largest < needed:
        message = f"{needed} shards of {samples.folder} are read at once, of up to {largest / 1e9:.3g} GB each"
        hint = f"the cache is limited to {bound / 1e9:.3g} GB: use --cache-size {needed * largest * 1.05 / 1e9:.3g}"
        raise UsageError(message, hint=hint)
    return max(1, min(_MOST, bound // largest - window))


def _steps(samples: Shards, plan: BatchPlan) -> Iterator[list[int]]:
    """Yield, for each batch, the shards that no batch of its epoch has read before."""
    epoch, seen = -1, set[int]()
    for own, numbers in plan.batches():
        if own != epoch:
            epoch, seen = own, set()
        new = [shard for shard in samples.shards_of(numbers) if shard not in seen]
        seen.update(new)
        yield new
