"""Ray clusters on this machine, in separate processes, and a search for processes that are left."""

from __future__ import annotations

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

from dove_core.errors import DataError
from dove_core.events import Advanced, Event, Report, Saved, Started

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Token of the tests' clusters; a process that has read one keeps it."""

MARK = f"DOVE_TEST_MARK={secrets.token_hex(8)}"
"""Variable in the environment of all processes that the tests start."""

ENVIRONMENT = {
    **os.environ, **TOKEN, "PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "120", **dict([MARK.split("=")]),
}  # fmt: skip


def living(mark: str) -> dict[int, str]:
    """Return the command lines of running processes with a mark in their environment, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is not ours
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


@contextmanager
def started(folder: Path, environment: dict[str, str], gpus: int = 0, hidden: Path | None = None) -> Iterator[str]:
    """Run a cluster of two cores as an administrator would start it, in the foreground; yield its address.

    It sees an empty folder in place of one that is `hidden`.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    apart = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none '{hidden}' && exec \"$@\"", "sh"] if hidden else []
    command = [
        *apart, RAY, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1",
        "--num-cpus=2", f"--num-gpus={gpus}", "--include-dashboard=false", "--disable-usage-stats",
    ]  # fmt: skip
    with (
        (folder / "ray").open("wb") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 120
            while "Ray runtime started" not in (folder / "ray").read_text():
                assert process.poll() is None and time.monotonic() < deadline, (folder / "ray").read_text()
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def token_known() -> Iterator[None]:
    """Set the token of the tests' clusters in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOKEN.items():
            patch.setenv(name, value)
        yield


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder, except the manifest of an index, which has paths."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "index.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def totals_of(events: list[Event]) -> tuple[list[Event], int, set[str]]:
    """Return the events in any order: what started, how much was done, what was saved."""
    advanced = sum(event.amount for event in events if isinstance(event, Advanced))
    saved = {Path(event.path).name for event in events if isinstance(event, Saved)}
    return [event for event in events if isinstance(event, Started)], advanced, saved


def gone(find: Callable[[], object]) -> bool:
    """Wait until nothing is found any more, or a timeout; tell which."""
    deadline = time.monotonic() + 30
    while find() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not find()


def die_once(folder: Path, number: int, *, report: Report) -> int:
    """Report twice; for number 3, kill the worker in between the first time."""
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


def dawdle(folder: Path, number: int) -> None:
    """Leave a file that shows the start, and sleep."""
    (folder / str(number)).write_text(str(os.getpid()))
    time.sleep(300)


def gpu_of(number: int) -> str:
    """Return the GPU that Ray assigned to this task."""
    time.sleep(0.5)
    return os.environ["CUDA_VISIBLE_DEVICES"]
