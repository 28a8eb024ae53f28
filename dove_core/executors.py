"""Who does independent tasks: processes of this machine, or a Ray cluster that several machines form."""

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
"""What nobody has to say."""


class Executor(Protocol):
    """Does independent tasks: functions of modules that can be imported where the task runs, or `partial`s of them."""

    is_remote: bool
    """Whether tasks may run on other machines, which see this one's files only in a folder that all share."""

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
        """Yield every item with `task(item)`, as they are done; an error or Ctrl-C ends the rest.

        Args:
            task: what to call.
            items: what to call it with.
            workers: how many tasks are at work at once; 0: as many as there are processor cores.
            lost: what to do about a process that died, for the error.
            report: hears what tasks report; they are called as `task(item, report=...)` then.
            resources: what a task needs.

        Raises:
            DataError: a process died, on a cluster time and again.
            DoveError: whatever a task raised.
        """
        ...

    def device(self, asked: Device) -> Device:
        """Turn `auto` into the device that tasks are to compute on, where this process can know.

        Raises:
            UsageError: a GPU is asked for and nobody has one.
        """
        ...

    def resources(self, device: str, count: int) -> Resources:
        """Return what each task has if `count` of them compute at once."""
        ...

    def pieces(self, parts: int, count: int, resources: Resources) -> int:
        """Return into how many tasks to divide so many parts if `count` are to be at work at once."""
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
        """Do tasks as `processes.each` does; what they report comes through a socket."""
        workers = workers or cores()
        if report is None:
            yield from each(task, items, workers, lost=lost)
        elif min(workers, len(items)) <= 1:
            yield from each(partial(task, report=report), items, workers, lost=lost)
        else:
            with tempfile.TemporaryDirectory(prefix="dove-") as folder:
                ear = Path(folder) / "events"
                with EventListener(ear, report):
                    yield from each(partial(task, report=partial(_tell, str(ear))), items, workers, lost=lost)

    def device(self, asked: Device) -> Device:
        """Return what was asked for: processes of this machine see its GPUs themselves."""
        return asked

    def resources(self, device: str, count: int) -> Resources:
        """Return that `count` tasks are on this machine, and take their shares themselves."""
        return Resources(count)

    def pieces(self, parts: int, count: int, resources: Resources) -> int:
        """Return one for each process, which keeps its model."""
        return min(parts, count)


def _tell(ear: str, event: Event) -> None:
    with Client(ear) as end:  # a connection for each event: the ear hears one after another
        end.send(event)


@contextmanager
def executing(config: ExecutorConfig) -> Iterator[Executor]:
    """Give who does tasks; a Ray cluster that was started for this ends with the context.

    Within another such context, or where Ray is in use already, that cluster is taken, and left as it is.

    Raises:
        UsageError: a setting is out of bounds, Ray is not installed, or no cluster answers.
    """
    if config.executor == "local":
        yield Local()
        return
    from dove_core.on_ray import cluster  # noqa: PLC0415  # Ray is an extra

    with cluster(config.ray_address) as found:
        yield found
