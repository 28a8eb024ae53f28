"""Batches from shards, read and transformed in advance by worker processes, in the order of a plan."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dove_core.data.batch_plan import BatchPlan
from dove_core.data.manifest import read_manifest
from dove_core.data.prefetch import prefetching
from dove_core.errors import DataError, DoveError
from dove_core.files import LocalPath

T = TypeVar("T")
Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)
_GRACE = 20.0
"""Seconds after SIGTERM until a worker ends."""


class Readable(Protocol[Item_co]):
    """Samples that are read by number, such as `Shards`."""

    def read(self, number: int) -> Item_co:
        """Read one sample."""
        ...


class _Failure(NamedTuple):
    error: DoveError


class _Feed(IterableDataset[T | "_Failure"], Generic[Item, T]):
    """Reads and transforms batch k in worker k mod n, so that the loader's round robin restores the plan's order."""

    def __init__(self, samples: Readable[Item], plan: BatchPlan, transform: Callable[[list[Item], int], T]) -> None:
        self.samples, self.plan, self.transform = samples, plan, transform

    def __iter__(self) -> Iterator[T | _Failure]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker else (0, 1)
        for k, (epoch, numbers) in enumerate(self.plan.batches()):
            if k % every == first:
                try:
                    yield self.transform([self.samples.read(int(n)) for n in numbers], epoch)
                except DoveError as error:  # torch would rebuild it from its text alone and lose the hint
                    yield _Failure(error)
                    return


def _as_is(batch: T) -> T:
    return batch


def _begin_worker(worker: int) -> None:
    """Leave signals to the training process, which finishes its step, saves, and ends its workers.

    Python also sends SIGTERM at its exit to workers that still run, so it must end a worker after a while.

    Nor may a worker destroy what it inherited: a session of onnxruntime, in garbage that is not collected yet, would
    wait for its threads, which a fork does not copy.
    """
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
    timer = threading.Timer(_GRACE, os._exit, (0,))
    timer.daemon = True
    timer.start()


def load(
    samples: Readable[Item],
    plan: BatchPlan,
    transform: Callable[[list[Item], int], T],
    *,
    workers: int = 0,
    pin_memory: bool = False,
) -> Generator[T, None, None]:
    """Yield `transform(samples, epoch)` for each batch of the plan, in order, made in advance by `workers` processes.

    Raises:
        DataError: a shard is missing or damaged.
        UsageError: shards are in a bucket, and the cache is too small for those that are read at once.
        DownloadError: the bucket cannot be reached.
    """
    feed = _Feed(samples, plan, transform)
    loader = DataLoader(
        feed, batch_size=None, num_workers=workers, collate_fn=_as_is, pin_memory=pin_memory,
        worker_init_fn=_begin_worker,
    )  # fmt: skip
    try:
        batches = iter(loader)  # workers are forked before threads begin
        with prefetching(samples, plan) as taken:
            for batch in batches:
                if isinstance(batch, _Failure):
                    raise batch.error
                taken()
                yield batch
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        hint = "out of memory, or of /dev/shm (in a container: --shm-size)? Try fewer --workers, or --workers 0"
        raise DataError(f"a process that reads images died: {error}", hint=hint) from error


def open_webdataset(folder: LocalPath) -> Any:
    """Return a `webdataset.WebDataset` over a split, for your own training loop; samples hold `jpg` and `json`.

    >>> samples = list(dove.open_webdataset("shards/shapes/test"))
    >>> len(samples), sorted(samples[0])[-2:]
    (12, ['jpg', 'json'])
    """
    import webdataset  # noqa: PLC0415  # takes two seconds

    names = [str(Path(folder) / shard.name) for shard in read_manifest(folder).shards]
    return webdataset.WebDataset(names, shardshuffle=False, nodesplitter=webdataset.split_by_node)
