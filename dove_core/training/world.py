"""Processes that train together: the only place that knows torch.distributed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
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
from dove_core.errors import TrainingError
from dove_core.training.meeting import arrange, ended_elsewhere, too_few, unreachable
from dove_core.training.network import choose_interface
from dove_core.training.pulse import LostError, Pulse

T = TypeVar("T")
_TIMEOUT = timedelta(hours=2)
"""How long a process waits for others that are alive; the first one validates and saves alone meanwhile."""

_NOTED = 0.2
"""Seconds in which a launcher that gets a signal together with its processes has noted that."""


@dataclass(frozen=True)
class World:
    """This process among those that train together, started anew `restarts` times.

    `signalled` tells whether a signal to this process means that somebody wants an end.
    """

    rank: int
    size: int
    device: torch.device
    restarts: int = 0
    signalled: Callable[[], bool] = lambda: True

    @property
    def first(self) -> bool:
        """Tell whether this process reports, validates and saves."""
        return self.rank == 0

    def gather(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Join `(n_k, ...)` of all processes along the first dimension, with gradient.

        The gradient of a process's part is the sum over all processes' losses.

        Args:
            x: this process's part.
            counts: the n_k of all processes. Each knows them: to ask would make it wait for its GPU.
        """
        if self.size == 1:
            return x
        padded = torch.cat((x, x.new_zeros(max(counts) - len(x), *x.shape[1:])))
        parts = _AllGather.apply(padded, self.rank, self.size)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def together(self, module: nn.Module) -> nn.Module:
        """Average the gradients of a module over the processes.

        Without `device_ids`, which would only move all of a batch to the GPU: lengths have to stay on the CPU.
        """
        return module if self.size == 1 else DistributedDataParallel(module)

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

    def interruption(self) -> BaseException:
        """Return what to raise when all processes know of a signal: an end, or a new start with other machines."""
        time.sleep(_NOTED)
        return KeyboardInterrupt() if self.any(self.signalled()) else AnewError("the launcher starts all anew")

    def everyones(self, value: T) -> list[T]:
        """Return a value of every process, in the order of their ranks."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)


class AnewError(Exception):
    """The launcher wants all processes to start anew, since a machine came; the state is saved."""


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


@contextmanager
def joined(
    kind: str, launching: LaunchConfig, *, tell: Callable[[str], None] | None = None,
    signalled: Callable[[], bool] = lambda: True,
) -> Iterator[World]:  # fmt: skip
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
            yield World(rank, size, device, int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)), signalled)
            dist.destroy_process_group()
        except RuntimeError as error:
            if pulse.lost or isinstance(error, dist.DistError) or "gloo/transport" in str(error):
                raise LostError(pulse.lost or f"the connection to another training process broke: {error}") from error
            raise


class FailedError(Exception):
    """Processes failed too often; the last time it began with process `rank`, which ended with `code`."""

    def __init__(self, rank: int, code: int) -> None:
        super().__init__(f"process {rank} ended with {code}")
        self.rank, self.code = rank, code


def start(launching: LaunchConfig, work: Callable[..., T | None], arguments: tuple[Any, ...]) -> T | None:
    """Start this machine's processes, and start them anew where one of any machine's fails; return the first's result.

    Raises:
        KeyboardInterrupt: Ctrl-C or a signal.
        TrainingError: machines did not meet, or lost each other.
        FailedError: processes failed too often.
    """
    try:
        values: dict[int, T | None] = elastic_launch(_elastic(launching), work)(*arguments)
    except SignalException:
        raise KeyboardInterrupt from None
    except RendezvousError as error:
        raise _not_met(error, launching) from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise FailedError(rank, failure.exitcode) from None
    return values.get(0)


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
