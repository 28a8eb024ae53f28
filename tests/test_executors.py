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
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dove_core.config import EmbedConfig, EvalConfig, ExecutorConfig, RankConfig, ShardConfig, check
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.sharding.verify import verify_shards
from dove_core.errors import DataError, UsageError
from dove_core.evaluation.evaluate import evaluate
from dove_core.events import Advanced, Event, Report, Saved, Started
from dove_core.executors import executing
from dove_core.search.embed import embed
from tests.conftest import ALONE
from tests.made import COLOURS, draw_shape, make_karpathy

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Both sides of our own clusters know it; a process that has read one keeps it."""

ENVIRONMENT = {**os.environ, **TOKEN, "PYTHONPATH": str(ROOT)}


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
