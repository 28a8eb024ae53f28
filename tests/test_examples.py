"""The examples in docstrings: every public name has one, and all of them run as they are written."""

from __future__ import annotations

import doctest
import importlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest

import dove_core
from dove_core.config import EmbedConfig, ShardConfig, TrainConfig
from dove_core.data.scenes import draw_release
from dove_core.data.sharding.shards import shard_captions
from dove_core.evaluation.evaluate import evaluate
from dove_core.index.embed import embed
from dove_core.training.loop import train
from tests.clip_files import make_architectures_small, plain_file, tiny_model
from tests.clip_models import make_clip
from tests.conftest import ALONE
from tests.made import COLOURS, SHAPES, SMALL, draw_shape, make_karpathy

CONSTANTS = {"RELEASES"}
ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ROOT.glob("dove_core/**/*.py"))
    if ">>> " in path.read_text()
]


@pytest.fixture(scope="module")
def small_architectures():
    with pytest.MonkeyPatch.context() as patch:
        make_architectures_small(patch)
        yield


@pytest.fixture(scope="module")
def folder(shapes, trained, small_architectures, tmp_path_factory):
    """A working folder in which a small release was sharded, a model trained and an index made."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(shapes, folder / "shards" / "shapes")
    shutil.copytree(trained, folder / "runs" / "shapes")
    best = folder / "runs/shapes/best"
    embed(best, folder / "shards/shapes", folder / "index/shapes", EmbedConfig(), ALONE)
    for name in ("before.json", "after.json"):
        (folder / name).write_text(json.dumps(evaluate(best, shapes / "test", compute=ALONE).to_json()))
    stopped = TrainConfig(weights="none", batch_size=16, max_steps=1)
    train(shapes / "train", folder / "runs/stopped", SMALL, stopped, ALONE)
    _, images = make_karpathy(folder, {"test": 24})
    labels = [f"{path.name},{SHAPES[int(path.stem[5:]) // len(COLOURS) % len(SHAPES)]}" for path in images.iterdir()]
    (folder / "labels.csv").write_text("\n".join(["filepath,label", *labels, ""]))
    shard_captions(folder / "labels.csv", images, folder / "shards/labels", ShardConfig(workers=1), split="test")
    draw_release(folder / "data/sample", workers=1, counts={"train": 8, "val": 4, "test": 4})
    (folder / "mirror/benchmark").mkdir(parents=True)
    zipfile.ZipFile(folder / "mirror/benchmark/RSICD.zip", "w").close()
    draw_shape("red", "circle").save(folder / "my_image.png")
    (folder / "mine.pt").write_bytes(plain_file(tiny_model("ViT-B-32", quick_gelu=True)))
    make_clip(folder / "models" / "small")
    return folder


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report = []
    for found in doctest.DocTestFinder().find(importlib.import_module(name), name, extraglobs={"dove": dove_core}):
        runner.run(found, out=report.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", sorted(set(dove_core.__all__) - CONSTANTS))
def test_a_public_name_has_an_example(name):
    assert ">>> " in (getattr(dove_core, name).__doc__ or "")
