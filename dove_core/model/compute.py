"""Where to compute, and how precisely."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import simplejpeg
import torch

from dove_core.errors import UsageError
from dove_core.model.preprocess import decode_jpegs


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


def decodes_on_gpu(device: torch.device, decode: str) -> bool:
    """Tell whether JPEGs are decoded on the device: `cpu`, `gpu`, or `auto`, which finds out whether it can.

    Raises:
        UsageError: the GPU was asked for, and there is none or it cannot.
    """
    if decode == "cpu":
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
