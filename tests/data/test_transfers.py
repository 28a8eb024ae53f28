"""Requests at once: the first error stops the others, and one thread at a time reports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dove_core.data.fetching.transfers import StoppedError, Transfers
from dove_core.events import Event, Noted
from tests.data.mirror import Mirror
from tests.http_server import serving

ROOT = Path(__file__).parents[2]


def test_no_more_jobs_run_at_once_than_connections():
    at_work, most, lock = 0, 0, threading.Lock()

    def job(item: int) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return item

    assert sorted(Transfers(3).at_once(job, range(12))) == list(range(12))
    assert most == 3
    assert Transfers(3).at_once(job, []) == []


def test_the_first_error_stops_the_others_at_their_next_check_and_is_not_kept_waiting():
    transfers, stopped = Transfers(4), threading.Event()

    def job(item: int) -> None:
        if item == 2:
            raise ValueError("the second")
        try:
            while True:
                time.sleep(0.01)
                transfers.check()
        except StoppedError:
            stopped.set()

    with pytest.raises(ValueError, match="the second"):
        transfers.at_once(job, range(4))
    assert stopped.wait(5)


def test_one_thread_at_a_time_reports():
    at_work, overlaps = threading.Lock(), []

    def receive(event: Event) -> None:
        if not at_work.acquire(blocking=False):
            overlaps.append(event)
            return
        time.sleep(0.001)
        at_work.release()

    transfers = Transfers(8, report=receive)
    transfers.at_once(lambda item: transfers.report(Noted(str(item))), range(64))
    assert not overlaps


SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from dove_core.data.fetching.fetch import fetch
from tests.data.mirror import tiny_release
fetch(tiny_release(sys.argv[1]), Path(sys.argv[2]))
"""


def test_ctrl_c_does_not_wait_for_a_server_that_is_silent(tmp_path):
    with serving() as server:
        mirror = Mirror(server)
        for part in (2, 3):
            server.files[f"images{part}.zip"].stall_after = 100_000
        command = [sys.executable, "-c", SCRIPT, server.url(), str(tmp_path)]
        environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as run:
            deadline = time.monotonic() + 20
            partial = [tmp_path / f"images{part}.zip.part" for part in (2, 3)]
            while not all(path.exists() and path.stat().st_size for path in partial) and time.monotonic() < deadline:
                time.sleep(0.02)
            begin = time.monotonic()
            run.send_signal(signal.SIGINT)
            error = run.communicate()[1]
        assert "KeyboardInterrupt" in error
        assert time.monotonic() - begin < 5
        assert mirror.bodies["images2.zip"].startswith(partial[0].read_bytes())
