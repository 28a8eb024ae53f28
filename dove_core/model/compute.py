"""Where to compute, and how precisely."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from dove_core.errors import UsageError


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


def mixed(device: torch.device, amp: bool) -> AbstractContextManager[object]:
    """Return the autocast context of `mixed_dtype`, or one that does nothing."""
    dtype = mixed_dtype(device, amp)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
