"""Independent tasks: divided over machines, and run in worker processes that return results as they finish."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from dove_core.errors import DataError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Closable(Protocol):
    """Anything with a method `close`."""

    def close(self) -> None:
        """Close it."""
        ...


File = TypeVar("File", bound=Closable)


class OwnFile(Generic[File]):
    """A file that each process opens for itself when it first needs it: after a fork, they would share one position."""

    def __init__(self, open: Callable[[], File]) -> None:
        self._open = open
        self._opened: tuple[int, File] | None = None

    def get(self) -> File:
        """Return the file, opened in this process; errors are those of opening it."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), self._open()
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the open file, for another process."""
        return {**self.__dict__, "_opened": None}

    def __del__(self) -> None:
        """Close the file."""
        if opened := self.__dict__.get("_opened"):
            opened[1].close()


@dataclass(frozen=True)
class Share:
    """The share of a plan that this run does: the items of task `number` of `count`.

    Machines with a shared folder can each do one share of the same plan; the last to finish writes the final result.
    With `none`, the run does no item and only writes the final result.
    """

    number: int = 0
    count: int = 1
    none: bool = False

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            UsageError: the number is not below the count.
        """
        if not 0 <= self.number < self.count:
            message = f"--task-id {self.number} is not one of --num-tasks {self.count}"
            raise UsageError(message, hint=f"number the tasks from 0 to {self.count - 1}")

    def of(self, total: int) -> list[int]:
        """Return the numbers of this share's items out of `total`."""
        return [] if self.none else list(range(self.number, total, self.count))


EVERYTHING = Share()


@dataclass(frozen=True)
class Resources:
    """What a task may use of its machine, on which `tasks` tasks run at once.

    The executor reserves `cpus` and `gpus` for it. With 0 `cpus` nothing is reserved: the task limits itself.
    """

    tasks: int = 1
    cpus: int = 0
    gpus: int = 0


WHOLE_MACHINE = Resources()


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int, *, lost: str
) -> Iterator[tuple[Item, Result]]:
    """Yield every item with `task(item)`: in this process and in order for one worker, else as they finish.

    After an error of one task, running tasks finish and the others do not start. Ctrl-C ends them at once. The
    processes end when this one ends, even if it is killed.

    Args:
        task: a function that other processes can import, or a `partial` of one.
        items: what to call it with.
        workers: number of processes.
        lost: the hint of the error if a process died.

    Raises:
        DataError: a process died.
        DoveError: a task raised it.
    """
    if min(workers, len(items)) <= 1:
        for item in items:
            yield item, task(item)
        return
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=begin)
    try:
        with without_interrupts():
            futures = {pool.submit(task, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise DataError("a worker process died", hint=lost) from error
    except KeyboardInterrupt:
        with without_interrupts():
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
        raise
    finally:
        with without_interrupts():
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Block Ctrl-C during this context, and for ever in processes that are started in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin() -> None:
    """Prepare a worker: it ignores Ctrl-C, which its parent handles, and ends when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process when its parent has ended."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


class EventListener:
    """Receives events that other processes of this machine send to a socket, one connection after another.

    They connect by `multiprocessing.connection.Client` and send events. If a process is killed while it sends, only
    that event is lost; the shared lock of a queue would stay locked.
    """

    def __init__(self, path: Path, report: Callable[[Any], None]) -> None:
        self._path, self._report = str(path), report
        self._listener = Listener(self._path, family="AF_UNIX")
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> EventListener:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Receive the remaining events; raise what `report` raised, unless another error is being raised."""
        with suppress(OSError), Client(self._path) as end:
            end.send(None)
        self._thread.join()
        self._listener.close()
        if self._error is not None and error is None:
            raise self._error

    def _receive(self) -> None:
        while True:
            try:
                with self._listener.accept() as connection:
                    while (event := connection.recv()) is not None:
                        self._pass_on(event)
                    return
            except (EOFError, OSError):
                continue  # the sender has finished, or was killed

    def _pass_on(self, event: Any) -> None:
        if self._error is None:
            try:
                self._report(event)
            except Exception as error:  # raised again where the context ends
                self._error = error
