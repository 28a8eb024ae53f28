"""Processes that train together: the only place that knows torch.distributed.

`launch` runs a job in this process, starts several by torch's elastic launcher, on one machine or on several, or joins
a running torchrun. Only the first process reports; what it reports, returns or raises reaches the caller as itself.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig as ElasticConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from dove_core.config import LaunchConfig
from dove_core.errors import DoveError, TrainingError, UsageError
from dove_core.events import Noted, Report, silent
from dove_core.model.compute import choose_device
from dove_core.processes import Ear, end_with_parent
from dove_core.training.ending import Ending

T = TypeVar("T")
_TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others; the first one validates and saves alone meanwhile."""

_SETTLE = 1
"""Seconds until a process that died is known to be dead: what ends in others because of it comes later."""

_LAUNCHER = ("torch.distributed.elastic", "torch.multiprocessing.spawn")
_NOT_SHARED = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"

_EVENTS = "events"
"""In the folder of a launch: the socket that hears the first process."""


@dataclass(frozen=True)
class World:
    """This process among those that train together, started anew `restarts` times."""

    rank: int
    size: int
    device: torch.device
    restarts: int = 0

    @property
    def first(self) -> bool:
        """Tell whether this process reports, validates and saves."""
        return self.rank == 0

    def gather(self, x: Tensor) -> Tensor:
        """Join `(n_k, ...)` of all processes along the first dimension, with gradient; the n_k may differ.

        The gradient of a process's part is the sum over all processes' losses.
        """
        if self.size == 1:
            return x
        counts = self._counts(len(x))
        padded = torch.cat((x, x.new_zeros(max(counts) - len(x), *x.shape[1:])))
        parts = _AllGather.apply(padded, self.rank, self.size)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def together(self, module: nn.Module) -> nn.Module:
        """Average the gradients of a module over the processes."""
        if self.size == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids)

    def apart(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients of a module are kept back, to be averaged with later ones."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def any(self, value: bool) -> bool:
        """Tell whether it is true for any process."""
        if self.size == 1:
            return value
        count = torch.tensor(int(value), device=self.device)
        dist.all_reduce(count)
        return bool(count.item())

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Average some figures over the processes."""
        if self.size == 1:
            return values
        flat = torch.tensor(list(values.values()), device=self.device, dtype=torch.float64)
        dist.all_reduce(flat)
        return dict(zip(values, (flat / self.size).tolist(), strict=True))

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def _counts(self, own: int) -> list[int]:
        counts = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        counts[self.rank] = own
        dist.all_reduce(counts)
        found: list[int] = counts.tolist()
        return found


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, size: int) -> tuple[Tensor, ...]:
        ctx.rank = rank
        parts = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(parts, x.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        everyone = torch.stack(gradients)
        dist.all_reduce(everyone)
        return everyone[ctx.rank], None, None


Job = Callable[..., T]


def launch(
    launching: LaunchConfig, device: str, job: Job[T], arguments: tuple[Any, ...], *, report: Report = silent
) -> T | None:
    """Run `job(world, report, *arguments)` in as many processes as asked for and return the first one's result.

    Where a process dies or fails, all are started again, up to `launching.restarts` times; the job itself finds what to
    go on from. A DoveError ends the launch at once. Under torchrun the job joins that instead. On other machines than
    the first process's, and in other processes of a torchrun, there is no result.

    Raises:
        UsageError: more GPUs are asked for than there are; several machines without a meeting point.
        TrainingError: a process died too often.
        DoveError: whatever a process raised.
        KeyboardInterrupt: Ctrl-C or SIGTERM, to this process or to one of the others.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _join_torchrun(device, job, arguments, report)
    nodes, count = launching.node_range, launching.gpus
    kind = choose_device(device).type
    if kind == "cuda" and count > torch.cuda.device_count():
        message = f"--gpus {count}: this machine has {torch.cuda.device_count()} GPU(s)"
        raise UsageError(message, hint="ask for fewer, or use --device cpu to train with several CPU processes")
    if count == 1 and nodes == (1, 1):
        return job(World(0, 1, torch.device(kind)), report, *arguments)
    if kind == "cpu" and device == "auto":
        message = f"--gpus {count}: this machine has no GPU that torch can use"
        raise UsageError(message, hint="leave --gpus out, or use --device cpu to train with several CPU processes")
    with tempfile.TemporaryDirectory(prefix="dove-") as folder:
        return _start_all(Path(folder), launching, kind, job, arguments, report)


def restarted() -> bool:
    """Tell whether torchrun started this process again, after one of a run's processes died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def _join_torchrun(device: str, job: Job[T], arguments: tuple[Any, ...], report: Report) -> T | None:
    world = _join(choose_device(device).type)
    try:
        result = job(world, report if world.first else silent, *arguments)
    finally:
        dist.destroy_process_group()
    return result if world.first else None


def _join(kind: str) -> World:
    """Join the processes that the environment tells of, as torchrun and the elastic launcher write it."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device(kind, int(os.environ.get("LOCAL_RANK", rank))) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method="env://", rank=rank, world_size=size, timeout=_TIMEOUT)
    return World(rank, size, device, int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)))


