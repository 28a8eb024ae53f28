"""The same tasks on a real Ray cluster: the same bytes and figures; kills, errors and Ctrl-C."""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from dove_core.config import EmbedConfig, EvalConfig, ExecutorConfig, RankConfig, ShardConfig
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.sharding.verify import verify_shards
from dove_core.errors import DataError, UsageError
from dove_core.evaluation.evaluate import evaluate
from dove_core.events import Advanced, Event, Report, Saved, Started
from dove_core.executors import executing
from dove_core.on_ray import _left_here
from dove_core.places import place_of
from dove_core.search.embed import embed
from tests.conftest import ALONE
from tests.made import COLOURS, draw_shape, make_karpathy

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Both sides of our own clusters know it; a process that has read one keeps it."""

MARK = f"DOVE_TEST_MARK={secrets.token_hex(8)}"
"""Whoever we or a process of ours started has it in its environment."""

ENVIRONMENT = {**os.environ, **TOKEN, "PYTHONPATH": str(ROOT), **dict([MARK.split("=")])}


def living(mark: str) -> dict[int, str]:
    """Return the command lines of processes that live and have a mark in their environment, by their numbers."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is not ours
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


@contextmanager
def started(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a cluster of two cores as an administrator would start it, in the foreground; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        RAY, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2",
        "--include-dashboard=false", "--disable-usage-stats",
    ]  # fmt: skip
    with (
        (folder / "ray").open("wb") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
        ) as process,
    ):
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in (folder / "ray").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "ray").read_text()
            time.sleep(0.1)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorConfig]:
    """A cluster that runs on its own, in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch, started(tmp_path_factory.mktemp("cluster"), ENVIRONMENT) as address:
        for name, value in TOKEN.items():
            patch.setenv(name, value)
        yield ExecutorConfig("ray", address)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, hidden ones too, but for an index's manifest, which has paths."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "index.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def told(events: list[Event]) -> tuple[list[Event], int, set[str]]:
    """Return what was reported, whatever its order: what started, how much was done, what was saved."""
    advanced = sum(event.amount for event in events if isinstance(event, Advanced))
    saved = {Path(event.path).name for event in events if isinstance(event, Saved)}
    return [event for event in events if isinstance(event, Started)], advanced, saved


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_karpathy(tmp_path_factory.mktemp("source"), {"train": 60, "test": 12})


SHARDING = ShardConfig(shard_size=7, workers=1)


@pytest.fixture(scope="module")
def sharded(source: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """Shards that this process made alone, and what it reported."""
    folder, events = tmp_path_factory.mktemp("sharded") / "shapes", list[Event]()
    shard_captions(*source, folder, SHARDING, report=events.append)
    return folder, events


def test_shards_are_the_same_bytes_and_reports_the_same(source, sharded, cluster, tmp_path, monkeypatch):
    alone, events = sharded
    monkeypatch.chdir(tmp_path)  # the cluster was started in another folder
    own = list[Event]()
    out, images = Path("shapes"), Path("images")
    images.symlink_to(source[1])
    made = shard_captions(source[0], images, out, ShardConfig(shard_size=7), execution=cluster, report=own.append)
    assert [manifest.samples for manifest in made] == [12, 60] or [manifest.samples for manifest in made] == [60, 12]
    assert contents(out) == contents(alone)
    assert told(own) == told(events)
    assert verify_shards(out, ShardConfig(), execution=cluster) == []
    (out / "train" / "00001.tar").write_bytes(b"")
    assert [fault.file for fault in verify_shards(out, ShardConfig(), execution=cluster)] == ["shapes/train/00001.tar"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 pictures, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    for k in range(24):
        draw_shape(COLOURS[k % 6], "circle", shift=k // 6).save(folder / f"{k:02d}.jpg")
    (folder / "17.jpg").write_bytes(b"no picture")
    return folder


EMBEDDING = EmbedConfig(batch_size=4, part_size=3)


@pytest.mark.parametrize("regions", [False, True])
def test_embedding_parts_and_index_are_the_same_bytes_and_reports_the_same(trained, photos, cluster, tmp_path, regions):
    settings = dataclasses.replace(EMBEDDING, regions=regions)
    reports: list[list[Event]] = [[], []]
    embed(trained / "best", photos, tmp_path / "a" / "index", settings, ALONE, report=reports[0].append)
    index = embed(
        trained / "best", photos, tmp_path / "b" / "index", dataclasses.replace(settings, gpus=2), ALONE,
        execution=cluster, report=reports[1].append,
    )  # fmt: skip
    assert index is not None and len(index) == 23
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert told(reports[0]) == told(reports[1])


@pytest.mark.parametrize("gpus", [1, 2])
def test_evaluation_gives_the_same_figures(trained, source, sharded, cluster, gpus):
    split = sharded[0] / "train"
    settings = EvalConfig(batch_size=16)
    alone = evaluate(trained / "best", split, settings, RankConfig(), ALONE)
    shared = evaluate(
        trained / "best", split, dataclasses.replace(settings, gpus=gpus), RankConfig(), ALONE, execution=cluster
    )
    assert shared.to_json() == alone.to_json()
    assert torch.equal(shared.encoded.images.embedding, alone.encoded.images.embedding)


def die_once(folder: Path, number: int, *, report: Report) -> int:
    """Report twice, and kill the worker in between the first time that number 3 comes."""
    report(Advanced("work"))
    if number == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    report(Advanced("work"))
    (folder / f"{number}-{time.time_ns()}").touch()
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise DataError("three", hint="leave it out")
    time.sleep(0.05)
    return number


def mistake(number: int) -> float:
    return number / 0


def where(path: Path) -> tuple[bool, str]:
    return path.is_absolute(), str(path)


def task(function: Callable[..., object], *arguments: object) -> Callable[..., object]:
    from functools import partial

    return partial(function, *arguments)


def test_a_killed_worker_costs_its_task_only_and_nothing_is_told_twice(cluster, tmp_path):
    events = list[Event]()
    with executing(cluster) as executor:
        done = dict(executor.each(task(die_once, tmp_path), range(8), 2, lost="", report=events.append))
    assert done == {number: number for number in range(8)}
    assert (tmp_path / "died").exists()
    assert len(events) == 16
    assert sorted(path.name.split("-")[0] for path in tmp_path.glob("*-*")) == list("01234567")


def test_a_task_that_kills_every_worker_is_an_error_with_the_way_out(cluster):
    with executing(cluster) as executor, pytest.raises(DataError, match="a worker process died, and again") as caught:
        list(executor.each(die, range(2), 2, lost="fewer workers"))
    assert caught.value.hint == "fewer workers"


def test_an_error_ends_the_rest_at_once_and_comes_back_as_itself(cluster):
    done = []
    with executing(cluster) as executor, pytest.raises(DataError, match="three") as caught:
        for number, _ in executor.each(fail_at_three, range(500), 2, lost=""):
            done.append(number)
    assert type(caught.value) is DataError
    assert caught.value.hint == "leave it out"
    assert len(done) < 20


def test_a_bug_is_not_tried_again_and_shows_its_traceback(cluster):
    with executing(cluster) as executor, pytest.raises(ZeroDivisionError, match="in mistake"):
        list(executor.each(mistake, range(2), 2, lost=""))


def test_relative_paths_mean_the_same_to_a_worker(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with executing(cluster) as executor:
        assert list(executor.each(where, [Path("a/b")], 1, lost="")) == [(Path("a/b"), (True, str(tmp_path / "a/b")))]
        assert executor.device("auto") == executor.device("cpu") == "cpu"
        with pytest.raises(UsageError, match="--device cuda: the Ray cluster has no GPU"):
            executor.device("cuda")
        assert executor.share("cpu", 1).cpus == 2
        assert executor.share("cpu", 2).cpus == executor.share("cpu", 5).cpus == 1
        with executing(ExecutorConfig("ray")) as same:  # within the other, it is the same one
            assert same.share("cpu", 1).cpus == 2
        assert list(executor.each(where, [], 1, lost="")) == []
    import ray

    assert not ray.is_initialized()


def test_shards_are_the_same_bytes_after_workers_were_killed(cluster, tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 400})
    shard_captions(captions, images, tmp_path / "a" / "x", ShardConfig(shard_size=20, workers=1))
    killed = []

    def kill(event: Event) -> None:
        at_work = [pid for pid, command in living(MARK).items() if command.startswith("ray::work")]
        if isinstance(event, Saved) and at_work and len(killed) < 2:
            os.kill(at_work[0], signal.SIGKILL)
            killed.append(at_work[0])

    shard_captions(
        captions, images, tmp_path / "b" / "x", ShardConfig(shard_size=20, workers=2), execution=cluster, report=kill
    )
    assert len(killed) == 2
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


SCRIPT = """
import sys
from pathlib import Path
from functools import partial
from dove_core.config import ExecutorConfig
from dove_core.executors import executing
from tests.test_executors import dawdle
try:
    with executing(ExecutorConfig("ray", sys.argv[1])) as executor:
        list(executor.each(partial(dawdle, Path(sys.argv[2])), range(8), 2, lost=""))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def dawdle(folder: Path, number: int) -> None:
    """Say that this began, and sleep."""
    (folder / str(number)).write_text(str(os.getpid()))
    time.sleep(300)


