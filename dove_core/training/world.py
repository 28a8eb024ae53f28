"""Processes that train together: the only module that uses torch.distributed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import ProcessExitedException, start_processes
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

STEP_TIMEOUT = timedelta(minutes=10)
"""How long a collective of a training step may take: after that, another process counts as lost."""

_BARRIER_TIMEOUT = timedelta(hours=2)
"""How long processes wait at a barrier: the first process validates and saves alone meanwhile."""


_POLL = 0.2
"""Seconds between two looks at whether the user wants to end."""


class LostError(Exception):
    """Another training process cannot be reached; starting all processes again may help."""


@dataclass(frozen=True)
class World:
    """This process among those that train together, after `restarts` restarts of them all.

    `barriers` is the process group for barriers, whose timeout is longer than that of a step's collectives.
    """

    rank: int
    size: int
    device: torch.device
    restarts: int = 0
    barriers: Any = None

    @property
    def first(self) -> bool:
        """Tell whether this process reports, validates and saves."""
        return self.rank == 0

    def gather(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Join `(n_k, ...)` of all processes along the first dimension, with gradient.

        The gradient of a process's share is the sum over all processes' losses.

        Args:
            x: this process's share.
            counts: the n_k of all processes. Passing them avoids waiting for the GPU to exchange them.
        """
        if self.size == 1:
            return x
        padded = torch.cat((x, x.new_zeros(max(counts) - len(x), *x.shape[1:])))
        shares = _AllGather.apply(padded, self.rank, self.size)
        return torch.cat([share[:count] for share, count in zip(shares, counts, strict=True)])

    def data_parallel(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its gradients are averaged over the processes.

        Without `device_ids`, which would move the whole batch to the GPU: caption lengths have to stay on the CPU.
        """
        return module if self.size == 1 else DistributedDataParallel(module)

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which a wrapped module accumulates gradients without averaging them."""
        return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()

    def any(self, value: bool) -> bool:
        """Tell whether the value is true in any process."""
        if self.size == 1:
            return value
        count = torch.tensor(int(value), device=self.device)
        dist.all_reduce(count)
        return bool(count.item())

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Average values over the processes."""
        if self.size == 1:
            return values
        flat = torch.tensor(list(values.values()), device=self.device, dtype=torch.float64)
        dist.all_reduce(flat)
        return dict(zip(values, (flat / self.size).tolist(), strict=True))

    def gather_objects(self, value: T) -> list[T]:
        """Return the value of every process, in the order of their ranks."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            dist.barrier(self.barriers, device_ids=devices)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, size: int) -> tuple[Tensor, ...]:
        ctx.rank = rank
        shares = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(shares, x.contiguous())
        return tuple(shares)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        everyone = torch.stack(gradients)
        dist.all_reduce(everyone)
        return everyone[ctx.rank], None, None


@contextmanager
def process_group(device_type: str) -> Iterator[World]:
    """Join the processes that the environment variables of torchrun describe.

    Raises:
        LostError: another process ended, did not come, or did not answer within the timeout.
    """
    rank, size, local = (int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    device = torch.device(device_type)
    if device_type == "cuda":  # a scheduler may show each process only its own GPU
        device = torch.device(device_type, local % torch.cuda.device_count())
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=STEP_TIMEOUT)
        barriers = dist.new_group(timeout=_BARRIER_TIMEOUT)
        yield World(rank, size, device, int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)), barriers)
        dist.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo/transport" in str(error):
            raise LostError(f"training process {rank} of {size} lost another one: {error}") from error
        raise


def run_processes(
    work: Callable[..., None], arguments: tuple[Any, ...], count: int, restarts: int, is_interrupted: Callable[[], bool]
) -> tuple[int, int] | None:
    """Run `work(*arguments)` in processes of this machine, which can join a process group.

    Return rank and exit code of the first process that failed, None if none did. When one fails, the others are ended.
    When `is_interrupted` becomes true, each gets SIGTERM, and this waits for it.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each process that loses another would print a stack
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it warns when it ends the others
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # new: an old one has old addresses
    variables = {
        "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": str(restarts),
    }  # fmt: skip
    context = start_processes(_run_rank, (variables, work, arguments), count, join=False)  # type: ignore[no-untyped-call]
    try:
        is_passed_on = False
        while not context.join(_POLL):
            if is_interrupted() and not is_passed_on:
                is_passed_on = True
                for process in context.processes:
                    process.terminate()
        return None
    except ProcessExitedException as error:
        return error.error_index, error.exit_code
    finally:
        for process in context.processes:
            process.kill()


def _run_rank(rank: int, variables: dict[str, str], work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update({**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)})
    work(*arguments)
