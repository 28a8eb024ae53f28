"""Image trunks: maps and their shapes, of torchvision's ResNets and of models of timm."""

from __future__ import annotations

import sys

import pytest
import timm
import torch
from torch import Tensor

from dove_core.config import ModelConfig
from dove_core.errors import UsageError
from dove_core.model.backbone import make_trunk
from dove_core.model.dove import Dove
from dove_core.model.normalisation import IMAGENET
from dove_core.model.trunk import Trunk

SWIN = "swin_tiny_patch4_window7_224"
KINDS = ["test_efficientnet", "test_convnext", "test_vit", SWIN]
"""A model of timm of each kind, the smallest that there is; Swin computes with channels last."""


def draw(size: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def maps_of(trunk: Trunk, size: int) -> list[Tensor]:
    with torch.no_grad():
        return trunk.eval()(draw(size))


@pytest.mark.parametrize("backbone", ["resnet18", *(f"timm:{kind}" for kind in KINDS)])
def test_a_trunk_returns_maps_of_the_shapes_that_it_says(backbone):
    trunk = make_trunk(backbone, 64)
    assert [tuple(m.shape[1:]) for m in maps_of(trunk, 64)] == [(w, side, side) for w, _, side in trunk.shapes]
    assert trunk.widths == tuple(width for width, _, _ in trunk.shapes)
    assert all(side == 64 // stride for _, stride, side in trunk.shapes)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_maps_of_timms_resnet_equal_those_of_torchvision(name):
    import torchvision

    state = getattr(torchvision.models, name)(weights=None).state_dict()
    trunks = [make_trunk(name, 64), make_trunk(f"timm:{name}", 64)]
    for trunk in trunks:
        trunk.load_state_dict(trunk.own_names(state))
    assert trunks[0].shapes == trunks[1].shapes
    for one, other in zip(*(maps_of(trunk, 64) for trunk in trunks), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("name", "sized"), [("test_efficientnet", {}), (SWIN, {"img_size": 64})])
def test_the_maps_are_those_that_timm_itself_returns(name, sized):
    trunk = make_trunk(f"timm:{name}", 64)
    net = timm.create_model(name, features_only=True, **sized).eval()
    own = {key.replace(".", "_"): value for key, value in trunk.net.state_dict().items()}
    net.load_state_dict({key: own[key.replace(".", "_")] for key in net.state_dict()})
    with torch.no_grad():
        expected = net(draw(64))
    if name == SWIN:
        expected = [m.permute(0, 3, 1, 2) for m in expected]
    for one, other in zip(maps_of(trunk, 64), expected[-4:], strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_plain_vision_transformer_gives_four_layers_at_equal_distances():
    trunk = make_trunk("timm:test_vit", 48)  # has six layers
    assert trunk.shapes == ((64, 16, 3),) * 4
    net = timm.create_model("test_vit", features_only=True, out_indices=(1, 2, 4, 5), img_size=48).eval()
    net.model.load_state_dict(trunk.net.state_dict())
    with torch.no_grad():
        expected = net(draw(48))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(maps_of(trunk, 48), expected, strict=True))


@pytest.mark.parametrize("name", KINDS)
def test_every_weight_of_a_trunk_gets_a_gradient_and_a_frozen_one_keeps_its_statistics(name):
    model = Dove(ModelConfig(backbone=f"timm:{name}", image_size=64, embed_dim=32, heads=4, region_grid=2), words=20)
    tokens, lengths = torch.randint(2, 20, (3, 5)), torch.tensor([5, 2, 4])
    images, captions, pairs = model(draw(64), tokens, lengths)
    (pairs.pow(2).sum() + (images.embedding @ captions.embedding.T).pow(2).sum()).backward()
    # processes that train together wait for the gradient of every parameter
    assert not [key for key, p in model.named_parameters() if p.grad is None]
    model.trunk.freeze()
    before = {key: value.clone() for key, value in model.trunk.state_dict().items()}
    model.train()(draw(64, seed=1), tokens, lengths)
    assert all(torch.equal(value, before[key]) for key, value in model.trunk.state_dict().items())
    assert not any(p.requires_grad for p in model.trunk.parameters())
    model.trunk.unfreeze()
    assert all(p.requires_grad for p in model.trunk.parameters())
    model(draw(64, seed=1), tokens, lengths)
    has_statistics = any("running_mean" in key for key in before)
    changed = any(not torch.equal(value, before[key]) for key, value in model.trunk.state_dict().items())
    assert changed == has_statistics == (name == "test_efficientnet")


def test_the_normalisation_is_that_of_timms_weights():
    assert make_trunk("timm:resnet18", 32).normalisation == make_trunk("resnet18", 32).normalisation == IMAGENET
    assert make_trunk("timm:test_vit", 32).normalisation == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("backbone", "size", "message", "hint"),
    [
        ("timm:resnet81", 64, "does not know the model", "timm:resnet18"),
        ("timm:test_vit.r161_in1k", 64, "does not know the model", "timm:test_vit.r160_in1k"),
        ("timm:xxxxxxxxxx", 64, "does not know the model", "timm.list_models"),
        ("timm:test_vit", 100, "takes no images of 100 pixels: Input height (100) should be", "use --image-size 96"),
        ("timm:test_vit", 40, "takes no images of 40 pixels", "use --image-size 32"),
        ("timm:crossvit_tiny_240", 64, "takes no images of 64 pixels", "use --image-size 240"),
    ],
)
def test_an_unknown_name_or_an_unfitting_size_is_an_error_with_one_that_works(backbone, size, message, hint):
    with pytest.raises(UsageError) as caught:
        make_trunk(backbone, size)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(("backbone", "size"), [("timm:test_vit", 96), ("timm:crossvit_tiny_240", 240)])
def test_the_size_that_the_error_names_works(backbone, size):
    assert make_trunk(backbone, size).shapes


def test_without_timm_the_error_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # as Python marks what cannot be imported
    with pytest.raises(UsageError, match="needs the library timm") as caught:
        make_trunk("timm:resnet18", 64)
    assert "pip install 'dove-eo[timm]'" in (caught.value.hint or "")
