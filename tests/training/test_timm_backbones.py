"""Backbones of timm from initial weights to a query, and the normalisation that travels with a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from dove_core.config import EmbedConfig, QueryConfig, TrainConfig
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError, DownloadError, UsageError
from dove_core.index.embed import embed
from dove_core.model.backbone import make_trunk
from dove_core.model.normalisation import IMAGENET
from dove_core.search.query import Searcher
from dove_core.training.initial_weights import load_initial_weights
from dove_core.training.loop import resume, train
from tests.conftest import ALONE
from tests.hub_server import hub_serving, use_in_this_process
from tests.made import SMALL

KINDS = {
    "test_efficientnet": IMAGENET.mean,
    "test_convnext": (0.5, 0.5, 0.5),
    "test_vit": (0.5, 0.5, 0.5),
    "swin_tiny_patch4_window7_224": IMAGENET.mean,
}
"""Model of timm -> mean of its input."""

ONE_STEP = TrainConfig(weights="none", batch_size=8, max_steps=1)


@pytest.mark.parametrize("name", KINDS)
def test_a_model_of_each_kind_trains_resumes_embeds_and_answers(name, shapes, tmp_path):
    model = dataclasses.replace(SMALL, backbone=f"timm:{name}", image_size=64)
    assert train(shapes / "train", tmp_path / "run", model, ONE_STEP, ALONE).steps == 1
    assert resume(tmp_path / "run", ALONE, changes={"max_steps": 2}).steps == 2
    best = tmp_path / "run" / "best"
    assert tuple(json.loads((best / "model.json").read_text())["mean"]) == KINDS[name]
    assert load_encoder(best).preprocess.normalisation.mean == KINDS[name]
    index = embed(best, shapes / "test", tmp_path / "index", EmbedConfig(regions=True), ALONE)
    assert len(Searcher.open(index.folder, ALONE).ask("a red circle", QueryConfig(top=3, rerank=3))) == 3


def test_training_lowers_the_loss_of_a_model_of_timm(shapes, tmp_path):
    model = dataclasses.replace(SMALL, backbone="timm:test_efficientnet")
    training = TrainConfig(weights="none", batch_size=16, epochs=4, learning_rate=1e-3, objective="infonce")
    history = train(shapes / "train", tmp_path / "run", model, training, ALONE).history
    assert history[-1]["loss"] < history[0]["loss"] - 0.5


def test_a_query_of_an_index_imports_no_timm(shapes, tmp_path):
    model = dataclasses.replace(SMALL, backbone="timm:test_vit")
    train(shapes / "train", tmp_path / "run", model, ONE_STEP, ALONE)
    index = embed(tmp_path / "run" / "best", shapes / "test", tmp_path / "index", EmbedConfig(), ALONE)
    code = (
        "import sys, runpy; sys.argv = ['dove', 'query', 'a red circle', '--json', '--index', sys.argv[1]]\n"
        "try: runpy.run_module('dove_cli', run_name='__main__')\n"
        "except SystemExit as done: assert not done.code\n"
        "heavy = {'timm', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    command = [sys.executable, "-c", code, str(index.folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "red circle" in done.stdout


def test_a_checkpoint_keeps_the_normalisation_that_it_was_trained_with(trained, tmp_path):
    folder = shutil.copytree(trained / "best", tmp_path / "copy")
    values = json.loads((folder / "model.json").read_text())
    assert (tuple(values["mean"]), tuple(values["std"])) == IMAGENET
    values["mean"] = [0.1, 0.2, 0.3]
    (folder / "model.json").write_text(json.dumps(values))
    encoder = load_encoder(folder)
    black = encoder.preprocess.normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)).flatten()
    assert torch.allclose(black, -torch.tensor([0.1, 0.2, 0.3]) / torch.tensor(IMAGENET.std))
    del values["mean"], values["std"]  # as earlier versions wrote it
    (folder / "model.json").write_text(json.dumps(values))
    assert load_encoder(folder).preprocess.normalisation == IMAGENET
    for bad in ({"std": [1, 0, 1]}, {"mean": [1, 2]}, {"mean": "imagenet"}):
        (folder / "model.json").write_text(json.dumps(values | bad))
        with pytest.raises(CheckpointError, match="mean and std must be three numbers each"):
            load_encoder(folder)


def test_weights_of_timm_come_from_the_hub_once(tmp_path, monkeypatch):
    net = timm.create_model("test_convnext")
    files = {"model.safetensors": safetensors.torch.save(net.state_dict())}
    with hub_serving() as hub:
        use_in_this_process(hub, tmp_path / "home", monkeypatch)
        hub.add("timm/test_convnext.r160_in1k", files, kind="model")
        trunk = make_trunk("timm:test_convnext", 64)
        load_initial_weights(trunk, "imagenet", "auto")
        assert torch.equal(trunk.net.stem[0].weight, net.stem[0].weight)
    use_in_this_process(hub, tmp_path / "home", monkeypatch, offline=True)
    again = make_trunk("timm:test_convnext", 64)
    load_initial_weights(again, "imagenet", "auto")  # from the cache, without the server
    assert torch.equal(again.net.stem[0].weight, net.stem[0].weight)
    with pytest.raises(DownloadError, match=r"timm:test_vit cannot be downloaded from timm") as caught:
        load_initial_weights(make_trunk("timm:test_vit", 64), "imagenet", "auto")
    assert "--weights FILE" in (caught.value.hint or "")


def test_a_model_without_published_weights_is_an_error():
    with pytest.raises(UsageError, match="timm has no pre-trained weights of test_coatnet") as caught:
        load_initial_weights(make_trunk("timm:test_coatnet", 64), "imagenet", "auto")
    assert "--weights none" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_a_file_with_the_names_of_timm_is_loaded(name, tmp_path):
    net = timm.create_model(name)
    state = net.state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, tmp_path / "w.pth")
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    for file in ("w.pth", "w.safetensors"):
        trunk = make_trunk(f"timm:{name}", 64)
        load_initial_weights(trunk, str(tmp_path / file), "auto")
        assert all(torch.equal(value, state[key]) for key, value in trunk.net.state_dict().items())


def test_positions_of_a_vision_transformer_are_interpolated_to_the_image_size(tmp_path):
    net = timm.create_model("test_vit")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "w.safetensors")
    trunk = make_trunk("timm:test_vit", 96)
    load_initial_weights(trunk, str(tmp_path / "w.safetensors"), "auto")
    assert trunk.net.pos_embed.shape[1] < net.pos_embed.shape[1]
    assert torch.equal(trunk.net.blocks[5].attn.qkv.weight, net.blocks[5].attn.qkv.weight)


def test_a_file_of_another_model_of_timm_is_an_error(tmp_path):
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    for name in ("test_efficientnet", "test_vit", "test_convnext", "resnet18"):
        with pytest.raises(CheckpointError, match=r"tensors do not fit|cannot convert") as caught:
            load_initial_weights(make_trunk(f"timm:{name}", 64), str(tmp_path / "w.safetensors"), "auto")
        assert "w.safetensors" in caught.value.message
