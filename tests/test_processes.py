"""Tasks in worker processes: results, errors, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dove_core.errors import DataError
from dove_core.processes import each


def double(number: int) -> int:
    return 2 * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise DataError("three", hint="leave it out")
    return number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_every_item_comes_back_with_its_result(workers):
    assert dict(each(double, range(7), workers, lost="")) == {n: 2 * n for n in range(7)}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_back_as_itself(workers):
    with pytest.raises(DataError, match="three") as caught:
        list(each(fail_at_three, range(7), workers, lost=""))
    assert caught.value.hint == "leave it out"


def test_a_process_that_dies_is_an_error_with_a_hint():
    with pytest.raises(DataError, match="died") as caught:
        list(each(die_at_three, range(7), 2, lost="fewer workers"))
    assert caught.value.hint == "fewer workers"


SCRIPT = """
import time
from dove_core.processes import each
from tests.test_processes import dawdle
print("ready", flush=True)
try:
    list(each(dawdle, range(8), 2, lost=""))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def dawdle(number: int) -> None:
    os.write(1, b"at work\n")  # at once: lines that two processes print may run into one another
    time.sleep(60)


def living(group: int) -> list[str]:
    """Return the processes of a group that still run, without zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state not in ("Z", "X"):
                found.append(path.parent.name)
    return found


@pytest.mark.parametrize("presses", [1, 3])
def test_ctrl_c_ends_all_at_once_however_often_it_is_pressed(presses):
    command = [sys.executable, "-c", SCRIPT]
    root = Path(__file__).parents[1]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert [process.stdout.readline() for _ in range(3)] == ["ready\n", "at work\n", "at work\n"]
        for _ in range(presses):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.05)
        out, err = process.communicate(timeout=60)  # the tasks alone would take minutes
    if presses == 1:  # a second one may come during the message of the first
        assert out == "interrupted\n", err
    for _ in range(300):
        if not living(process.pid):
            break
        time.sleep(0.1)
    assert not living(process.pid), "a process of the group still runs"
