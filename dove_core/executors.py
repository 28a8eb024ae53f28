"""Executors of independent tasks: processes of this machine, or a Ray cluster of several machines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Client
from pathlib import Path
from typing import Protocol, TypeVar

from dove_core.config import Device, ExecutorConfig
from dove_core.events import Event, Report
from dove_core.processes import WHOLE_MACHINE, EventListener, Resources, cores, each

Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL = ExecutorConfig()
"""Default executor settings."""


class Executor(Protocol):
    """Runs independent tasks: functions that can be imported where the task runs, or `partial`s of them."""

    is_remote: bool
    """Whether tasks may run on other machines, which can read this machine's files only in a shared folder."""

    def each(
        self,
        task: Callable[..., Result],
        items: Sequence[Item],
        workers: int,
        *,
        lost: str,
        report: Report | None = None,
        resources: Resources = WHOLE_MACHINE,
    ) -> Iterator[tuple[Item, Result]]:
        """Yield every item with `task(item)`, as they finish; an error or Ctrl-C ends the rest.

        Args:
            task: function to call.
            items: its arguments, one for each call.
            workers: number of tasks that run at once; 0: the number of processor cores.
            lost: the hint of the error if a process died.
            report: receives the events of tasks, which are then called as `task(item, report=...)`.
            resources: what a task needs.

        Raises:
            DataError: a process died; on a cluster, also when the task was repeated.
            DoveError: a task raised it.
        """
        ...

    def device(self, requested: Device) -> Device:
        """Return the device for tasks; `auto` is resolved if this process knows the devices.

        Raises:
            UsageError: `cuda` is asked for and no machine has a GPU.
        """
        ...

    def resources(self, device: str, count: int) -> Resources:
        """Return the resources of each task if `count` of them run at once."""
        ...

    def pieces(self, parts: int, count: int, resources: Resources) -> int:
        """Return how many tasks to make of `parts` parts if `count` tasks run at once."""
        ...


class Local:
    """Processes of this machine."""

    is_remote = False

    def each(
        self,
        task: Callable[..., Result],
        items: Sequence[Item],
        workers: int,
        *,
        lost: str,
        report: Report | None = None,
        resources: Resources = WHOLE_MACHINE,
    ) -> Iterator[tuple[Item, Result]]:
        """Run tasks as `processes.each` does; their events come through a socket."""
        workers = workers or cores()
        if report is None:
            yield from each(task, items, workers, lost=lost)
        elif min(workers, len(items)) <= 1:
            yield from each(partial(task, report=report), items, workers, lost=lost)
        else:
            with tempfile.TemporaryDirectory(prefix="dove-") as folder:
                socket = Path(folder) / "events"
                with EventListener(socket, report):
                    yield from each(partial(task, report=partial(_send, str(socket))), items, workers, lost=lost)

    def device(self, requested: Device) -> Device:
        """Return the requested device: processes of this machine find its GPUs themselves."""
        return requested

    def resources(self, device: str, count: int) -> Resources:
        """Return that `count` tasks run on this machine, which limit themselves."""
        return Resources(count)

    def pieces(self, parts: int, count: int, resources: Resources) -> int:
        """Return one task for each process, so that each loads the model once."""
        return min(parts, count)


def _send(socket: str, event: Event) -> None:
    with Client(socket) as connection:  # one for each event: the listener accepts one connection at a time
        connection.send(event)


@contextmanager
def executing(config: ExecutorConfig) -> Iterator[Executor]:
    """Yield an executor; a Ray cluster that was started for it ends with the context.

    If this process is connected to a Ray cluster already, that cluster is used and left running.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
    """
    if config.executor == "local":
        yield Local()
        return
    from dove_core.on_ray import cluster  # noqa: PLC0415  # Ray is an extra

    with cluster(config.ray_address) as found:
        yield found
