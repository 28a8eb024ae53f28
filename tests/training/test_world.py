"""Several real processes over gloo: gather, gradients, reports and failures."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from dove_core.config import LaunchConfig
from dove_core.errors import DataError, TrainingError, UsageError
from dove_core.training.launch import launch
from dove_core.training.world import World
from tests.training import jobs

TWO = LaunchConfig(gpus=2, restarts=0)
ALONE = World(0, 1, torch.device("cpu"))


@pytest.mark.parametrize(("objective", "count", "each"), [("triplet", 8, 2), ("infonce", 9, 1), ("infonce", 7, 3)])
def test_loss_and_gradient_of_two_processes_equal_one_with_the_doubled_batch(objective, count, each):
    events = []
    one = jobs.global_gradients(ALONE, lambda event: None, count, objective, each)
    job = partial(jobs.global_gradients, count=count, objective=objective, captions_each=each)
    two = launch(TWO, "cpu", job, report=events.append)
    assert two is not None
    assert two.keys() == one.keys()
    assert len(events) == 1
    assert events[0].values["loss"] == pytest.approx(float(one["loss"]), rel=1e-5)
    largest = max(float(abs(g).max()) for g in one.values())
    for name, gradient in one.items():
        assert np.allclose(two[name], gradient, atol=2e-5 * largest, rtol=1e-3), name


def test_one_process_reports_and_its_result_comes_back():
    events = []
    assert launch(TWO, "cpu", jobs.report_once, report=events.append) == 2
    assert [event.path for event in events] == ["process 0"]


def test_an_error_in_another_process_comes_back_as_itself():
    with pytest.raises(DataError, match="shard 7 is damaged") as caught:
        launch(TWO, "cpu", jobs.fail_as_second)
    assert caught.value.hint == "shard again"


def test_processes_that_find_different_run_folders_do_not_train():
    with pytest.raises(TrainingError, match="processes that train together found another run folder") as caught:
        launch(TWO, "cpu", jobs.find_different_runs)
    assert "file system that all machines share" in caught.value.hint


def test_the_error_names_the_process_that_died():
    with pytest.raises(TrainingError, match="training process 1 ended with code 9"):
        launch(TWO, "cpu", jobs.die_as_second)


def test_a_bug_in_another_process_shows_its_traceback():
    with pytest.raises(RuntimeError, match=r"break_as_second[\s\S]*shapes cannot be multiplied|mat1 and mat2"):
        launch(TWO, "cpu", jobs.break_as_second)


def test_a_process_that_failed_once_is_started_again_and_says_why():
    events = []
    launching = LaunchConfig(gpus=2, restarts=1)
    assert launch(launching, "cpu", jobs.break_once, report=events.append) == 1
    assert any("failed: RuntimeError: a flake" in event.message for event in events)


@pytest.mark.slow
def test_a_frozen_process_is_noticed_after_the_timeout_and_started_again(monkeypatch):
    monkeypatch.setenv("STEP_TIMEOUT", "5")
    events = []
    launching = LaunchConfig(gpus=2, restarts=1)
    assert launch(launching, "cpu", jobs.freeze_once, report=events.append) == 1
    assert "training process 0 failed: training process 0 of 2 lost another one" in events[0].message


def test_more_gpus_than_there_are_is_refused_before_anything_starts():
    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    with pytest.raises(UsageError, match="--gpus 4: this machine has no GPU") as caught:
        launch(LaunchConfig(gpus=4), "auto", jobs.report_once)
    assert "--device cpu" in caught.value.hint


def test_it_joins_a_running_torchrun(tmp_path):
    code = (
        "from dove_core.config import LaunchConfig\n"
        "from dove_core.training.launch import launch\n"
        "from tests.training.jobs import report_once\n"
        "import os, pathlib, sys; seen = []\n"
        "size = launch(LaunchConfig(), 'cpu', report_once, report=seen.append)\n"
        "pathlib.Path(sys.argv[1], os.environ['RANK']).write_text(f'{size} of {len(seen)}')"
    )
    root = Path(__file__).parents[2]
    script = tmp_path / "join.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(tmp_path)], capture_output=True, text=True, cwd=root, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # In files, not on the pipe that both share: there their lines may run into one another.
    assert {rank: (tmp_path / rank).read_text() for rank in "01"} == {"0": "2 of 1", "1": "None of 0"}
