"""Where to compute, and how precisely."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import simplejpeg
import torch

from dove_core.config import ComputeConfig
from dove_core.encoding.preprocess import decode_jpegs
from dove_core.errors import UsageError
from dove_core.executors import Executor
from dove_core.processes import Resources

_MOST_WORKERS = 16
_CORES_FOR_A_GPU = 8


def choose_device(name: str) -> torch.device:
    """Turn `auto`, `cpu` or `cuda` into a device.

    Raises:
        UsageError: cuda was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("--device cuda: this machine has no GPU that torch can use", hint="use --device cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def mixed_dtype(device: torch.device, amp: bool) -> torch.dtype | None:
    """Return the type of mixed precision that this device gains from, None for none.

    bf16 on GPUs that have it, fp16 on older ones. On a CPU only with bf16 instructions: emulated, bf16 trains ResNet-18
    many times slower than float32.
    """
    if not amp:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if can.get("avx512_bf16") or can.get("amx_bf16") else None


def cores_at_hand() -> int:
    """Return how many processor cores this process may count on: the machine's, shared among those that train here."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def worker_count(workers: int, device: torch.device, processes: int = 1) -> int:
    """Return how many processes read and decode: as asked for, or for -1 as many as a GPU can use and cores allow.

    On a CPU the model itself needs the cores, and two readers are more than enough for it. Several `processes` that
    compute on this machine share its cores.
    """
    if workers >= 0:
        return workers
    cores = max(1, cores_at_hand() // processes)
    return min(2, cores) if device.type == "cpu" else max(1, min(_MOST_WORKERS, cores - 1))


def hold_to_gpus(device: torch.device, count: int, *, asked: str = "") -> None:
    """Hold a number of processes, a GPU each, to what this machine has; on a CPU any number will do.

    Unless the device `asked` for was `auto`: whoever asks for GPUs then, and has none, is told.

    Raises:
        UsageError: there are fewer GPUs.
    """
    if asked == "auto" and device.type == "cpu" and count > 1:
        hint = "leave --gpus out, or use --device cpu for several CPU processes"
        raise UsageError(f"--gpus {count}: this machine has no GPU that torch can use", hint=hint)
    found = torch.cuda.device_count()
    if device.type == "cuda" and count > found:
        raise UsageError(f"--gpus {count}: this machine has {found}", hint=f"use at most --gpus {found}")


def hold_tasks(executor: Executor, compute: ComputeConfig, count: int) -> ComputeConfig:
    """Return how `count` tasks that are at work at once compute.

    Raises:
        UsageError: there are fewer GPUs, or none where one is asked for.
    """
    if not executor.is_remote:
        hold_to_gpus(choose_device(compute.device), count, asked=compute.device)
    return replace(compute, device=executor.device(compute.device))


def in_task(compute: ComputeConfig, resources: Resources, number: int) -> ComputeConfig:
    """Take a task's share of the machine it is on, unless it was given one; return how it computes there.

    Args:
        compute: as `hold_tasks` returns it.
        resources: what it has.
        number: which of the tasks that are at work at once it is.
    """
    if not resources.cpus:
        take_share(compute.device, number, resources.tasks)
    readers = worker_count(compute.workers, choose_device(compute.device), resources.tasks)
    return replace(compute, workers=readers)


def take_share(device: str, number: int, processes: int) -> None:
    """Make this process, one of several, compute on the GPU of its `number`, or on its share of the cores."""
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(number)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def decodes_on_gpu(device: torch.device, decode: str) -> bool:
    """Tell whether JPEGs are decoded on the device: `cpu`, `gpu`, or `auto`.

    `auto` asks the GPU where there are fewer cores than can feed it: it trains on about 3,000 images a second, and a
    core decodes 430; with enough of them, decoding on the GPU would only take its time from training.

    Raises:
        UsageError: the GPU was asked for, and there is none or it cannot.
    """
    if decode == "cpu" or (decode == "auto" and cores_at_hand() >= _CORES_FOR_A_GPU):
        return False
    if device.type == "cuda":
        tiny = torch.from_numpy(np.frombuffer(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)), np.uint8).copy())
        try:
            decode_jpegs([tiny], device)
            return True
        except RuntimeError as error:
            if decode == "auto":
                return False
            hint = "torchvision needs nvJPEG for this; use --decode cpu"
            raise UsageError(f"--decode gpu: this GPU cannot decode JPEGs: {error}", hint=hint) from error
    if decode == "gpu":
        raise UsageError("--decode gpu: training does not run on a GPU here", hint="use --decode cpu or auto")
    return False


def mixed(device: torch.device, amp: bool) -> AbstractContextManager[object]:
    """Return the autocast context of `mixed_dtype`, or one that does nothing."""
    dtype = mixed_dtype(device, amp)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
