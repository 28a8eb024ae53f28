"""The same tasks on a real Ray cluster: the same bytes, metrics and events; workers that die; errors."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from dove_core.config import EmbedConfig, EvalConfig, ExecutorConfig, RankConfig, ShardConfig
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.sharding.verify_shards import verify_shards
from dove_core.errors import DataError, UsageError
from dove_core.evaluation.evaluate import evaluate
from dove_core.events import Event, Saved
from dove_core.executors import executing
from dove_core.index.embed import embed
from tests import ray_cluster
from tests.conftest import ALONE
from tests.made import COLOURS, draw_shape, make_karpathy
from tests.ray_cluster import ENVIRONMENT, MARK, ROOT, contents, living, started, token_known, totals_of


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorConfig]:
    """A separate cluster in its own folder; this module stays connected, so that workers stay."""
    with token_known(), started(tmp_path_factory.mktemp("cluster"), ENVIRONMENT) as address:
        config = ExecutorConfig("ray", address)
        with executing(config):
            yield config


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_karpathy(tmp_path_factory.mktemp("source"), {"train": 60, "test": 12})


SHARDING = ShardConfig(shard_size=7, workers=1)


@pytest.fixture(scope="module")
def sharded(source: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """Shards that this process made without Ray, and its events."""
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
    assert totals_of(own) == totals_of(events)
    assert verify_shards(out, ShardConfig(), execution=cluster) == []
    (out / "train" / "00001.tar").write_bytes(b"")
    assert [fault.file for fault in verify_shards(out, ShardConfig(), execution=cluster)] == ["shapes/train/00001.tar"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 images, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    for k in range(24):
        draw_shape(COLOURS[k % 6], "circle", shift=k // 6).save(folder / f"{k:02d}.jpg")
    (folder / "17.jpg").write_bytes(b"no image")
    return folder


EMBEDDING = EmbedConfig(batch_size=4, part_size=3)


@pytest.mark.parametrize("regions", [False, pytest.param(True, marks=pytest.mark.slow)])
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
    assert totals_of(reports[0]) == totals_of(reports[1])


@pytest.mark.parametrize("gpus", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_evaluation_gives_the_same_figures(trained, source, sharded, cluster, gpus):
    split = sharded[0] / "train"
    settings = EvalConfig(batch_size=16)
    alone = evaluate(trained / "best", split, settings, RankConfig(), ALONE)
    shared = evaluate(
        trained / "best", split, dataclasses.replace(settings, gpus=gpus), RankConfig(), ALONE, execution=cluster
    )
    assert shared.to_json() == alone.to_json()
    assert torch.equal(shared.encoded.images.embedding, alone.encoded.images.embedding)


def test_only_the_task_of_a_killed_worker_is_repeated_and_nothing_is_reported_twice(cluster, tmp_path):
    events = list[Event]()
    with executing(cluster) as executor:
        done = dict(executor.each(partial(ray_cluster.die_once, tmp_path), range(8), 2, lost="", report=events.append))
    assert done == {number: number for number in range(8)}
    assert (tmp_path / "died").exists()
    assert len(events) == 16
    assert sorted(path.name.split("-")[0] for path in tmp_path.glob("*-*")) == list("01234567")


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_an_error_with_a_hint(cluster):
    with executing(cluster) as executor, pytest.raises(DataError, match="a worker process died, and again") as caught:
        list(executor.each(ray_cluster.die, range(2), 2, lost="fewer workers"))
    assert caught.value.hint == "fewer workers"


def test_an_error_ends_the_rest_at_once_and_comes_back_as_itself(cluster):
    done = []
    with executing(cluster) as executor, pytest.raises(DataError, match="three") as caught:
        for number, _ in executor.each(ray_cluster.fail_at_three, range(500), 2, lost=""):
            done.append(number)
    assert type(caught.value) is DataError
    assert caught.value.hint == "leave it out"
    assert len(done) < 20


def test_a_bug_is_not_retried_and_shows_its_traceback(cluster):
    with executing(cluster) as executor, pytest.raises(ZeroDivisionError, match="in mistake"):
        list(executor.each(ray_cluster.mistake, range(2), 2, lost=""))


def test_relative_paths_mean_the_same_to_a_worker(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with executing(cluster) as executor:
        assert list(executor.each(ray_cluster.where, [Path("a/b")], 1, lost="")) == [
            (Path("a/b"), (True, str(tmp_path / "a/b")))
        ]
        assert executor.device("auto") == executor.device("cpu") == "cpu"
        with pytest.raises(UsageError, match="--device cuda: the Ray cluster has no GPU"):
            executor.device("cuda")
        assert executor.resources("cpu", 1).cpus == 2
        assert executor.resources("cpu", 2).cpus == executor.resources("cpu", 5).cpus == 1
        with executing(ExecutorConfig("ray")) as same:  # within the other, it is the same one
            assert same.resources("cpu", 1).cpus == 2
        assert list(executor.each(ray_cluster.where, [], 1, lost="")) == []


@pytest.mark.slow
def test_shards_are_the_same_bytes_after_workers_were_killed(cluster, tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 200})
    shard_captions(captions, images, tmp_path / "a" / "x", ShardConfig(shard_size=10, workers=1))
    killed = []

    def kill(event: Event) -> None:
        at_work = [pid for pid, command in living(MARK).items() if command.startswith("ray::work")]
        if isinstance(event, Saved) and at_work and len(killed) < 2:
            os.kill(at_work[0], signal.SIGKILL)
            killed.append(at_work[0])

    shard_captions(
        captions, images, tmp_path / "b" / "x", ShardConfig(shard_size=10, workers=2), execution=cluster, report=kill
    )
    assert len(killed) == 2
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


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


def test_without_ray_the_error_says_how_to_install_it(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs a package that is not installed: ray") as caught:
        shard_captions(*source, tmp_path / "x", ShardConfig(), execution=ExecutorConfig("ray"))
    assert caught.value.hint == 'pip install "ray>=2.44"'
    assert not list(tmp_path.iterdir())
