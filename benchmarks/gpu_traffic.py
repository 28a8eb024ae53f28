"""Bytes that the forward pass of a training step moves in GPU memory, counted without a GPU.

    python -m benchmarks.gpu_traffic                    # ResNet-50 at 256 pixels, 256 pairs, bf16
    python -m benchmarks.gpu_traffic --no-amp

The tensors are fake: each operation is dispatched and typed as on a GPU, with autocast, but computes nothing. The bytes
that each operation reads and writes are counted. Prints the bytes of the trunk (the baseline) and of the rest of DOVE,
with the ratio. Memory bounds these operations, so the ratio approximates that of their times. The GRU, a cuDNN kernel,
is replaced by a matrix product of the same shape. Does not work with torch 2.6.
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dove_core.config import ModelConfig, TrainConfig
from dove_core.model.dove import Dove
from dove_core.training.batches import Batch
from dove_core.training.objective import Losses, Objective

GPU = torch.device("cuda", 0)
_MOST_WORDS = 20


class FakeGpuMode(TorchDispatchMode, ABC):
    """Allows operations of fake GPU tensors with real CPU tensors; `note` is called for each with a fake tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        fakes = [x for x in tree_leaves((args, kwargs)) if isinstance(x, FakeTensor)]
        target = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if not fakes and (target is None or target.type == "cpu"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        packs = func is torch.ops.aten._pack_padded_sequence.default
        result = _pack(*args) if packs else func(*args, **kwargs)
        self.note(func, args, kwargs, result)
        return result

    @abstractmethod
    def note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Receive an operation and its result."""


class Traffic(FakeGpuMode):
    """Counts the bytes that operations read and write; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Add the bytes of an operation."""
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, FakeTensor) and x.device == GPU]
        if isinstance(func, torch._ops.OpOverload) and func.namespace == "aten" and not _moves_nothing(func):
            self.moved += sum(x.numel() * x.element_size() for x in tensors)


def _moves_nothing(func: torch._ops.OpOverload) -> bool:
    return func.is_view or func.__name__.startswith(("_unsafe_view", "empty"))


def _pack(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Pack as torch does; torch itself cannot pack fake tensors."""
    with unset_fake_temporarily():
        sizes = torch._VF._pack_padded_sequence(  # type: ignore[attr-defined]
            torch.zeros(*x.shape[:2], 1), lengths, batch_first
        )[1]
        words = int(lengths.sum())
    return x.new_empty(words, x.shape[2]), sizes


def _product(self: nn.GRU, x: PackedSequence) -> tuple[PackedSequence, None]:
    return x._replace(data=x.data @ self.weight_ih_l0[: 2 * self.hidden_size].T), None


def supports_fake_gpu() -> bool:
    """Return whether this torch supports fake tensors on a missing GPU; 2.6 does not."""
    try:
        with FakeTensorMode():
            torch.empty(2, 2, device=GPU)[0].relu()
    except RuntimeError:
        return False
    return True


@contextmanager
def fake_gpu(mode: FakeGpuMode, *, amp: bool = False) -> Iterator[None]:
    """Create fake tensors on a GPU, with `amp` in bf16, for as long as the context."""
    gru, was, kind = nn.GRU.forward, torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    nn.GRU.forward = _product  # type: ignore[method-assign, assignment]
    torch.set_autocast_enabled("cuda", amp)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), mode:
            yield
    finally:
        torch.set_autocast_enabled("cuda", was)
        torch.set_autocast_dtype("cuda", kind)
        torch.clear_autocast_cache()
        nn.GRU.forward = gru  # type: ignore[method-assign]


def learn(model: Dove, training: TrainConfig, size: int, lengths: Tensor) -> Losses:
    """Run the forward pass of a training step on fake tensors, with captions of `lengths` and their images."""
    objective, count = Objective(model.train(), training, lambda x, counts: x), training.captions_per_picture
    images = len(lengths) // count
    for part in objective.modules():
        for name, value in [*part.named_parameters(recurse=False)]:
            part._parameters[name] = nn.Parameter(torch.empty(value.shape, device=GPU))
        for name, value in [*part.named_buffers(recurse=False)]:
            part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=GPU)
    pixels = torch.empty(images, 3, size, size, dtype=torch.uint8, device=GPU)
    tokens = torch.ones(len(lengths), int(lengths.max()), dtype=torch.int64, device=GPU)
    rows = torch.empty(count, images, dtype=torch.int64, device=GPU)
    batch = Batch(pixels, tokens, lengths, rows, len(lengths), rows[0], rows)
    result: Losses = objective(batch, [images])
    return result


def main() -> None:
    """Print the bytes of the trunk, of the rest, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--amp", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    model, traffic, trunk = Dove(ModelConfig(image_size=arguments.size), words=5000), Traffic(), list[int]()
    model.trunk.register_forward_pre_hook(lambda *_: trunk.append(traffic.moved))
    model.trunk.register_forward_hook(lambda *_: trunk.append(traffic.moved))
    lengths = torch.arange(arguments.batch_size) % _MOST_WORDS + 1
    with fake_gpu(traffic, amp=arguments.amp):
        learn(model, TrainConfig(), arguments.size, lengths)
    bare = trunk[1] - trunk[0]
    rest = traffic.moved - bare
    print(f"the trunk alone      {bare / 1e9:8.2f} GB")
    print(f"the rest of DOVE     {rest / 1e9:8.2f} GB   {rest / bare:.3f} times the trunk")


if __name__ == "__main__":
    main()
