"""Training over two and three hosts of our own: the same as on one; what a kill or a cut cable leaves goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dove_core.config import TrainConfig
from dove_core.data.reader import Shards
from dove_core.training.run import load_state
from tests.training.hosts import ROOT, Host, network

pytestmark = pytest.mark.slow

WORDS = [
    "-m", "dove_cli", "train", "--device", "cpu", "--workers", "0", "--no-amp", "--backbone", "resnet18",
    "--image-size", "32", "--embed-dim", "32", "--heads", "4", "--region-grid", "2", "--weights", "none",
    "--batch-size", "4", "--objective", "infonce", "--epochs", "2",
]  # fmt: skip
RECORDER = """
import pathlib, sys
from dove_core.config import LaunchConfig
from dove_core.data.reader import Shards
from dove_core.training.run import RunSettings
from dove_core.training.launch import launch
from tests.conftest import ALONE
from tests.made import SMALL
from tests.training import jobs
from tests.training.test_hosts import TRAINING

if __name__ == "__main__":
    shards, folder, nodes, rendezvous, meet_within, pause = sys.argv[1:]
    settings = RunSettings(shards, Shards(pathlib.Path(shards)).manifest.fingerprint, None, SMALL, TRAINING)
    launching = LaunchConfig(
        nodes=nodes, rendezvous=rendezvous, lost_after=8, meet_within=int(meet_within)
    )
    folder = pathlib.Path(folder)
    arguments = (folder / "seen", float(pause), folder / "run", settings, ALONE, False, "")
    print(launch(launching, "cpu", jobs.recorded_training, arguments, report=lambda event: print(event, flush=True)))
"""
TRAINING = TrainConfig(weights="none", epochs=1, batch_size=2, save_steps=1)


@pytest.fixture
def hosts(request: pytest.FixtureRequest) -> Iterator[list[Host]]:
    """As many hosts as the test is parametrized with."""
    try:
        with network(request.param) as made:
            yield made
    except PermissionError as error:
        pytest.skip(f"no network namespaces here: {error}")


two = pytest.mark.parametrize("hosts", [2], indirect=True)
three = pytest.mark.parametrize("hosts", [3], indirect=True)


def said(folder: Path) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(folder.glob("*.log")))


@pytest.fixture(scope="module")
def alone(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes on one host, in a namespace too, so that its processes talk the same way."""
    folder = tmp_path_factory.mktemp("alone")
    try:
        with network(1) as (host,):
            words = [*WORDS, "--shards", str(shapes / "train"), "--run", str(folder / "run"), "--gpus", "2"]
            assert host.start(*words, log=folder / "a.log").wait(300) == 0, said(folder)
    except PermissionError as error:
        pytest.skip(f"no network namespaces here: {error}")
    return folder / "run"


