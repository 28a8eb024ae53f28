"""Shards in a bucket, brought here before they are read: the order is known from the plan."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from dove_core.cache import Cache
from dove_core.data.plan import Plan
from dove_core.data.reader import Shards
from dove_core.errors import DoveError, UsageError
from dove_core.places import Place

_THREADS = 4
_MOST = 16
"""Shards brought before they are needed; fewer, where the cache has no room for so many."""


class Ahead:
    """Brings things, in threads, before they are needed: up to `count` more than the steps so far have needed.

    What cannot be brought is passed over: who reads it will meet the same, and can say so.
    """

    def __init__(self, steps: Iterable[list[int]], bring: Callable[[int], None], *, count: int) -> None:
        """Begin.

        Args:
            steps: for one step after another, the things that none before has needed.
            bring: brings one; called in several threads.
            count: see above.
        """
        self._next = ((step, thing) for step, things in enumerate(steps) for thing in things)
        self._bring, self._count = bring, count
        self._changed = threading.Condition()
        self._steps_of: deque[int] = deque()  # of things begun that no step so far has needed
        self._taken, self._over = 0, False
        for _ in range(min(_THREADS, count)):
            threading.Thread(target=self._work, daemon=True).start()

    def taken(self) -> None:
        """Say that one more step is done."""
        with self._changed:
            self._taken += 1
            while self._steps_of and self._steps_of[0] < self._taken:
                self._steps_of.popleft()
            self._changed.notify_all()

    def close(self) -> None:
        """Begin nothing more."""
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
                step, thing = found
                if step >= self._taken:
                    self._steps_of.append(step)
            with suppress(DoveError, OSError):
                self._bring(thing)


@contextmanager
def reading_ahead(samples: object, plan: Plan) -> Iterator[Callable[[], None]]:
    """Bring the shards that a plan reads, if they lie in a bucket; give a function to call after each batch.

    Raises:
        UsageError: the cache cannot hold the shards that are read at once.
    """
    if not isinstance(samples, Shards) or not samples.in_bucket:
        yield lambda: None
        return
    count = _room(samples, samples.folder, plan.window)
    ahead = Ahead(_steps(samples, plan), samples.bring, count=count)
    try:
        yield ahead.taken
    finally:
        ahead.close()


def _room(samples: Shards, bucket: Place, window: int) -> int:
    """Return how many shards may be here, at most, that no batch so far has needed."""
    largest, bound = max(1, samples.largest()), Cache(bucket.cache).bound
    needed = min(len(samples.names), window + 1)
    if bound // largest < needed:
        message = f"{needed} shards of {samples.folder} are read at once, of up to {largest / 1e9:.3g} GB each"
        hint = f"the cache may have {bound / 1e9:.3g} GB: give it --cache-size {needed * largest * 1.05 / 1e9:.3g}"
        raise UsageError(message, hint=hint)
    return max(1, min(_MOST, bound // largest - window))


def _steps(samples: Shards, plan: Plan) -> Iterator[list[int]]:
    """Yield the shards that each batch is the first of its epoch to read."""
    epoch, seen = -1, set[int]()
    for own, numbers in plan.batches():
        if own != epoch:
            epoch, seen = own, set()
        new = [shard for shard in samples.shards_of(numbers) if shard not in seen]
        seen.update(new)
        yield new
