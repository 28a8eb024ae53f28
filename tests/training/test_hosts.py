"""Training with torchrun and srun over two and three hosts: the results of one host, and restarts after a loss."""

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

from dove_core.data.reader import Shards
from dove_core.training.run import load_state
from tests.training.hosts import ROOT, Host, network

pytestmark = pytest.mark.slow

WORDS = [
    "--device", "cpu", "--workers", "0", "--no-amp", "--backbone", "resnet18", "--image-size", "32",
    "--embed-dim", "32", "--heads", "4", "--region-grid", "2", "--weights", "none",
]  # fmt: skip
RECORDER = """
import sys
from pathlib import Path
from dove_cli.main import run
from tests.training.jobs import record_steps

if __name__ == "__main__":
    record_steps(Path(sys.argv[1]), pause=float(sys.argv[2]))
    sys.argv[:] = ["dove", *sys.argv[3:]]
    run()
"""
VARIABLES = {"GLOO_SOCKET_IFNAME": "wire", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


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


def output(folder: Path) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(folder.glob("*.log")))


def torchrun(host: Host, at: Host, nodes: str, **conf: int) -> list[str]:
    """Return the words of torchrun on a host; `at` is the host of the rendezvous."""
    # Hosts here have no names, by which torchrun would recognize its own host and find its address.
    pairs = {"is_host": int(host is at), **conf}
    return [
        "-m", "torch.distributed.run", "--nnodes", nodes, "--nproc-per-node", "1", "--max-restarts", "5",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{at.address}:29400", "--local-addr", host.address,
        "--rdzv-conf", ",".join(f"{name}={value}" for name, value in pairs.items()),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def alone(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes on one host, in a namespace too, so that processes communicate in the same way."""
    folder = tmp_path_factory.mktemp("alone")
    words = same_training(shapes, folder)
    try:
        with network(1) as (host,):
            process = host.start("-m", "dove_cli", *words, "--gpus", "2", log=folder / "a.log")
            assert process.wait(300) == 0, output(folder)
    except PermissionError as error:
        pytest.skip(f"no network namespaces here: {error}")
    return folder / "run"


def same_training(shapes: Path, folder: Path) -> list[str]:
    options = ["--batch-size", "4", "--objective", "infonce", "--epochs", "2"]
    return ["train", *WORDS, *options, "--shards", str(shapes / "train"), "--run", str(folder / "run")]


@two
@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_two_hosts_train_as_one_does(launcher, hosts, alone, shapes, tmp_path):
    processes = []
    for k, host in enumerate(hosts):
        variables = {
            "SLURM_PROCID": str(k), "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0",
            "SLURM_STEP_NODELIST": hosts[0].address, "SLURM_JOB_ID": "41",
        } if launcher == "srun" else {}  # fmt: skip
        words = ["-m", "dove_cli"] if launcher == "srun" else [*torchrun(host, hosts[0], "2"), "-m", "--", "dove_cli"]
        words += same_training(shapes, tmp_path)
        processes.append(host.start(*words, log=tmp_path / f"{k}.log", **variables, **VARIABLES))
    assert [process.wait(300) for process in processes] == [0, 0], output(tmp_path)
    one, other = (safetensors.torch.load_file(run / "last/model.safetensors") for run in (alone, tmp_path / "run"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())  # to the last bit
    assert losses(tmp_path / "run") == losses(alone)
    assert output(tmp_path).count("saved") == output(alone.parent).count("saved")  # only one process reports


def losses(run: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [[line[name] for name in ("loss", "pair_loss", "global_loss", "mean_recall", "steps")] for line in lines]


def start(
    hosts: list[Host], at: Host, shapes: Path, folder: Path, nodes: str, *, pause: float = 0.3, join_timeout: int = 600
) -> list[subprocess.Popen[bytes]]:
    """Start a training on some hosts that saves and records each step."""
    script, seen = folder / "recorder.py", folder / "seen"
    script.write_text(RECORDER)
    seen.mkdir(exist_ok=True)
    words = ["--", str(script), str(seen), str(pause), "train", *WORDS, "--epochs", "1", "--batch-size", "2"]
    words += ["--save-steps", "1", "--shards", str(shapes / "train"), "--run", str(folder / "run")]
    conf = {"last_call_timeout": 5, "join_timeout": join_timeout}
    return [
        host.start(*torchrun(host, at, nodes, **conf), *words, log=folder / f"{host.address}.log", STEP_TIMEOUT="10",
                   **VARIABLES)
        for host in hosts
    ]  # fmt: skip


def wait_for(size: int, count: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until `count` steps were taken with `size` processes."""
    while len([step for step in steps_of(folder) if step[1] == size]) < count * size:
        assert process.poll() is None, output(folder)
        time.sleep(0.05)


def steps_of(folder: Path) -> list[tuple[float, int, int, list[int]]]:
    lines = [line for path in (folder / "seen").iterdir() for line in path.read_text().splitlines()]
    return sorted(tuple(json.loads(line)) for line in lines if line.endswith("]"))


def trained_samples(folder: Path) -> list[int]:
    """Return the samples that count: after a restart from last/, later steps replace those that were lost."""
    steps, kept = steps_of(folder), list[int]()
    for number, (_, size, first, samples) in enumerate(steps):
        if first < min((later[2] for later in steps[number:] if later[1] != size), default=first + 1):
            kept += samples
    return kept


@three
def test_the_remaining_hosts_see_each_sample_once_after_a_kill_and_a_cut_cable(hosts, shapes, tmp_path):
    first, second, third = hosts
    processes = start(hosts, third, shapes, tmp_path, "1:3")
    wait_for(3, 2, tmp_path, processes[2])
    second.kill()
    wait_for(2, 2, tmp_path, processes[2])
    first.cut()  # the first process, which saves, runs there
    assert processes[2].wait(300) == 0, output(tmp_path)
    assert [size for size in (3, 2, 1) if any(step[1] == size for step in steps_of(tmp_path))] == [3, 2, 1]
    assert sorted(trained_samples(tmp_path)) == list(range(len(Shards(shapes / "train"))))
    assert load_state(tmp_path / "run")[0].epoch == 1
    assert "lost another one" in (tmp_path / f"{first.address}.log").read_text()


@two
@pytest.mark.parametrize("lost", [0, 1])
def test_torchrun_ends_when_too_few_hosts_are_left_and_the_run_can_be_resumed(lost, hosts, shapes, tmp_path):
    processes = start(hosts, hosts[0], shapes, tmp_path, "2", join_timeout=20)
    wait_for(2, 2, tmp_path, processes[0])
    hosts[lost].kill()
    assert processes[1 - lost].wait(200) == 1
    run = tmp_path / "run"
    before = load_state(run)[0]
    assert 0 < before.samples < len(Shards(shapes / "train"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["train", "--run", str(run), "--resume", "--device", "cpu", "--workers", "0"]
    done = subprocess.run([sys.executable, "-m", "dove_cli", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = load_state(run)[0]
    assert (after.epoch, after.samples) == (1, 0)
    assert after.steps - before.steps == (len(Shards(shapes / "train")) - before.samples) // 2


@two
def test_a_host_that_comes_later_takes_part(hosts, shapes, tmp_path):
    (early,) = start(hosts[:1], hosts[0], shapes, tmp_path, "1:2", pause=2)
    wait_for(1, 2, tmp_path, early)
    (late,) = start(hosts[1:], hosts[0], shapes, tmp_path, "1:2", pause=2)
    assert [early.wait(300), late.wait(300)] == [0, 0], output(tmp_path)
    assert {size for _, size, _, _ in steps_of(tmp_path)} == {1, 2}
    assert sorted(trained_samples(tmp_path)) == list(range(len(Shards(shapes / "train"))))


@two
def test_sigterm_to_both_hosts_saves_and_ends(hosts, shapes, tmp_path):
    processes = start(hosts, hosts[0], shapes, tmp_path, "2")
    wait_for(2, 6, tmp_path, processes[0])
    for process in processes:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(200) for process in processes] == [1, 1], output(tmp_path)  # torchrun's own exit code
    assert load_state(tmp_path / "run")[0].samples == 40  # the tenth step, where processes check for signals
    assert output(tmp_path).count("interrupted") == 2
