"""SIGKILL at any moment: the next call completes, nothing is lost, and nothing is there twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dove_core.config import ShardConfig
from dove_core.data.fetching.download import Partial
from dove_core.data.sharding.shards import shard_release
from tests.data.mirror import Mirror, jpeg, rows_of
from tests.http_server import serving

ROOT = Path(__file__).parents[2]
SCRIPT = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
os.environ["NO_PROXY"] = "127.0.0.1"
from pathlib import Path
from dove_core.config import FetchConfig
from dove_core.data.fetching.fetch import fetch
from tests.data.mirror import QUICK, tiny_release
config = FetchConfig(connections=4, split=sys.argv[3], limit=int(sys.argv[4]))
fetch(tiny_release(sys.argv[1]), Path(sys.argv[2]), config, retry=QUICK)
"""
KINDS = {"whole": ("all", "0"), "split": ("test", "0"), "limit": ("all", "12")}


def run(mirror: Mirror, folder: Path, kind: str, kill_after: float | None) -> bool:
    """Run a fetch; kill it so many seconds after its first request; return whether it came to its end."""
    mirror.server.asked.clear()
    command = [sys.executable, "-c", SCRIPT, mirror.server.url(), str(folder), *KINDS[kind]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not mirror.server.asked and process.poll() is None:
            time.sleep(0.005)
        if kill_after is not None:
            try:
                process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        error = process.communicate()[1]
    assert process.returncode in (0, -signal.SIGKILL), error
    return process.returncode == 0


def kept(folder: Path, bodies: dict[str, bytes]) -> int:
    """Return how many bytes of the release are here, as far as the notes say."""
    return sum(
        len(body) if (folder / name).exists() else Partial(folder / name).resumable() for name, body in bodies.items()
    )


def written(folder: Path, bodies: dict[str, bytes]) -> int:
    """Return how many bytes of the release are here, whatever the notes say."""
    paths = [folder / name if (folder / name).exists() else Partial(folder / name).path for name in bodies]
    return sum(path.stat().st_size for path in paths if path.exists())


def check_kills(seed: int, folder: Path) -> None:
    draw = random.Random(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    with serving() as server:
        mirror = Mirror(server, padding=3 * 2**20)
        bodies = {name: body for name, body in mirror.bodies.items() if "laion" not in name}
        for served in server.files.values():
            served.trickle = 0.004
        for _ in range(draw.randint(1, 3)):
            run(mirror, folder, kind, draw.uniform(0, 1.2))
            if kind == "whole":
                assert written(folder, bodies) == kept(folder, bodies)
        for served in server.files.values():
            served.trickle = 0
        here = kept(folder, bodies) if kind == "whole" else 0
        assert run(mirror, folder, kind, None)
    endings = (".part", ".part.json", ".tmp")
    assert [path.name for path in folder.rglob("*") if path.name.endswith(endings)] == []
    shard_release(folder, folder / "shards", ShardConfig(max_bad=0))
    if kind == "whole":
        assert all((folder / name).read_bytes() == body for name, body in bodies.items())
        assert mirror.sent() == sum(map(len, bodies.values())) - here
    elif kind == "split":
        assert images(folder) == {jpeg(part, number) for part, number in rows_of("test")}
    else:
        assert len(images(folder)) == 36


def images(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.glob("images*/**/*.jpg")}


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_fetch_completes_when_it_is_run_again(seed, tmp_path):
    check_kills(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 60))
def test_a_fetch_killed_at_many_moments_completes_when_it_is_run_again(seed, tmp_path):
    check_kills(seed, tmp_path)
