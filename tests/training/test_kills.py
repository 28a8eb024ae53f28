"""Real processes killed during training: no sample is lost or repeated, and the weights are the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dove_core.config import LaunchConfig, TrainConfig
from dove_core.data.reader import Shards
from dove_core.errors import TrainingError
from dove_core.events import Noted
from dove_core.places import Folder
from dove_core.training.launch import launch
from dove_core.training.loop import TrainingJob
from dove_core.training.run import RunSettings, load_state
from tests.conftest import ALONE
from tests.made import SMALL
from tests.training import jobs

ROOT = Path(__file__).parents[2]
MODEL = ["--backbone", "resnet18", "--image-size", "32", "--embed-dim", "32", "--heads", "4", "--region-grid", "2"]
TRAINING = ["--weights", "none", "--batch-size", "8", "--objective", "infonce", "--average", "0.9", "--save-steps", "1"]


def same(a: Path, b: Path) -> bool:
    one, other = (safetensors.torch.load_file(folder / "model.safetensors") for folder in (a, b))
    return all(torch.equal(value, other[name]) for name, value in one.items())


def start(shards: Path, run: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a training whose standard error goes to a file next to its run folder."""
    command = [sys.executable, "-m", "dove_cli", "train", "--shards", str(shards), "--run", str(run), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--workers", "1", *words], stderr=log, env=environment, start_new_session=True
        )


def output(run: Path) -> str:
    return run.with_suffix(".log").read_text()


def steps_of(run: Path) -> int:
    return load_state(run)[0].steps if (run / "last").exists() else 0


def kill_at(process: subprocess.Popen[bytes], run: Path, step: int, *, whom: int) -> None:
    """Kill a process, or a process group if negative, as soon as a step is saved."""
    while steps_of(run) < step:
        assert process.poll() is None, output(run)
        time.sleep(0.01)
    os.kill(whom, signal.SIGKILL) if whom > 0 else os.killpg(-whom, signal.SIGKILL)


@pytest.mark.slow
def test_other_numbers_of_processes_neither_repeat_nor_skip_a_sample(shapes, tmp_path):
    """One epoch: two processes, one of which is killed; then one, which is killed too; then three."""
    training = TrainConfig(weights="none", epochs=1, batch_size=4, save_steps=1)
    shards = Shards(shapes / "train")
    run, seen = tmp_path / "run", list[int]()
    settings = RunSettings(str(shards.folder), shards.manifest.fingerprint, None, SMALL, training)
    for processes, dies_at in ((2, 3), (1, 5), (3, -1)):
        before = load_state(run)[0].samples if seen else 0
        log = tmp_path / f"{processes}"
        log.mkdir()
        training_job = TrainingJob(Folder(run), settings, ALONE, resumed=bool(seen))
        job = partial(jobs.counted_training, log=log, dies_at=dies_at, job=training_job)
        launching = LaunchConfig(gpus=processes, restarts=0)
        if processes == 1:
            child = torch.multiprocessing.get_context("spawn").Process(target=launch, args=(launching, "cpu", job))
            child.start()
            child.join()
            assert child.exitcode == -signal.SIGKILL
        elif dies_at < 0:
            launch(launching, "cpu", job)
        else:
            with pytest.raises(TrainingError, match="ended with code -9"):
                launch(launching, "cpu", job)
        lines = [json.loads(line) for path in log.iterdir() for line in path.read_text().splitlines()]
        numbers = list(dict.fromkeys(number for _, own in sorted(lines) for number in own))
        done = len(numbers) if dies_at < 0 else load_state(run)[0].samples - before
        assert done > 0
        seen += numbers[:done]
    assert sorted(seen) == list(range(len(shards)))


@pytest.mark.slow
def test_processes_are_started_again_after_one_was_killed_and_resume_from_last(shapes, tmp_path):
    training = TrainConfig(weights="none", epochs=1, batch_size=4, save_steps=2, max_steps=5)
    data = Shards(shapes / "train").manifest.fingerprint
    settings = RunSettings(str(shapes / "train"), data, None, SMALL, training)
    job, events = TrainingJob(Folder(tmp_path / "run"), settings, ALONE), []
    counted = partial(jobs.counted_training, log=tmp_path, dies_at=3, job=job)
    launch(LaunchConfig(gpus=2, restarts=1), "cpu", counted, report=events.append)
    messages = [event.message for event in events if isinstance(event, Noted) and "process" in event.message]
    assert messages == [
        "training process 1 ended with code -9", "processes were started again and continue from last/"
    ]  # fmt: skip
    assert load_state(tmp_path / "run")[0].steps == 5
    steps = [json.loads(line)[0] for line in (tmp_path / "0").read_text().splitlines()]
    assert steps[-3:] == [0, 1, 2]  # three more after the two that were saved


@pytest.mark.slow
def test_a_run_killed_at_twenty_random_steps_reaches_the_same_weights(shapes, tmp_path):
    chance = random.Random(4)
    shards, run, whole = shapes / "train", tmp_path / "run", tmp_path / "whole"
    words = [*MODEL, *TRAINING, "--epochs", "30"]
    assert start(shards, whole, *words).wait(900) == 0, output(whole)
    for kill in range(20):
        process = start(shards, run, *(["--resume"] if (run / "last").exists() else words))
        kill_at(process, run, steps_of(run) + chance.randint(1, 8), whom=-process.pid)
        process.wait()
        time.sleep(chance.random() * 0.05)
        assert kill == 0 or (run / "last").exists()
    assert start(shards, run, "--resume").wait(900) == 0, output(run)
    assert same(run / "last", whole / "last")
    assert steps_of(run) == steps_of(whole) == 180


@pytest.mark.slow
def test_a_killed_worker_of_two_is_replaced_and_the_weights_are_the_same(shapes, tmp_path):
    shards, run, whole = shapes / "train", tmp_path / "run", tmp_path / "whole"
    words = [*MODEL, *TRAINING, "--epochs", "10", "--gpus", "2"]
    assert start(shards, whole, *words).wait(900) == 0, output(whole)
    process = start(shards, run, *words)
    for step in (3, 9):
        before = workers_of(process.pid)
        kill_at(process, run, step, whom=before[1])
        while before[1] in workers_of(process.pid) or len(workers_of(process.pid)) < 2:
            time.sleep(0.05)
    assert process.wait(900) == 0, output(run)
    assert output(run).count("processes were started again and continue from last/") == 2
    assert same(run / "last", whole / "last")


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False])
def test_a_signal_to_two_processes_saves_and_ends_with_130(to_all, shapes, tmp_path):
    run = tmp_path / "run"
    words = [*MODEL, *TRAINING, "--epochs", "100", "--gpus", "2", "--workers", "0", "--save-steps", "3"]
    process = start(shapes / "train", run, *words)
    while steps_of(run) < 3:
        assert process.poll() is None, output(run)
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT) if to_all else process.terminate()
    assert process.wait(200) == 130, output(run)
    assert steps_of(run) % 10 == 0, output(run)  # the step at which processes check for signals
    assert output(run).rstrip().endswith("interrupted; finished files are kept")
    assert start(shapes / "train", run, "--resume", "--gpus", "2", "--max-steps", "22").wait(300) == 0, output(run)


def workers_of(pid: int) -> list[int]:
    """Return the two training processes that a launcher started, in the order of their ranks."""
    while True:
        found = subprocess.run(["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True, text=True)
        pids = sorted(map(int, found.stdout.split()))
        if len(pids) > 1:
            return pids
        time.sleep(0.05)
