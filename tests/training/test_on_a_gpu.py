"""What a training step does on a GPU, shown without one by tensors that only claim to be there: it queues its work and
waits for none of it, and computes in the precision that is meant. The GRU is replaced by a product of the same shape,
since cuDNN asks for a real one; of the way back nothing is shown."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

from benchmarks.gpu_traffic import GPU, FakeGpuMode, Traffic, fake_gpu, learn, supports_fake_gpu
from dove_core.config import TrainConfig
from dove_core.model.dove import Dove
from tests.made import SMALL

pytestmark = pytest.mark.skipif(not supports_fake_gpu(), reason="this torch has no fake GPU tensors")
aten = torch.ops.aten
LENGTHS = torch.tensor([3, 6, 5, 5, 2, 6, 4, 4, 6, 1, 2, 3])


class Watch(FakeGpuMode):
    """Notes what makes a process wait for its GPU, and of which types softmaxes are."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.softmaxes = list[str](), list[tuple[int, torch.dtype]]()
        self.seen = 0

    def note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        self.seen += 1
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if func is aten._to_copy.default and kwargs.get("device") is not None:
            if torch.device(kwargs["device"]).type != args[0].device.type and not kwargs.get("non_blocking"):
                self.waits.append(f"{args[0].device} to {kwargs['device']}")
        elif func in (aten.copy_.default, aten.index.Tensor, aten.index_put_.default, aten.index_select.default):
            if len({x.device.type for x in tensors if x.dim()}) > 1:
                self.waits.append(str(func))
        elif func in (aten.nonzero.default, aten.masked_select.default, aten._local_scalar_dense.default):
            self.waits.append(str(func))
        elif func is aten._softmax.default:
            self.softmaxes.append((result.shape[-1], result.dtype))


def step(training: TrainConfig, *, amp: bool = False) -> Watch:
    """Take in a batch of 12 captions."""
    watch = Watch()
    with fake_gpu(watch, amp=amp):
        losses = learn(Dove(SMALL, words=40), training, SMALL.image_size, LENGTHS)
    assert losses.loss.device == GPU
    assert watch.seen > 100
    return watch


@pytest.mark.parametrize("objective", ["triplet", "infonce"])
@pytest.mark.parametrize("amp", [False, True])
def test_a_step_waits_for_nothing(objective, amp):
    training = TrainConfig(objective=objective, jitter=0.2, captions_per_picture=2, paired_captions=2)
    assert step(training, amp=amp).waits == []


def test_a_wait_for_the_gpu_is_noticed(monkeypatch):
    name = "dove_core.training.objective.normalise"
    monkeypatch.setattr(name, lambda x, mean, std: x.float() - torch.ones(3, 1, 1).to(x.device))
    assert step(TrainConfig()).waits == ["cpu to cuda:0"]
    monkeypatch.setattr(name, lambda x, mean, std: x.float()[torch.arange(12)])
    assert step(TrainConfig()).waits == ["aten.index.Tensor"]


def test_in_half_precision_attention_maps_stay_so_and_scores_are_float32():
    regions = SMALL.region_grid**2
    maps = {kind for over, kind in step(TrainConfig(), amp=True).softmaxes if over == regions}
    assert maps == {torch.bfloat16}
    with fake_gpu(Watch(), amp=True):
        losses = learn(Dove(SMALL, words=40), TrainConfig(), SMALL.image_size, LENGTHS)
    assert {part.dtype for part in losses} == {torch.float32}


def test_the_gru_stays_in_float32_on_a_gpu():
    # cuDNN's would take float16 under autocast, whatever autocast was asked for, and bf16 has no scaled loss.
    seen = list[tuple[bool, torch.dtype]]()
    model = Dove(SMALL, words=40)
    note = lambda _, given: seen.append((torch.is_autocast_enabled("cuda"), given[0].data.dtype))  # noqa: E731
    model.text.gru.register_forward_pre_hook(note)
    with fake_gpu(Watch(), amp=True):
        learn(model, TrainConfig(), SMALL.image_size, LENGTHS)
        assert torch.is_autocast_enabled("cuda")
    assert seen == [(False, torch.float32)]


def test_captions_have_no_fused_attention_which_would_compile_for_each_shape(monkeypatch):
    masks = list[Tensor | None]()
    fused = torch.nn.functional.scaled_dot_product_attention

    def note(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        masks.append(attn_mask)
        return fused(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", note)
    step(TrainConfig(), amp=True)
    assert masks == [None]  # that of the regions and scales


def test_bytes_are_counted():
    with fake_gpu(traffic := Traffic()):
        x = torch.empty(10, 20, device=GPU)
        assert isinstance(x, FakeTensor)
        assert traffic.moved == 0
        (x.T[:5] + 1).relu_()
    assert traffic.moved == 4 * (50 + 50 + 50 + 50)
