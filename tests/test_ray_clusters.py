"""Clusters that start, end, are missing or do not fit: what the command and Ctrl-C do."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.addresses import place_of
from dove_core.config import ExecutorConfig, ShardConfig
from dove_core.data.sharding.shards import shard_captions
from dove_core.errors import UsageError
from dove_core.executors import executing
from dove_core.on_ray import _local_cluster
from tests.made import make_karpathy
from tests.ray_cluster import ENVIRONMENT, MARK, ROOT, contents, die, gone, gpu_of, living, started, token_known
from tests.s3_server import BUCKET, s3_environment, s3_serving


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorConfig]:
    """A separate cluster."""
    with token_known(), started(tmp_path_factory.mktemp("cluster"), ENVIRONMENT) as address:
        yield ExecutorConfig("ray", address)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_karpathy(tmp_path_factory.mktemp("source"), {"train": 60, "test": 12})


SCRIPT = """
import sys
from pathlib import Path
from functools import partial
from dove_core.config import ExecutorConfig
from dove_core.executors import executing
from tests.ray_cluster import dawdle
try:
    with executing(ExecutorConfig("ray", sys.argv[1])) as executor:
        list(executor.each(partial(dawdle, Path(sys.argv[2])), range(8), 2, lost=""))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["there", "local"])
def test_ctrl_c_ends_the_tasks_and_only_a_cluster_that_dove_started(cluster, tmp_path, where):
    mark = f"DOVE_OTHER_MARK={secrets.token_hex(8)}"
    address = cluster.ray_address if where == "there" else "local"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, address, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env={**ENVIRONMENT, **dict([mark.split("=")])}, start_new_session=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while len([path for path in tmp_path.iterdir() if path.read_text()]) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        at_work = {int(path.read_text()) for path in tmp_path.iterdir()}
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)  # the tasks alone would take minutes
    assert (out, err) == ("interrupted\n", "")
    assert gone(lambda: at_work & living(MARK).keys())
    assert gone(lambda: living(mark))
    with executing(cluster) as executor:
        assert executor.device("auto") == "cpu"
    assert len(list(tmp_path.iterdir())) == 2, "the others never began"


def dove(*words: str, environment: dict[str, str] | None = None, folder: Path = ROOT) -> tuple[int, str, str]:
    """Run `dove` in another process; return its exit code and both output streams."""
    done = subprocess.run(
        [sys.executable, "-m", "dove_cli", *words], capture_output=True, text=True, cwd=folder, timeout=300,
        env=environment or ENVIRONMENT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_output_is_the_same_as_without_ray_and_the_cluster_ends_with_the_command(source, cluster, tmp_path):
    mark = f"DOVE_OTHER_MARK={secrets.token_hex(8)}"
    environment = {**ENVIRONMENT, **dict([mark.split("=")])}
    words = ["shard", "--captions", str(source[0]), "--images", str(source[1]), "--name", "x", "--shard-size", "20"]
    words += ["--workers", "1", "--json", "--out"]
    said = [
        dove(*words, str(tmp_path / "a" / "x"), folder=tmp_path, environment=environment),
        dove(*words, str(tmp_path / "b" / "x"), "--executor", "ray", "--ray-address", "local", folder=tmp_path,
             environment=environment),
        dove(*words, str(tmp_path / "c" / "x"), "--executor", "ray", folder=tmp_path,
             environment={**environment, "RAY_ADDRESS": cluster.ray_address}),
    ]  # fmt: skip
    plain = [(code, out.replace(str(tmp_path / name), ""), err.replace(str(tmp_path / name), ""))
             for (code, out, err), name in zip(said, "abc", strict=True)]  # fmt: skip
    assert plain[0][0] == 0
    assert plain[1] == plain[2] == plain[0]
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")
    assert gone(lambda: living(mark))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "127.0.0.1:99999"])
def test_a_cluster_that_does_not_answer_is_named_at_once(address):
    with (
        pytest.raises(UsageError, match=f"no Ray cluster answers at {address}"),
        executing(ExecutorConfig("ray", address)),
    ):
        pass


def test_the_cluster_of_ray_start_is_found_if_it_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert _local_cluster() == ""
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert _local_cluster() == address
    assert _local_cluster() == "", "it was killed, and its note is still there"


HIDDEN = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dove_core":
            raise ModuleNotFoundError(f"No module named {name!r}", name="dove_core")

sys.meta_path.insert(0, Hide())
"""


@pytest.mark.slow
def test_each_task_asks_for_a_gpu_if_the_cluster_has_some(cluster, tmp_path):
    """The cluster claims two GPUs that do not exist, to see what tasks ask for."""
    with (
        started(tmp_path, ENVIRONMENT, gpus=2) as address,
        executing(ExecutorConfig("ray", address)) as executor,
    ):
        assert executor.device("auto") == executor.device("cuda") == "cuda"
        assert executor.device("cpu") == "cpu"
        resources = executor.resources("cuda", 2)
        assert (resources.tasks, resources.cpus, resources.gpus) == (2, 1, 1)
        assert [executor.pieces(parts, 2, resources) for parts in (3, 100)] == [3, 8]
        given = dict(executor.each(gpu_of, range(6), 4, lost="", resources=resources))
    assert set(given.values()) == {"0", "1"}


@pytest.mark.slow
def test_a_worker_without_dove_says_so(cluster, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    with (
        started(tmp_path, {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}) as address,
        executing(ExecutorConfig("ray", address)) as executor,
        pytest.raises(UsageError, match="has no package dove_core") as caught,
    ):
        list(executor.each(die, range(2), 2, lost=""))
    assert 'pip install "ray>=2.44"' in caught.value.hint


@pytest.mark.slow
@pytest.mark.skipif(subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0, reason="no root")
def test_shards_in_a_bucket_need_no_file_of_the_calling_machine(source, tmp_path, monkeypatch):
    """The cluster sees another folder in place of this process's temporary files."""
    (tmp_path / "passing").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "passing"))
    with s3_serving() as address, s3_environment(address):
        shard_captions(*source, f"s3://{BUCKET}/a/x", ShardConfig(shard_size=7))
        environment = {name: value for name, value in os.environ.items() if name.startswith(("AWS", "NO_PROXY"))}
        with token_known(), started(tmp_path, {**ENVIRONMENT, **environment}, hidden=tmp_path / "passing") as cluster:
            shard_captions(
                *source, f"s3://{BUCKET}/b/x", ShardConfig(shard_size=7), execution=ExecutorConfig("ray", cluster)
            )
        for split in ("train", "test"):
            one, two = (place_of(f"s3://{BUCKET}/{name}/x/{split}") for name in "ab")
            assert one.sizes().keys() == two.sizes().keys()
            assert all(one.read(name) == two.read(name) for name in one.sizes())
