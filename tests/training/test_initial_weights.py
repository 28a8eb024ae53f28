"""Initial weights of the image trunk: from torchvision, from a file, or none."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from dove_core.errors import CheckpointError
from dove_core.model.backbone import make_trunk
from dove_core.training.initial_weights import load_initial_weights


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return torchvision.models.resnet18(weights=None).state_dict()


def test_weights_are_loaded_from_a_file_of_torch_or_of_safetensors(state, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        trunk = make_trunk("resnet18", 32)
        load_initial_weights(trunk, str(tmp_path / name), "auto")
        assert torch.equal(trunk.state_dict()["stages.3.1.conv2.weight"], state["layer4.1.conv2.weight"])
        assert torch.equal(trunk.state_dict()["stem.0.weight"], state["conv1.weight"])


def test_none_keeps_the_random_weights():
    trunk = make_trunk("resnet18", 32)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    load_initial_weights(trunk, "none", "auto")
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


def test_missing_damaged_and_unsuitable_files_are_errors_with_a_hint(state, tmp_path):
    torch.save(state, tmp_path / "r18.pth")
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "r50.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "truncated.pth").write_bytes((tmp_path / "r18.pth").read_bytes()[:5000])
    for name, words in (
        ("r50.pth", "do not fit resnet18"),
        ("list.pth", "no state_dict"),
        ("no.pth", "does not exist"),
        ("truncated.pth", "cannot be read"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            load_initial_weights(make_trunk("resnet18", 32), str(tmp_path / name), "auto")
        assert name in caught.value.message
        assert caught.value.hint


def test_imagenet_weights_are_taken_from_torchvisions_cache(state, tmp_path, monkeypatch):
    url = torchvision.models.ResNet18_Weights.DEFAULT.url
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[1])
    monkeypatch.setattr("torch.hub.HASH_REGEX", re.compile("never"))
    trunk = make_trunk("resnet18", 32)
    load_initial_weights(trunk, "imagenet", "auto")
    assert torch.equal(trunk.state_dict()["stem.0.weight"], state["conv1.weight"])
