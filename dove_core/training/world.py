"""Processes that train together: the only place that knows torch.distributed.

`launch` runs a job in this process, starts several by torch's elastic launcher, on one machine or on several, or joins
those that torchrun or srun started. Only the first process reports; what it reports, returns or raises reaches the
caller as itself.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
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
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousError, RendezvousTimeoutError
from torch.distributed.launcher.api import LaunchConfig as ElasticConfig, elastic_launch
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from dove_core.config import LaunchConfig
from dove_core.errors import DoveError, TrainingError, UsageError
from dove_core.events import Noted, Report, silent
from dove_core.model.compute import choose_device
from dove_core.processes import Ear, end_with_parent
from dove_core.training.ending import Ending
from dove_core.training.meeting import GO_ON, arrange, ended_elsewhere, too_few, unreachable
from dove_core.training.network import choose_interface, giving_up_after
from dove_core.training.pulse import LostError, Pulse
from dove_core.training.quiet import quiet_launcher, silence_launcher
from dove_core.training.slurm import srun_variables

T = TypeVar("T")
Job = Callable[..., T]
_TIMEOUT = timedelta(hours=2)
"""How long a process waits for others that are alive; the first one validates and saves alone meanwhile."""

_SETTLE = 1
"""Seconds until a process that died is known to be dead: what ends in others because of it comes later."""

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

    def everyones(self, value: T) -> list[T]:
        """Return a value of every process, in the order of their ranks."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

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


def launch(
    launching: LaunchConfig, device: str, job: Job[T], arguments: tuple[Any, ...], *, report: Report = silent
) -> T | None:
    """Run `job(world, report, *arguments)` in as many processes as asked for and return the first one's result.

    Where a process dies or fails, all are started again, up to `launching.restarts` times; the job itself finds what to
    go on from. A DoveError ends the launch at once. Under torchrun, and among several tasks of srun, the job joins
    these instead. On other machines than the first process's, and in other processes that it joins, there is no result.

    Raises:
        UsageError: more GPUs are asked for than there are; several machines without a meeting point.
        TrainingError: a process died too often; machines did not meet, or are not heard of any more.
        DoveError: whatever a process raised.
        KeyboardInterrupt: Ctrl-C or SIGTERM, to this process or to one of the others.
    """
    nodes, count = launching.node_range, launching.gpus
    if count == 1 and nodes == (1, 1) and (found := srun_variables()):
        os.environ.update(found)
        report(
            Noted(f"SLURM: task {found['RANK']} of {found['WORLD_SIZE']} meets the others at {found['MASTER_ADDR']}")
        )
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _join_running(launching, device, job, arguments, report)
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


def _join_running(
    launching: LaunchConfig, device: str, job: Job[T], arguments: tuple[Any, ...], report: Report
) -> T | None:
    """Do this process's part among those that torchrun or srun started."""
    try:
        with _joined(choose_device(device).type, launching, lambda reason: report(Noted(reason))) as world:
            result = job(world, report if world.first else silent, *arguments)
            return result if world.first else None
    except LostError as error:
        raise TrainingError(str(error), hint=GO_ON) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def _joined(kind: str, launching: LaunchConfig, tell: Callable[[str], None] | None = None) -> Iterator[World]:
    """Join the processes that the environment tells of, as torchrun and the elastic launcher write it.

    Raises:
        LostError: one of them is gone, or does not come.
    """
    rank, size, local = (int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    device = torch.device(kind)
    if kind == "cuda":  # a scheduler may show each process its own GPU alone
        device = torch.device(kind, local % torch.cuda.device_count())
        torch.cuda.set_device(device)
    choose_interface(host, port)
    meeting, patience = timedelta(seconds=launching.meet_within), timedelta(seconds=launching.lost_after)
    try:
        store, *_ = next(rendezvous("env://", rank, size, timeout=meeting))
    except dist.DistError as error:
        raise LostError(f"training process {rank} did not meet the others at {host}:{port}: {error}") from error
    pulse = Pulse(
        lambda: TCPStore(host, port, timeout=patience), rank, size,
        patience=launching.lost_after, arrival=launching.meet_within, tell=tell,
    )  # fmt: skip
    with pulse:
        try:
            backend = "nccl" if kind == "cuda" else "gloo"
            dist.init_process_group(
                backend, store=PrefixStore("dove", store), rank=rank, world_size=size, timeout=_TIMEOUT
            )
            yield World(rank, size, device, int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)))
        except RuntimeError as error:
            if pulse.lost or isinstance(error, dist.DistError) or "gloo/transport" in str(error):
                raise LostError(pulse.lost or f"the connection to another training process broke: {error}") from error
            raise


def _start_all(
    folder: Path, launching: LaunchConfig, kind: str, job: Job[T], arguments: tuple[Any, ...], report: Report
) -> T | None:
    if launching.rendezvous:
        report(Noted(f"waiting for machines ({launching.nodes}) at {launching.rendezvous}"))
    threads, ending = max(1, torch.get_num_threads() // launching.gpus), Ending(folder)
    port = launching.meeting_point[1] if launching.rendezvous else 0
    with Ear(folder / _EVENTS, report), quiet_launcher(), giving_up_after(launching.lost_after, port):
        try:
            values = elastic_launch(_elastic(launching), _work)(folder, launching, kind, threads, job, arguments)
        except SignalException:
            raise KeyboardInterrupt from None
        except RendezvousError as error:
            raise ending.find() or _not_met(error, launching) from error
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise ending.find() or ending.failure(rank, failure.exitcode) from None
    if end := ending.find():
        raise end
    result: T | None = values.get(0)
    return result


def _not_met(error: RendezvousError, launching: LaunchConfig) -> TrainingError:
    if isinstance(error, RendezvousTimeoutError):
        return too_few(launching)
    return ended_elsewhere(launching) if isinstance(error, RendezvousClosedError) else unreachable(launching, error)


def _elastic(launching: LaunchConfig) -> ElasticConfig:
    least, most = launching.node_range
    meeting = arrange(launching)
    return ElasticConfig(
        min_nodes=least,
        max_nodes=most,
        nproc_per_node=launching.gpus,
        run_id=meeting.run,
        rdzv_backend="c10d",
        rdzv_endpoint=meeting.endpoint,
        rdzv_configs=meeting.configs,
        max_restarts=launching.restarts,
        start_method="spawn",
        local_addr=meeting.own,
    )


def _work(
    folder: Path, launching: LaunchConfig, kind: str, threads: int, job: Job[T], arguments: tuple[Any, ...]
) -> T | None:
    """Do one process's part, in a process that the elastic launcher started."""
    silence_launcher()
    torch.set_num_threads(threads)
    threading.Thread(target=end_with_parent, daemon=True).start()
    ending, alone = Ending(folder), os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]
    if alone and ending.find():
        return None  # what ended the launch would only come again
    try:
        with _joined(kind, launching) as world:
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
    ends = [end for end in world.everyones(ending.find()) if end is not None]
    if ends:
        ending.note(ends[0])
    return bool(ends)