def gone(find: Callable[[], object]) -> bool:
    """Tell whether nothing is found any more, waiting a while for that."""
    deadline = time.monotonic() + 30
    while find() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not find()


@pytest.mark.parametrize("where", ["there", "local"])
def test_ctrl_c_ends_the_tasks_and_only_a_cluster_of_our_own(cluster, tmp_path, where):
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
    assert gone(lambda: [pid for pid in at_work if pid in living(MARK) and "dawdle" in living(MARK)[pid]])
    assert gone(lambda: living(mark))
    with executing(cluster) as executor:
        assert executor.device("auto") == "cpu"
    assert len(list(tmp_path.iterdir())) == 2, "the others never began"


def dove(*words: str, environment: dict[str, str] | None = None, folder: Path = ROOT) -> tuple[int, str, str]:
    """Run `dove` as a process of its own; return its exit code and what it wrote to both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "dove_cli", *words], capture_output=True, text=True, cwd=folder, timeout=300,
        env=environment or ENVIRONMENT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_command_says_what_it_says_alone_and_its_own_cluster_ends_with_it(source, cluster, tmp_path):
    mark = f"DOVE_OTHER_MARK={secrets.token_hex(8)}"
    environment = {**ENVIRONMENT, **dict([mark.split("=")])}
    words = ["shard", "--captions", str(source[0]), "--images", str(source[1]), "--name", "x", "--shard-size", "20"]
    words += ["--workers", "1", "--json", "--out"]
    said = [
        dove(*words, str(tmp_path / "a"), folder=tmp_path, environment=environment),
        dove(*words, str(tmp_path / "b"), "--executor", "ray", "--ray-address", "local", folder=tmp_path,
             environment=environment),
        dove(*words, str(tmp_path / "c"), "--executor", "ray", folder=tmp_path,
             environment={**environment, "RAY_ADDRESS": cluster.ray_address}),
    ]  # fmt: skip
    plain = [(code, out.replace(str(tmp_path / name), ""), err.replace(str(tmp_path / name), ""))
             for (code, out, err), name in zip(said, "abc", strict=True)]  # fmt: skip
    assert plain[0][0] == 0
    assert plain[1] == plain[2] == plain[0]
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")
    assert gone(lambda: living(mark))


def test_processes_of_this_machine_need_no_ray(source, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from dove_core.config import ShardConfig\n"
        "from dove_core.data.sharding.shards import shard_captions\n"
        "shard_captions(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), ShardConfig(workers=1))\n"
        "sys.exit('ray' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(source[0]), str(source[1]), str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_without_ray_the_extra_is_named(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs a package that is not installed: ray") as caught:
        shard_captions(*source, tmp_path / "x", ShardConfig(), execution=ExecutorConfig("ray"))
    assert caught.value.hint == "pip install 'dove[ray]'"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "127.0.0.1:99999"])
def test_a_cluster_that_does_not_answer_is_named_at_once(address):
    with (
        pytest.raises(UsageError, match=f"no Ray cluster answers at {address}"),
        executing(ExecutorConfig("ray", address)),
    ):
        pass


def test_what_ray_start_left_here_is_found_if_it_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert _left_here() == ""
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert _left_here() == address
    assert _left_here() == "", "it was killed, and its note is still there"


HIDDEN = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dove_core":
            raise ModuleNotFoundError(f"No module named {name!r}", name="dove_core")

sys.meta_path.insert(0, Hide())
"""


