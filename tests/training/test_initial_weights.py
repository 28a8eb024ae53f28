"""Initial weights of the image trunk: from torchvision, from a file, or none."""

from __future__ import annotations

import argparse
import re

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from dove_core.encoding.preprocess import normalise
from dove_core.errors import CheckpointError
from dove_core.files import sha256_of
from dove_core.model.backbone import make_trunk
from dove_core.model.normalisation import IMAGENET
from dove_core.training.initial_weights import load_initial_weights
from dove_core.training.input_scaling import TORCHGEO


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
    torch.save({"state_dict": state, "args": argparse.Namespace()}, tmp_path / "code.pth")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><title>Sign in</title>")
    for name in ("pointer.pth", "pointer.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 100\n")
    (tmp_path / "truncated.pth").write_bytes((tmp_path / "r18.pth").read_bytes()[:5000])
    for name, words in (
        ("r50.pth", "do not fit resnet18"),
        ("list.pth", "no state_dict"),
        ("no.pth", "does not exist"),
        ("truncated.pth", "cannot be read"),
        ("empty.pth", "is empty"),
        ("page.pth", "is a web page"),
        ("pointer.pth", "is a pointer of Git LFS"),
        ("pointer.safetensors", "is a pointer of Git LFS"),
        ("code.pth", "would run code"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            load_initial_weights(make_trunk("resnet18", 32), str(tmp_path / name), "auto")
        assert name in caught.value.message
        assert "\n" not in caught.value.message
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


@pytest.mark.parametrize("prefix", ["", "module.encoder_q.", "backbone.", "backbone.backbone.resnet."])
def test_prefixes_a_second_encoder_and_a_missing_classifier_make_no_difference(prefix, state, tmp_path):
    named = {
        prefix + key: value
        for key, value in state.items()
        if not key.startswith("fc.") and not key.endswith("num_batches_tracked")
    }
    if prefix:  # as of momentum contrast
        named |= {f"momentum_{prefix}{key}": torch.zeros_like(value) for key, value in state.items()}
        named |= {"module.queue": torch.zeros(8), f"{prefix}fc.0.weight": torch.zeros(4, 4)}
    torch.save({"epoch": 200, "state_dict": named}, tmp_path / "w.pth")
    trunk = make_trunk("resnet18", 32)
    load_initial_weights(trunk, str(tmp_path / "w.pth"), "auto")
    own = trunk.own_names(state)
    assert all(torch.equal(value, own[name]) for name, value in trunk.state_dict().items())


def test_weights_for_more_than_three_bands_are_an_error_with_both_shapes(state, tmp_path):
    torch.save({**state, "conv1.weight": torch.zeros(64, 13, 7, 7)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"\(64, 13, 7, 7\) instead of \(64, 3, 7, 7\)") as caught:
        load_initial_weights(make_trunk("resnet18", 32), str(tmp_path / "w.pth"), "auto")
    assert "red, green and blue" in (caught.value.hint or "")


def test_a_file_of_torchgeo_sets_the_scaling_of_the_pixels_under_any_name(state, tmp_path, monkeypatch):
    torch.save(state, tmp_path / "mine.pth")
    trunk = make_trunk("resnet18", 32)
    load_initial_weights(trunk, str(tmp_path / "mine.pth"), "auto")
    assert trunk.normalisation == IMAGENET  # the file is none of torchgeo's
    # torchgeo's own files cannot be had here: this one takes the place of one of them
    monkeypatch.setitem(TORCHGEO, sha256_of(tmp_path / "mine.pth")[:8], "reflectance")
    load_initial_weights(trunk, str(tmp_path / "mine.pth"), "auto")
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert torch.allclose(normalise(white, *trunk.normalisation), torch.tensor(0.3558))
    for scaling, expected in (("unit", 1.0), ("imagenet", (1 - 0.485) / 0.229)):
        load_initial_weights(trunk, str(tmp_path / "mine.pth"), scaling)
        assert normalise(white, *trunk.normalisation)[0, 0, 0, 0].item() == pytest.approx(expected)