@two
@pytest.mark.parametrize("way", ["dove", "torchrun", "srun"])
def test_two_hosts_train_as_one_does(way, hosts, alone, shapes, tmp_path):
    words = [*WORDS, "--shards", str(shapes / "train"), "--run", str(tmp_path / "run")]
    processes = []
    for k, host in enumerate(hosts):
        own, variables = words, dict[str, str]()
        if way == "dove":
            own = [*words, "--nodes", "2", "--rendezvous", f"{hosts[0].address}:29400"]
        elif way == "torchrun":
            meeting = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0].address}:29400"]
            # Hosts here have no names by which they would know themselves.
            meeting += ["--rdzv-conf", f"is_host={k == 0}", "--local-addr", host.address]
            own = ["-m", "torch.distributed.run", *meeting, "-m", "--", *words[1:]]
        else:
            variables = {"SLURM_PROCID": str(k), "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}
            variables |= {"SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": hosts[0].address, "SLURM_JOB_ID": "41"}
        processes.append(host.start(*own, log=tmp_path / f"{k}.log", **variables))
    assert [process.wait(300) for process in processes] == [0, 0], said(tmp_path)
    one, other = (safetensors.torch.load_file(run / "last/model.safetensors") for run in (alone, tmp_path / "run"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())  # to the last bit
    assert losses(tmp_path / "run") == losses(alone)
    assert said(tmp_path).count("saved") == said(alone.parent).count("saved")  # one of them reports


def losses(run: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [[line[name] for name in ("loss", "pair_loss", "global_loss", "mean_recall", "steps")] for line in lines]


def start(
    hosts: list[Host], at: Host, shards: Path, folder: Path, nodes: str, meet_within: int, pause: float = 0.3
) -> list[subprocess.Popen[bytes]]:
    """Start a recorded training on all hosts."""
    (folder / "recorder.py").write_text(RECORDER)
    (folder / "seen").mkdir(exist_ok=True)
    words = [str(folder / "recorder.py"), str(shards), str(folder), nodes, f"{at.address}:29400"]
    words += [str(meet_within), str(pause)]
    return [host.start(*words, log=folder / f"{host.address}.log") for host in hosts]


def wait_for(size: int, count: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many steps of a start with `size` processes are saved."""
    while len([step for step in steps_of(folder) if step[1] == size]) < count * size:
        assert process.poll() is None, said(folder)
        time.sleep(0.05)


def steps_of(folder: Path) -> list[tuple[float, int, int, list[int]]]:
    lines = [line for path in (folder / "seen").iterdir() for line in path.read_text().splitlines()]
    return sorted(tuple(json.loads(line)) for line in lines if line.endswith("]"))


def learned(folder: Path) -> list[int]:
    """Return the samples that the run has learned from: a later start replaces what an earlier one did after it."""
    steps, kept = steps_of(folder), list[int]()
    for number, (_, size, first, samples) in enumerate(steps):
        if first < min((later[2] for later in steps[number:] if later[1] != size), default=first + 1):
            kept += samples
    return kept


@three
def test_what_is_left_after_a_kill_and_a_cut_cable_sees_each_sample_once(hosts, shapes, tmp_path):
    first, second, third = hosts
    processes = start(hosts, third, shapes / "train", tmp_path, "1:3", 120)
    wait_for(3, 2, tmp_path, processes[2])
    second.kill()
    wait_for(2, 2, tmp_path, processes[2])
    first.cut()  # where the first process runs, which saves
    assert processes[2].wait(300) == 0, said(tmp_path)
    assert processes[0].wait(120) == 1
    assert "10.77.0.3:29400, where the machines meet, cannot be reached" in (tmp_path / "10.77.0.1.log").read_text()
    assert [size for size in (3, 2, 1) if any(step[1] == size for step in steps_of(tmp_path))] == [3, 2, 1]
    assert sorted(learned(tmp_path)) == list(range(len(Shards(shapes / "train"))))
    assert load_state(tmp_path / "run")[0].epoch == 1


@two
@pytest.mark.parametrize("lost", [0, 1])
def test_a_loss_that_leaves_too_few_is_an_error_and_resume_goes_on(lost, hosts, shapes, tmp_path):
    processes = start(hosts, hosts[0], shapes / "train", tmp_path, "2", 60)
    wait_for(2, 2, tmp_path, processes[0])
    hosts[lost].kill()
    left = 1 - lost
    assert processes[left].wait(200) == 1
    place = "10.77.0.1:29400"
    told = [f"{place}, where the machines meet, cannot be reached", f"fewer than 2 machine(s) met at {place} within 60"]
    assert f"TrainingError: {told[lost]}" in (tmp_path / f"{hosts[left].address}.log").read_text()
    run = tmp_path / "run"
    before = load_state(run)[0]
    assert 0 < before.samples < len(Shards(shapes / "train"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["--run", str(run), "--resume", "--device", "cpu", "--workers", "0"]
    done = subprocess.run([sys.executable, *WORDS[:3], *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = load_state(run)[0]
    assert (after.epoch, after.samples) == (1, 0)
    assert after.steps - before.steps == (len(Shards(shapes / "train")) - before.samples) // 2


@two
def test_a_host_that_comes_later_takes_part(hosts, shapes, tmp_path):
    (early,) = start(hosts[:1], hosts[0], shapes / "train", tmp_path, "1:2", 120, pause=2)
    wait_for(1, 2, tmp_path, early)
    (late,) = start(hosts[1:], hosts[0], shapes / "train", tmp_path, "1:2", 120, pause=2)
    assert [early.wait(300), late.wait(300)] == [0, 0], said(tmp_path)
    assert {size for _, size, _, _ in steps_of(tmp_path)} == {1, 2}
    assert sorted(learned(tmp_path)) == list(range(len(Shards(shapes / "train"))))


@two
def test_a_signal_to_one_host_saves_and_ends_both(hosts, shapes, tmp_path):
    processes = start(hosts, hosts[0], shapes / "train", tmp_path, "2", 600)
    wait_for(2, 6, tmp_path, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait(200) for process in processes] == [-signal.SIGINT] * 2, said(tmp_path)
    assert load_state(tmp_path / "run")[0].samples == 40  # the tenth step, where they agree