@pytest.mark.slow
def test_a_worker_without_dove_says_so(cluster, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    with (
        started(tmp_path, {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}) as address,
        executing(ExecutorConfig("ray", address)) as executor,
        pytest.raises(UsageError, match="has no package dove_core") as caught,
    ):
        list(executor.each(die, range(2), 2, lost=""))
    assert "dove[ray]" in caught.value.hint


@pytest.mark.slow
def test_shards_in_a_bucket_need_no_file_of_the_machine_that_asks(source, tmp_path):
    from tests.s3_server import BUCKET, s3_environment, s3_serving

    with s3_serving() as address, s3_environment(address):
        shard_captions(*source, f"s3://{BUCKET}/a/x", SHARDING)
        environment = {name: value for name, value in os.environ.items() if name.startswith(("AWS", "NO_PROXY"))}
        with pytest.MonkeyPatch.context() as patch, started(tmp_path, {**ENVIRONMENT, **environment}) as cluster:
            for name, value in TOKEN.items():
                patch.setenv(name, value)
            shard_captions(*source, f"s3://{BUCKET}/b/x", SHARDING, execution=ExecutorConfig("ray", cluster))
        for split in ("train", "test"):
            one, two = (place_of(f"s3://{BUCKET}/{name}/x/{split}") for name in "ab")
            assert one.sizes().keys() == two.sizes().keys()
            assert all(one.read(name) == two.read(name) for name in one.sizes())
