"""On a GPU a training step queues its work and waits for none of it: shown without one, by tensors that only claim to
be on a GPU. The GRU is replaced by a product of the same shape, since cuDNN asks for a real one; of the way back
nothing is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dove_core.config import TrainConfig
from dove_core.model.dove import Dove
from dove_core.training.batches import Batch
from dove_core.training.objective import Objective
from tests.made import SMALL

GPU = torch.device("cuda", 0)
aten = torch.ops.aten


class Watch(TorchDispatchMode):
    """Notes what makes a process wait for its GPU. What is on the CPU alone is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = list[str]()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        claims = [x for x in tensors if isinstance(x, FakeTensor)]
        goes = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if not claims and (goes is None or goes.type == "cpu"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        self.seen += 1
        if func is aten._pack_padded_sequence.default:
            return packed(*args)
        if func is aten._to_copy.default and goes is not None and goes.type != args[0].device.type:
            if not kwargs.get("non_blocking"):
                self.waits.append(f"{args[0].device} to {goes}")
        elif func in (aten.copy_.default, aten.index.Tensor, aten.index_put_.default, aten.index_select.default):
            if len({x.device.type for x in tensors if x.dim()}) > 1:
                self.waits.append(str(func))
        elif func in (aten.nonzero.default, aten.masked_select.default, aten._local_scalar_dense.default):
            self.waits.append(str(func))
        return func(*args, **kwargs)


def packed(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Pack as torch does, which has no such thing for tensors that only claim."""
    with unset_fake_temporarily():
        sizes = torch._VF._pack_padded_sequence(torch.zeros(*x.shape[:2], 1), lengths, batch_first)[1]
        words = int(lengths.sum())
    return x.new_empty(words, x.shape[2]), sizes


def product(self: nn.GRU, x: PackedSequence) -> tuple[PackedSequence, None]:
    """Stand in for a GRU."""
    return x._replace(data=x.data @ self.weight_ih_l0[: 2 * self.hidden_size].T), None


@contextmanager
def claiming() -> Iterator[Watch]:
    """Let tensors claim to be on a GPU."""
    with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
        yield watch


def on_gpu(module: nn.Module) -> nn.Module:
    """Let a module's parameters and buffers claim to be on a GPU."""
    for part in module.modules():
        for name, value in [*part.named_parameters(recurse=False)]:
            part._parameters[name] = nn.Parameter(torch.empty(value.shape, device=GPU))
        for name, value in [*part.named_buffers(recurse=False)]:
            part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=GPU)
    return module


def step(training: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Take in a batch of 6 pictures, each with two captions."""
    monkeypatch.setattr(nn.GRU, "forward", product)
    objective = Objective(Dove(SMALL, words=40).train(), training, lambda x, counts: x)
    lengths = torch.tensor([3, 6, 5, 5, 2, 6, 4, 4, 6, 1, 2, 3])
    with claiming() as watch:
        on_gpu(objective)
        pixels = torch.empty(6, 3, 32, 32, dtype=torch.uint8, device=GPU)
        tokens = torch.ones(12, 6, dtype=torch.int64, device=GPU)
        rows = torch.empty(2, 6, dtype=torch.int64, device=GPU)
        batch = Batch(pixels, tokens, lengths, rows, 12, rows[0], rows)
        watch.waits.clear()
        losses = objective(batch, [6])
    assert losses.total.device == GPU
    assert watch.seen > 100
    return watch


@pytest.mark.parametrize("objective", ["triplet", "infonce"])
def test_a_step_waits_for_nothing(objective, monkeypatch):
    training = TrainConfig(objective=objective, jitter=0.2, captions_per_picture=2, paired_captions=2)
    assert step(training, monkeypatch).waits == []


def test_what_makes_it_wait_is_seen(monkeypatch):
    name = "dove_core.training.objective.normalise"
    monkeypatch.setattr(name, lambda x: x.float() - torch.ones(3, 1, 1).to(x.device))
    assert step(TrainConfig(), monkeypatch).waits == ["cpu to cuda:0"]
    monkeypatch.setattr(name, lambda x: x.float()[torch.arange(6)])
    assert step(TrainConfig(), monkeypatch).waits == ["aten.index.Tensor"]
