"""Devices, precision, and the number of processes that compute or read."""

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
from dove_core.processes import Resources, cores

_MOST_WORKERS = 16
_CORES_FOR_A_GPU = 8


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: the device is `cuda`, and there is no GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("--device cuda: this machine has no GPU that torch can use", hint="use --device cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def mixed_dtype(device: torch.device, amp: bool, *, training: bool = False) -> torch.dtype | None:
    """Return the type for mixed precision on this device; None if it would not be faster.

    GPUs use bf16, or fp16 if they are older. CPUs encode in bf16 only with bf16 instructions, and train in it only with
    AMX: with AVX-512's alone, the backward pass of a convolution takes more time than in float32.
    """
    if not amp:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if has.get("amx_bf16") or (has.get("avx512_bf16") and not training) else None


def usable_cores() -> int:
    """Return the number of CPU cores for this process: those of the machine divided by its training processes."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def worker_count(workers: int, device: torch.device, processes: int = 1) -> int:
    """Return the number of processes that read and decode images: `workers`, or for -1 a number that fits the cores.

    For a GPU it is up to 16. For a CPU it is up to 2, because the model needs the cores. `processes` that compute on
    this machine share its cores.
    """
    if workers >= 0:
        return workers
    own = max(1, usable_cores() // processes)
    return min(2, own) if device.type == "cpu" else max(1, min(_MOST_WORKERS, own - 1))


def check_gpu_count(device: torch.device, count: int, *, setting: str = "") -> None:
    """Check that this machine has a GPU for each of `count` processes; on a CPU any number is valid.

    With the `setting` --device auto and no GPU, more than one process is an error too.

    Raises:
        UsageError: there are fewer GPUs.
    """
    if setting == "auto" and device.type == "cpu" and count > 1:
        hint = "remove --gpus, or use --device cpu for several CPU processes"
        raise UsageError(f"--gpus {count}: this machine has no GPU that torch can use", hint=hint)
    available = torch.cuda.device_count()
    if device.type == "cuda" and count > available:
        raise UsageError(f"--gpus {count}: this machine has {available}", hint=f"use at most --gpus {available}")


def settings_for_tasks(executor: Executor, compute: ComputeConfig, count: int) -> ComputeConfig:
    """Return the settings with the device for `count` tasks that run at once.

    Raises:
        UsageError: there are fewer GPUs than tasks.
    """
    if not executor.is_remote:
        check_gpu_count(choose_device(compute.device), count, setting=compute.device)
    return replace(compute, device=executor.device(compute.device))


def settings_in_task(compute: ComputeConfig, resources: Resources, number: int) -> ComputeConfig:
    """Limit this task to its share of the machine, and return its settings.

    Args:
        compute: what `settings_for_tasks` returned.
        resources: of the task; if it has CPUs reserved for it, it needs no limit.
        number: of this task among those that run at once.
    """
    if not resources.cpus:
        limit_to_share(compute.device, number, resources.tasks)
    readers = worker_count(compute.workers, choose_device(compute.device), resources.tasks)
    return replace(compute, workers=readers)


def limit_to_share(device: str, number: int, processes: int) -> None:
    """Make this process, one of several, use the GPU `number`, or its share of the CPU cores."""
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(number)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def decodes_on_gpu(device: torch.device, decode: str) -> bool:
    """Tell whether JPEGs are decoded on the GPU, for `decode` as `cpu`, `gpu` or `auto`.

    `auto` uses the GPU if there are fewer than 8 cores: a GPU trains on about 3,000 images a second, and a core decodes
    430. With more cores, decoding on the GPU would slow down training.

    Raises:
        UsageError: `decode` is `gpu`, and there is no GPU or it cannot decode JPEGs.
    """
    if decode == "cpu" or (decode == "auto" and usable_cores() >= _CORES_FOR_A_GPU):
        return False
    if device.type == "cuda":
        tiny = torch.from_numpy(np.frombuffer(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)), np.uint8).copy())
        try:
            decode_jpegs([tiny], device)
            return True
        except RuntimeError as error:
            if decode == "auto":
                return False
            hint = "torchvision needs nvJPEG; use --decode cpu"
            raise UsageError(f"--decode gpu: this GPU cannot decode JPEGs: {error}", hint=hint) from error
    if decode == "gpu":
        raise UsageError("--decode gpu: training runs on the CPU", hint="use --decode cpu or auto")
    return False


def mixed(device: torch.device, amp: bool, *, training: bool = False) -> AbstractContextManager[object]:
    """Return an autocast context with the type of `mixed_dtype`, or one without effect."""
    dtype = mixed_dtype(device, amp, training=training)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
