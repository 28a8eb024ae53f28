"""The demo finds runways in images that the model was not trained on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dove_core.data.reader import Shards

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_demo_ends_with_runways(tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = ["sh", str(ROOT / "examples/demo.sh"), str(tmp_path / "demo")]
    done = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if line.startswith("$ dove ")]
    assert [line.split()[2] for line in commands] == ["fetch", "shard", "train", "eval", "embed", "query"]
    image = Path(done.stdout.splitlines()[-1].removeprefix("The ten images: "))
    assert image.read_bytes().startswith(b"\x89PNG")

    def data(*words: str) -> list[dict]:
        command = [sys.executable, "-m", "dove_cli", *words, "--json"]
        inside = {**environment, "PYTHONPATH": str(ROOT)}
        found = subprocess.run(command, cwd=tmp_path / "demo", capture_output=True, text=True, env=inside, check=True)
        return [json.loads(line) for line in found.stdout.splitlines()]

    test = Shards(tmp_path / "demo/shards/sample/test")
    tags = {record.sample.key: record.sample.tags for record in map(test.read, range(len(test)))}
    hits = data("query", "airport runway", "--top", "10")
    assert sum(tags[hit["key"]].get("aeroway") == "runway" for hit in hits) >= 8
    [scores] = data("eval")
    for row in ("global", "reranked", "pairwise"):
        assert scores["metrics"][row]["text_to_image_recall@10"] >= 10 * 100 * 10 / len(test)
