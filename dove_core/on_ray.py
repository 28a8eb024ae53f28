"""Independent tasks on a Ray cluster: one that runs, or one of this machine that is started for the call.

A task goes as pickled bytes to one remote function, which is sent by value: a worker without dove can say so. Results
and reports come back together, so a task whose worker was killed, and which was done again, has reported once.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from dove_core.config import Device
from dove_core.errors import DataError, UsageError
from dove_core.events import Report
from dove_core.processes import WHOLE_MACHINE, Resources, cores, without_interrupts

Item = TypeVar("Item")
Result = TypeVar("Result")

RETRIES = 3
"""Times that a task is done again after its worker, or its machine, died."""

_GRACE = 3.0
"""Seconds that cancelled tasks have to put away what they have half written."""

_PATIENCE = 5.0
"""Seconds in which a cluster has to answer."""

_GPU_TASKS = 4
"""Tasks for each GPU: each loads the model anew, since Ray ends a worker that had a GPU, and few balance badly."""

_OWN = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_raylet_start_wait_time_s": "120"}
"""What a cluster of our own is started with: it tells nobody, takes orders with a token only, and may be slow."""

_QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""What keeps Ray from speaking of GPUs that a task does not use."""


class Cluster:
    """A Ray cluster that this process is connected to."""

    is_remote = True

    def __init__(self, ray: Any) -> None:
        self._ray = ray

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
        """Do tasks as `Executor.each` says; one whose worker dies is done again, `RETRIES` times at most."""
        needs = {"num_cpus": max(1, resources.cpus), "num_gpus": resources.gpus, "max_retries": RETRIES}
        remote, sent = self._ray.remote(**needs)(_work()), self._ray.put(packed(task))
        waiting, running = iter(items), dict[Any, Item]()
        try:
            while True:
                for item in islice(waiting, max(0, (workers or self._room()) - len(running))):
                    running[remote.remote(sent, packed(item), report is not None)] = item
                if not running:
                    return
                (done,), _ = self._ray.wait(list(running), num_returns=1)
                item = running.pop(done)
                result, events = self._got(done, lost)
                for event in events:
                    if report is not None:
                        report(event)
                yield item, result
        finally:
            with without_interrupts():
                self._cancel(list(running))

    def device(self, asked: Device) -> Device:
        """Return `cuda` unless the cluster has no GPU, or `cpu` is asked for.

        Raises:
            UsageError: `cuda` is asked for and the cluster has no GPU.
        """
        found = any(node.get("GPU") for node in self._nodes())
        if asked == "cuda" and not found:
            raise UsageError("--device cuda: the Ray cluster has no GPU", hint="use --device cpu or auto")
        return "cuda" if found and asked != "cpu" else "cpu"

    def resources(self, device: str, count: int) -> Resources:
        """Return a GPU for each task, or as many cores as each of `count` tasks has on the smallest machine."""
        kind = "GPU" if device == "cuda" else "CPU"
        machines = [node for node in self._nodes() if node.get(kind, 0) >= 1] or [{"CPU": 1.0, "GPU": 1.0}]
        tasks = -(-count // len(machines))
        if kind == "GPU":
            return Resources(tasks, cpus=1, gpus=1)
        return Resources(tasks, cpus=max(1, int(min(machine["CPU"] for machine in machines)) // tasks))

    def pieces(self, parts: int, count: int, resources: Resources) -> int:
        """Return one for each part, or so many that loading the model on a GPU matters little."""
        return min(parts, _GPU_TASKS * count) if resources.gpus else parts

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _room(self) -> int:
        """Return how many tasks to have under way: two for each core that the cluster has now."""
        return max(2, 2 * int(self._ray.cluster_resources().get("CPU", 0)))

    def _got(self, reference: Any, lost: str) -> tuple[Any, list[Any]]:
        errors = self._ray.exceptions
        try:
            kind, value, events = self._ray.get(reference)
        except errors.RayTaskError:
            raise  # a bug, with its traceback
        except errors.RayError as error:
            message = f"a worker process died, and again when its task was repeated ({type(error).__name__})"
            raise DataError(message, hint=lost) from error
        if kind == "missing":
            host, package = value
            hint = 'install the same dove on every machine of the cluster, and Ray: pip install "ray>=2.44"'
            raise UsageError(f"a Ray worker on {host} has no package {package}", hint=hint)
        if kind == "failed":
            raise value
        return value, events

    def _cancel(self, references: list[Any]) -> None:
        """End tasks: those at work put away what they have half written, or are killed."""
        for is_forced, patience in ((False, _GRACE), (True, _PATIENCE)):
            if references:
                for reference in references:
                    self._ray.cancel(reference, force=is_forced)
                _, references = self._ray.wait(references, num_returns=len(references), timeout=patience)


def _work() -> Callable[[bytes, bytes, bool], tuple[str, Any, list[Any]]]:
    """Return what a Ray worker does. It is a function in a function, so that Ray sends its code, not its name."""

    def work(task: bytes, item: bytes, tells: bool) -> tuple[str, Any, list[Any]]:
        import pickle
        import socket

        events: list[Any] = []
        try:
            from dove_core.errors import DoveError

            function = pickle.loads(task)
        except ModuleNotFoundError as error:
            return "missing", (socket.gethostname(), error.name), events
        try:
            reporting = {"report": events.append} if tells else {}
            return "done", function(pickle.loads(item), **reporting), events
        except DoveError as error:
            return "failed", error, events

    return work


class _Packer(pickle.Pickler):
    """Pickles, and makes relative paths absolute: a worker's current folder is another."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Path) and not value.is_absolute():
            return Path, (str(Path.cwd() / value),)
        return NotImplemented


def packed(value: Any) -> bytes:
    """Return a value as bytes that mean the same in another folder."""
    stream = io.BytesIO()
    _Packer(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return stream.getvalue()


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Connect to a cluster for as long as the context lasts; what is started for it ends with it.

    Args:
        address: HOST:PORT; `local` to start one here; nothing: RAY_ADDRESS, else one that `ray start` started here,
            else one is started.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        message = "--executor ray needs a package that is not installed: ray"
        raise UsageError(message, hint='pip install "ray>=2.44"') from error
    if ray.is_initialized():
        yield Cluster(ray)
        return
    found = address or os.environ.get("RAY_ADDRESS", "") or _left_here()
    found = "" if found == "local" else found
    try:
        with _as_before(_QUIET if found else {**_OWN, **_QUIET, **os.environ}):
            _connect(ray, found)
        yield Cluster(ray)
    finally:
        with without_interrupts():
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        try:
            ray.init(address="local", num_cpus=cores(), include_dashboard=False, **quiet)
        except Exception as error:  # Ray raises nothing more special
            hint = "has the machine memory, and room in the folder for temporary files?"
            raise UsageError(f"no Ray cluster can be started here: {error}", hint=hint) from error
        return
    hint = "`ray status` says whether it runs; one with tokens needs RAY_AUTH_MODE=token; `local` starts one here"
    if not _answers(address):
        raise UsageError(f"no Ray cluster answers at {address}", hint=hint)
    try:
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"the Ray cluster at {address} cannot be used: {error}", hint=hint) from error


def _left_here() -> str:
    """Return the address that `ray start` noted on this machine, if somebody answers there."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        address = Path(folder, "ray", "ray_current_cluster").read_text().strip()
    except OSError:
        return ""
    return address if _answers(address) else ""


def _answers(address: str) -> bool:
    """Tell whether anybody listens at HOST:PORT: Ray itself would ask a silent one for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return False
    with suppress(OSError, OverflowError), socket.create_connection((host.strip("[]"), int(port)), _PATIENCE):
        return True
    return False


@contextmanager
def _as_before(environment: dict[str, str]) -> Iterator[None]:
    """Set variables, and leave all, and signals, as they were: Ray's own answer to SIGTERM would not be ours."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
