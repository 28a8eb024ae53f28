"""Processes that train together: the only place that knows torch.distributed.

`launch` runs a job in this process, starts several on this machine, or joins a running torchrun. Only the first process
reports; what it reports, returns or raises reaches the caller as itself.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dove_core.errors import DoveError, TrainingError, UsageError
from dove_core.events import Event, Report, silent
from dove_core.model.compute import choose_device
from dove_core.processes import end_with_parent

T = TypeVar("T")
_TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others; the first one validates and saves alone meanwhile."""

_FAREWELL = 30
"""Seconds that a process which is done gets to leave its group."""


_SETTLE = 1
"""Seconds until a process that died is known to be dead."""


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device

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


def launch(count: int, device: str, job: Job[T], arguments: tuple[Any, ...], *, report: Report = silent) -> T | None:
    """Run `job(world, report, *arguments)` in `count` processes and return the first one's result.

    Under torchrun it joins that instead; there only the first process gets a result.

    Raises:
        UsageError: more GPUs are asked for than there are.
        TrainingError: a process died.
        DoveError: whatever a process raised.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _join_torchrun(device, job, arguments, report)
    kind = choose_device(device).type
    if kind == "cuda" and count > torch.cuda.device_count():
        message = f"--gpus {count}: this machine has {torch.cuda.device_count()} GPU(s)"
        raise UsageError(message, hint="ask for fewer, or use --device cpu to train with several CPU processes")
    if count == 1:
        return job(World(0, 1, torch.device(kind)), report, *arguments)
    if kind == "cpu" and device == "auto":
        message = f"--gpus {count}: this machine has no GPU that torch can use"
        raise UsageError(message, hint="leave --gpus out, or use --device cpu to train with several CPU processes")
    return _start_all(count, kind, job, arguments, report)


def _join_torchrun(device: str, job: Job[T], arguments: tuple[Any, ...], report: Report) -> T | None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    world = _join(rank, size, int(os.environ.get("LOCAL_RANK", rank)), choose_device(device).type, "env://")
    try:
        result = job(world, report if world.first else silent, *arguments)
    finally:
        dist.destroy_process_group()
    return result if world.first else None


def _join(rank: int, size: int, local: int, kind: str, address: str) -> World:
    device = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=size, timeout=_TIMEOUT)
    return World(rank, size, device)


def _start_all(count: int, kind: str, job: Job[T], arguments: tuple[Any, ...], report: Report) -> T:
    context = mp.get_context("spawn")
    messages = context.Queue()
    with tempfile.TemporaryDirectory(prefix="dove-") as folder:
        address = (Path(folder) / "rendezvous").as_uri()
        threads = max(1, torch.get_num_threads() // count)
        fixed = (count, kind, address, threads, messages, job, arguments)
        processes = [context.Process(target=_process, args=(rank, *fixed)) for rank in range(count)]
        for process in processes:
            process.start()
        try:
            result: T = _listen(processes, messages, report)
            for process in processes:
                process.join(_FAREWELL)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()
    return result


def _process(
    rank: int, count: int, kind: str, address: str, threads: int, messages: Any, job: Job[T], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=end_with_parent, daemon=True).start()

    def send(event: Event) -> None:
        messages.put(("event", event))

    try:
        world = _join(rank, count, rank, kind, address)
        result = job(world, send if rank == 0 else silent, *arguments)
        messages.put(("result", result if rank == 0 else None))
        dist.destroy_process_group()
    except DoveError as error:
        messages.put(("error", error))
    except KeyboardInterrupt:
        messages.put(("interrupt", None))
    except Exception:
        messages.put(("bug", traceback.format_exc()))  # and an exit code of 0, unlike a process that was killed


def _listen(processes: list[Any], messages: Any, report: Report) -> Any:
    results, finished = [], 0
    while finished < len(processes):
        try:
            kind, content = messages.get(timeout=1)
        except queue.Empty:
            _all_alive(processes)
            continue
        if kind == "event":
            report(content)
        elif kind == "error":
            raise content
        elif kind == "interrupt":
            raise KeyboardInterrupt
        elif kind == "bug":
            time.sleep(_SETTLE)
            _all_alive(processes)  # one that died in silence takes the others' connections with it
            raise RuntimeError(f"a training process failed:\n{content}")
        else:
            finished += 1
            results.append(content)
    return next((result for result in results if result is not None), None)


def _all_alive(processes: list[Any]) -> None:
    for rank, process in enumerate(processes):
        if process.exitcode not in (None, 0):
            message = f"training process {rank} ended with code {process.exitcode}"
            raise TrainingError(message, hint="out of memory? Try a smaller --batch-size; --resume goes on from last/")
