"""Every benchmark runs at a tiny size, so that its imports and calls stay valid; its figures mean nothing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    "updates": "--rows 3000 --images 8 --rounds 1",
}
COMPARED = ("ratio", "x unzip", "times", "to ours", "of the first's", "| global |")
"""Words that benchmarks print with a ratio or, for RSICD, with recall."""

NEEDS = {"bucket_loader": "moto", "executors": "ray", "search": "usearch"}


def test_every_benchmark_is_tested():
    there = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert there - set(SMALL) == {"agreement", "clip_models"}  # it installs clip-benchmark; it measures nothing


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
