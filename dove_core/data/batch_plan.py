"""Which samples make which batch: one seeded order, divided by arithmetic.

Each rank and worker takes its samples from one permutation of all samples, instead of some of the files. So any number
of shards fits, every sample is seen exactly once an epoch at any number of ranks and workers, all ranks take equally
many steps, and training resumes from any sample with any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

_WINDOW = 16
"""Shards that are shuffled together: reads stay near each other, batches are mixed well."""


class BatchPlan(Protocol):
    """A plan says which samples make which batch."""

    @property
    def window(self) -> int:
        """Return how many shards are read at once."""
        ...

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the epoch and the numbers of the samples of one batch after another."""
        ...


@dataclass(frozen=True)
class SequentialPlan:
    """The samples from `start` to `stop`, each once, in order."""

    start: int
    stop: int
    batch_size: int

    @property
    def window(self) -> int:
        """Return 1: shards are read one after the other."""
        return 1

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield batches of `batch_size`, the last one shorter."""
        for start in range(self.start, self.stop, self.batch_size):
            yield 0, np.arange(start, min(start + self.batch_size, self.stop))


class Step(NamedTuple):
    """One step of all ranks together: samples `start` to `stop` of an epoch's order."""

    epoch: int
    start: int
    stop: int
    total: int

    @property
    def ends_epoch(self) -> bool:
        """Tell whether no sample of the epoch is left after this step."""
        return self.stop == self.total

    def shares(self, world: int) -> list[slice]:
        """Return the samples of each rank: even shares, or all samples for every rank where shares are too small."""
        count = self.stop - self.start
        if count < 2 * world:
            return [slice(0, count)] * world
        ends = [count // world * rank + min(rank, count % world) for rank in range(world + 1)]
        return [slice(first, end) for first, end in pairwise(ends)]


@dataclass(frozen=True)
class TrainingPlan:
    """This rank's share of every epoch, from any sample on.

    All ranks together take `batch_size * world` samples a step. The samples left at an epoch's end make one smaller
    step, shared evenly, so that no sample is dropped. Fewer than two samples a rank join the step before; if there is
    none, after a resume with more ranks, all ranks take all of them.
    """

    counts: Sequence[int]
    batch_size: int
    epochs: int
    seed: int
    rank: int = 0
    world: int = 1
    epoch: int = 0
    samples: int = 0

    @property
    def window(self) -> int:
        """Return the number of shards that are shuffled together."""
        return _WINDOW

    def steps(self) -> Iterator[Step]:
        """Yield the steps from (`epoch`, `samples`) to the end."""
        total, width = sum(self.counts), self.batch_size * self.world
        for epoch in range(self.epoch, self.epochs):
            start = self.samples if epoch == self.epoch else 0
            while start < total:
                stop = start + width if total - start - width >= 2 * self.world else total
                yield Step(epoch, start, stop, total)
                start = stop

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield this rank's share of every step."""
        epoch, order = -1, np.zeros(0, np.int64)
        for step in self.steps():
            if step.epoch != epoch:
                epoch, order = step.epoch, epoch_order(self.counts, seed=self.seed, epoch=step.epoch)
            yield epoch, order[step.start : step.stop][step.shares(self.world)[self.rank]]


def epoch_order(counts: Sequence[int], *, seed: int, epoch: int, window: int = _WINDOW) -> np.ndarray:
    """Return all sample numbers in the order of an epoch: shards shuffled, then samples within `window` shards."""
    random = np.random.default_rng((seed, epoch))
    starts = np.cumsum([0, *counts])
    shards = random.permutation(len(counts))
    pieces = []
    for first in range(0, len(shards), window):
        mixed = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in shards[first : first + window]])
        pieces.append(random.permutation(mixed))
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