def _start_all(
    folder: Path, launching: LaunchConfig, kind: str, job: Job[T], arguments: tuple[Any, ...], report: Report
) -> T | None:
    if launching.rendezvous:
        report(Noted(f"waiting for machines ({launching.nodes}) at {launching.rendezvous}"))
    threads, ending = max(1, torch.get_num_threads() // launching.gpus), Ending(folder)
    with Ear(folder / _EVENTS, report), _quiet_launcher():
        try:
            config = _elastic(launching)
            values = elastic_launch(config, _work)(folder, kind, threads, job, arguments)
        except SignalException:
            raise KeyboardInterrupt from None
        except RendezvousError as error:
            message = f"the machines did not meet at {launching.rendezvous or 'localhost'}: {error}"
            hint = "give the same command on each; can they reach that host and port?"
            raise TrainingError(message, hint=hint) from error
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise ending.find() or ending.failure(rank, failure.exitcode) from None
    if end := ending.find():
        raise end
    result: T | None = values.get(0)
    return result


def _elastic(launching: LaunchConfig) -> ElasticConfig:
    least, most = launching.node_range
    run, own, configs = uuid.uuid4().hex, "localhost", dict[str, bool]()
    host, port = "localhost", 0
    if launching.rendezvous:
        host, port = launching.meeting_point
        own = _address_towards(host, port)
        run = "dove"
        if not own.startswith("127."):  # there the launcher knows by itself, and two can share a machine
            configs["is_host"] = socket.gethostbyname(host) == own
    return ElasticConfig(
        min_nodes=least,
        max_nodes=most,
        nproc_per_node=launching.gpus,
        run_id=run,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{host}:{port}",
        rdzv_configs=configs,
        max_restarts=launching.restarts,
        start_method="spawn",
        local_addr=own,
    )


def _address_towards(host: str, port: int) -> str:
    """Return the address by which this machine is seen from a host."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))  # sends nothing
            address: str = probe.getsockname()[0]
            return address
    except OSError as error:
        message = f"--rendezvous {host}:{port} cannot be reached: {error}"
        raise UsageError(message, hint="give a host name or address of one of the machines that train") from error


@contextmanager
def _quiet_launcher() -> Iterator[None]:
    """Give signals back as they were, and keep the launcher's own words back: errors reach the user as ours.

    Each start gets a store of its own: in a shared one, processes that are started again would find the addresses of
    those before them.
    """
    loggers = [logging.getLogger(name) for name in _LAUNCHER]
    levels, numbers = (
        [logger.level for logger in loggers],
        (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    )
    before = {number: signal.getsignal(number) for number in numbers}
    shared = os.environ.get(_NOT_SHARED, "0")
    os.environ[_NOT_SHARED] = "1"
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        os.environ[_NOT_SHARED] = shared
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _work(folder: Path, kind: str, threads: int, job: Job[T], arguments: tuple[Any, ...]) -> T | None:
    """Do one process's part, in a process that the elastic launcher started."""
    for name in _LAUNCHER:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    torch.set_num_threads(threads)
    threading.Thread(target=end_with_parent, daemon=True).start()
    ending, alone = Ending(folder), os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]
    if alone and ending.find():
        return None  # what ended the launch would only come again
    try:
        world = _join(kind)
        if not alone and _ended_elsewhere(ending, world):
            return None
        with Client(str(folder / _EVENTS)) if world.first else nullcontext() as ear:
            send = ear.send if ear else silent
            for line in ending.failures() if world.first else ():
                send(Noted(line))
            result = job(world, send, *arguments)
        dist.destroy_process_group()
        return result if world.first else None
    except (DoveError, KeyboardInterrupt) as error:
        ending.note(error)
        os._exit(1)
    except Exception:
        time.sleep(_SETTLE)  # one that died in silence takes the others' connections with it, and is the cause
        ending.note_failure(int(os.environ["RANK"]))
        os._exit(1)


def _ended_elsewhere(ending: Ending, world: World) -> bool:
    """Tell whether any machine's processes ended for good, and note it here too."""
    everyone: list[BaseException | None] = [None] * world.size
    dist.all_gather_object(everyone, ending.find())
    ends = [end for end in everyone if end is not None]
    if ends:
        ending.note(ends[0])
    return bool(ends)
