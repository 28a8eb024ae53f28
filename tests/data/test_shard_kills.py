"""Sharding is killed at random moments; a second run ends with the files of an uninterrupted one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dove_core.config import ShardConfig
from dove_core.data.sharding.shards import shard_release
from dove_core.data.sharding.verify_shards import verify_shards
from tests.data.releases import contents, make_release

ROWS, CONFIG = 240, ShardConfig(shard_size=6, workers=1)
SCRIPT = """
import sys
from pathlib import Path
from dove_core.config import ShardConfig
from dove_core.data.sharding.shards import shard_release

print("ready", flush=True)
shard_release(Path(sys.argv[1]), Path(sys.argv[2]), ShardConfig(shard_size=6, workers=int(sys.argv[3])))
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("release"), ROWS)


@pytest.fixture(scope="module")
def whole(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    shard_release(release, out / "sky", CONFIG)
    return contents(out)


def start(release: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    """Start sharding in a process of its own; return when it is about to begin."""
    command = [sys.executable, "-c", SCRIPT, str(release), str(out), str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture(scope="module")
def seconds(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """How long a whole run takes, by the number of workers: kills are spread over that time."""
    found = {}
    for workers in (1, 2):
        with start(release, tmp_path_factory.mktemp("timed") / "sky", workers) as process:
            begin = time.monotonic()
            assert process.communicate()[0] == "done\n"
            found[workers] = time.monotonic() - begin
    return found


def kill_and_resume(seed: int, release: Path, whole: dict[str, bytes], seconds: dict[int, float], folder: Path) -> None:
    dice, workers = random.Random(seed), 1 + seed % 2
    out = folder / "sky"
    for _ in range(dice.choice((1, 1, 2, 3))):
        with start(release, out, workers) as process:
            time.sleep(seconds[workers] * dice.random())
            process.send_signal(signal.SIGKILL)
    done = {path.name: path.stat().st_ino for path in out.rglob("*.tar") if path.with_suffix(".done").exists()}
    shard_release(release, out, CONFIG)
    assert contents(folder) == whole
    assert done.items() <= {path.name: path.stat().st_ino for path in out.rglob("*.tar")}.items()
    assert verify_shards(out, CONFIG) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(seed, release, whole, seconds, tmp_path):
    kill_and_resume(seed, release, whole, seconds, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 60))
def test_fifty_more_kills(seed, release, whole, seconds, tmp_path):
    kill_and_resume(seed, release, whole, seconds, tmp_path)
