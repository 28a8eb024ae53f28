"""Executor on a Ray cluster: a running one, or one that is started on this machine for the call.

A task is sent as pickled bytes to one remote function. The function itself is sent by value, so that a worker without
dove can report that. Results and events come back together, so a task that was repeated reports once.
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
"""Times that a task is repeated after its worker, or its machine, died."""

_GRACE = 3.0
"""Seconds in which cancelled tasks can remove incomplete files."""

_TIMEOUT = 5.0
"""Seconds in which a cluster has to answer."""

_GPU_TASKS = 4
"""Tasks for each GPU: Ray ends a worker that had a GPU, so each task loads the model; fewer would balance badly."""

_OWN = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_raylet_start_wait_time_s": "120"}
"""Variables of a new cluster: no usage statistics, access only with a token, a long time to start."""

_QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Variables that prevent Ray's warning about GPUs that a task does not use."""


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
        """Run tasks as `Executor.each` says; a task whose worker dies is repeated, at most `RETRIES` times."""
        needs = {"num_cpus": max(1, resources.cpus), "num_gpus": resources.gpus, "max_retries": RETRIES}
        remote, sent = self._ray.remote(**needs)(_work()), self._ray.put(packed(task))
        waiting, running = iter(items), dict[Any, Item]()
        try:
            while True:
                for item in islice(waiting, max(0, (workers or self._task_limit()) - len(running))):
                    running[remote.remote(sent, packed(item), report is not None)] = item
                if not running:
                    return
                (done,), _ = self._ray.wait(list(running), num_returns=1)
                item = running.pop(done)
                result, events = self._result(done, lost)
                for event in events:
                    if report is not None:
                        report(event)
                yield item, result
        finally:
            with without_interrupts():
                self._cancel(list(running))

    def device(self, requested: Device) -> Device:
        """Return `cuda` unless the cluster has no GPU, or `cpu` is requested.

        Raises:
            UsageError: `cuda` is requested and the cluster has no GPU.
        """
        found = any(node.get("GPU") for node in self._nodes())
        if requested == "cuda" and not found:
            raise UsageError("--device cuda: the Ray cluster has no GPU", hint="use --device cpu or auto")
        return "cuda" if found and requested != "cpu" else "cpu"

    def resources(self, device: str, count: int) -> Resources:
        """Return one GPU for each task, or the cores that each of `count` tasks gets on the smallest machine."""
        kind = "GPU" if device == "cuda" else "CPU"
        machines = [node for node in self._nodes() if node.get(kind, 0) >= 1] or [{"CPU": 1.0, "GPU": 1.0}]
        tasks = -(-count // len(machines))
        if kind == "GPU":
            return Resources(tasks, cpus=1, gpus=1)
        return Resources(tasks, cpus=max(1, int(min(machine["CPU"] for machine in machines)) // tasks))

    def pieces(self, parts: int, count: int, resources: Resources) -> int:
        """Return one task for each part, or on GPUs so few that loading the model takes little of the time."""
        return min(parts, _GPU_TASKS * count) if resources.gpus else parts

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _task_limit(self) -> int:
        """Return how many tasks to submit at once: two for each core that the cluster has now."""
        return max(2, 2 * int(self._ray.cluster_resources().get("CPU", 0)))

    def _result(self, reference: Any, lost: str) -> tuple[Any, list[Any]]:
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
        """Cancel tasks; those that do not end within `_GRACE` are killed."""
        for is_forced, timeout in ((False, _GRACE), (True, _TIMEOUT)):
            if references:
                for reference in references:
                    self._ray.cancel(reference, force=is_forced)
                _, references = self._ray.wait(references, num_returns=len(references), timeout=timeout)


def _work() -> Callable[[bytes, bytes, bool], tuple[str, Any, list[Any]]]:
    """Return the function that a Ray worker runs; since it is nested, Ray sends its code, not its name."""

    def work(task: bytes, item: bytes, reports: bool) -> tuple[str, Any, list[Any]]:
        import pickle
        import socket

        events: list[Any] = []
        try:
            from dove_core.errors import DoveError

            function = pickle.loads(task)
        except ModuleNotFoundError as error:
            return "missing", (socket.gethostname(), error.name), events
        try:
            reporting = {"report": events.append} if reports else {}
            return "done", function(pickle.loads(item), **reporting), events
        except DoveError as error:
            return "failed", error, events

    return work


class _Packer(pickle.Pickler):
    """Pickler that makes relative paths absolute, since a worker has another current folder."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Path) and not value.is_absolute():
            return Path, (str(Path.cwd() / value),)
        return NotImplemented


def packed(value: Any) -> bytes:
    """Return a pickled value with absolute paths."""
    stream = io.BytesIO()
    _Packer(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return stream.getvalue()


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Connect to a cluster during this context; a cluster that was started for it ends with it.

    Args:
        address: HOST:PORT; `local` starts a cluster here; if empty: RAY_ADDRESS, else a cluster that `ray start`
            started here, else a new one.

    Raises:
        UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        message = "--executor ray needs a package that is not installed: ray"
        raise UsageError(message, hint='pip install "ray>=2.44"') from error
    if ray.is_initialized():
        yield Cluster(ray)
        return
    found = address or os.environ.get("RAY_ADDRESS", "") or _local_cluster()
    found = "" if found == "local" else found
    try:
        with _restored_environment(_QUIET if found else {**_OWN, **_QUIET, **os.environ}):
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
        except Exception as error:  # Ray has no more specific error
            hint = "check free memory, and free space in the folder for temporary files"
            raise UsageError(f"a Ray cluster cannot be started here: {error}", hint=hint) from error
        return
    hint = "check it with `ray status`; one with tokens needs RAY_AUTH_MODE=token; `local` starts one here"
    if not _answers(address):
        raise UsageError(f"no Ray cluster answers at {address}", hint=hint)
    try:
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"the Ray cluster at {address} cannot be used: {error}", hint=hint) from error


def _local_cluster() -> str:
    """Return the address that `ray start` left on this machine, if a cluster answers there."""
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        address = Path(folder, "ray", "ray_current_cluster").read_text().strip()
    except OSError:
        return ""
    return address if _answers(address) else ""


def _answers(address: str) -> bool:
    """Tell whether a server listens at HOST:PORT; Ray itself would retry for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return False
    with suppress(OSError, OverflowError), socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT):
        return True
    return False


@contextmanager
def _restored_environment(environment: dict[str, str]) -> Iterator[None]:
    """Set variables during this context; restore them, and signal handlers, which Ray replaces."""
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
