"""Marks: nothing that was acknowledged is lost, later marks supersede earlier ones, and faults are named."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dove_core.errors import DataError, UsageError
from dove_core.review.marks import Mark, current_marks, decided
from dove_core.review.store import Marks
from dove_core.review.tables import read_marks, read_marks_csv, write_marks_csv

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from dove_core.review.marks import Mark
from dove_core.review.store import Marks
marks, name, count = Marks(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    marks.add([Mark(f"{name}-{number}", "a harbour", "confirm", who=name)])
    print(number, flush=True)
"""
FILLER = """
import sys
from dove_core.errors import DoveError
from dove_core.review.marks import Mark
from dove_core.review.store import Marks
marks, stored = Marks(sys.argv[1]), 0
try:
    while stored < 5000:
        stored += marks.add([Mark(f"{stored}", "a harbour", "confirm", note="x" * 2000)])
except DoveError as error:
    print(type(error).__name__, error.message, "|", error.hint, file=sys.stderr)
left = {mark.key for mark in marks.history()}
print(stored, left == {str(number) for number in range(stored)})
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def killed_while_writing(path: Path, name: str, after: int) -> int:
    """Kill a process that writes once it has acknowledged some marks; return how many it acknowledged."""
    with writer(path, name, 100_000) as process:
        seen = [process.stdout.readline() for _ in range(after)]
        time.sleep(0.001 * (after % 7))
        process.send_signal(signal.SIGKILL)
        return len([line for line in [*seen, *process.stdout] if line.endswith("\n")])


def kill_often(path: Path, times: int) -> None:
    acknowledged = {str(k): killed_while_writing(path, str(k), 1 + 3 * k % 11) for k in range(times)}
    stored = Marks(path).history()
    for name, count in acknowledged.items():
        own = {mark.key for mark in stored if mark.who == name}
        assert own >= {f"{name}-{number}" for number in range(count)}
        assert len(own) <= count + 1  # one may have been stored and not acknowledged yet
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_no_acknowledged_mark_is_lost_when_the_writer_is_killed(tmp_path):
    kill_often(tmp_path / "marks.sqlite", 4)


@pytest.mark.slow
def test_no_acknowledged_mark_is_lost_in_fifty_kills(tmp_path):
    kill_often(tmp_path / "marks.sqlite", 50)


def test_two_processes_write_at_once_from_the_first_mark_on(tmp_path):
    path = tmp_path / "marks.sqlite"
    with writer(path, "eva", 60) as one, writer(path, "ben", 60) as other:
        assert len(one.stdout.readlines()) == len(other.stdout.readlines()) == 60
    assert one.returncode == other.returncode == 0
    assert len(Marks(path).current()) == 120


def test_a_later_mark_of_the_same_analyst_counts_and_the_earlier_one_is_history(tmp_path):
    marks = Marks(tmp_path / "marks.sqlite")
    assert marks.history() == marks.current() == []
    assert not marks.exists()  # reading makes no file
    marks.add([Mark("a", "Harbour", "confirm", who="eva"), Mark("a", "harbour", "confirm", who="ben")])
    marks.add([Mark("a", "harbour ", "reject", "a lake", "eva"), Mark("a", "lake", "confirm", who="eva")])
    assert [(mark.who, mark.verdict) for mark in marks.current("harbour")] == [("ben", "confirm"), ("eva", "reject")]
    assert [mark.verdict for mark in marks.history()] == ["confirm", "confirm", "reject", "confirm"]
    assert marks.queries() == {"harbour": 2, "lake": 1}
    assert decided(marks.current("harbour")) == {}  # one confirms, one rejects


def test_a_mark_that_is_withdrawn_counts_no_more_and_stays_in_the_history(tmp_path):
    marks = Marks(tmp_path / "marks.sqlite")
    marks.add([Mark("a", "lake", "confirm", who="eva"), Mark("a", "lake", "confirm", who="ben")])
    marks.add([Mark("a", "Lake", "withdraw", "a mistake", "eva")])
    assert [mark.who for mark in marks.current("lake")] == ["ben"]
    assert marks.queries() == {"lake": 1}
    assert [mark.verdict for mark in marks.history()] == ["confirm", "confirm", "withdraw"]
    write_marks_csv(tmp_path / "marks.csv", marks.history())
    assert read_marks(tmp_path / "marks.csv") == marks.current()
    marks.add([Mark("a", "lake", "reject", who="eva")])
    assert decided(marks.current("lake")) == {}  # eva has changed her mind once more


def test_the_time_decides_which_mark_is_later_in_whatever_order_they_come(tmp_path):
    marks = Marks(tmp_path / "marks.sqlite")
    marks.add([Mark("a", "q", "reject", when="2026-11-28T12:00:00Z")])
    marks.add([Mark("a", "q", "confirm", when="2026-11-28T12:30:00+01:00")])  # 11:30 in UTC
    assert [mark.verdict for mark in marks.current()] == ["reject"]
    assert current_marks(reversed(marks.history())) == marks.current()


def test_marks_survive_csv_and_are_imported_once(tmp_path):
    marks = Marks(tmp_path / "marks.sqlite")
    odd = 'a "quoted", note\nof two lines; =1+1 \u00e9 \U0001f6e2'
    marks.add([Mark("a", "storage, tanks", "confirm", odd, "eva", "2026-11-28T11:00:00Z", "00ff")])
    write_marks_csv(tmp_path / "marks.csv", marks.history())
    assert read_marks_csv(tmp_path / "marks.csv") == marks.history() == read_marks(tmp_path / "marks.csv")
    assert marks.add(read_marks_csv(tmp_path / "marks.csv")) == 0
    assert read_marks(tmp_path / "marks.sqlite") == marks.current()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,query\na,b\n", "no column verdict"),
        ("key,query,verdict\na,b,confirm\na,b,maybe\n", "line 3: the verdict 'maybe'"),
        ("key,query,verdict\na,b\n", "line 2: it has more or fewer"),
        ("key,query,verdict,when\na,b,reject,noon\n", "the time 'noon'"),
        ("key,query,verdict,colour\na,b,reject,red\n", "unknown columns: colour"),
        ("key,query,verdict\n,b,reject\n", "no key or no query"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("", "no column key"),
    ],
)
def test_a_table_that_is_not_one_of_marks_is_an_error_with_its_line(tmp_path, text, message):
    path = tmp_path / "marks.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        read_marks_csv(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_file_of_something_else_is_named_and_left_as_it_is(tmp_path):
    text, other = tmp_path / "text.sqlite", tmp_path / "other.sqlite"
    text.write_text("not a database, but long enough to have a header" * 9)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE birds (name TEXT)")
    database.close()
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(DataError, match=path.name):
            Marks(path).add([Mark("a", "q", "confirm")])
        with pytest.raises(DataError, match=path.name):
            Marks(path).history()
        assert path.read_bytes() == before
    with pytest.raises(DataError, match="does not exist"):
        read_marks(tmp_path / "none.sqlite")


def in_spaces(command: str) -> subprocess.CompletedProcess[str]:
    spaces = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command]
    return subprocess.run(spaces, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_full_disk_is_an_error_with_a_hint_and_loses_nothing(tmp_path):
    mount = f"mount -t tmpfs -o size=300k tmpfs '{tmp_path}'"
    if shutil.which("unshare") is None or in_spaces(mount).returncode:
        pytest.skip("needs leave to mount a small disk")
    (tmp_path.parent / "filler.py").write_text(FILLER)
    script = f"PYTHONPATH='{ROOT}' '{sys.executable}' '{tmp_path.parent / 'filler.py'}' '{tmp_path}/marks.sqlite'"
    done = in_spaces(f"{mount} && {script}")
    assert done.stderr.startswith("SpaceError no space left while writing"), done.stderr
    assert "free some space" in done.stderr
    stored, whole = done.stdout.split()
    assert int(stored) > 5
    assert whole == "True"


def test_a_read_only_folder_can_be_read_and_says_that_it_cannot_be_written(tmp_path):
    Marks(tmp_path / "marks.sqlite").add([Mark("a", "q", "confirm")])
    mount = f"mount --bind '{tmp_path}' '{tmp_path}' && mount -o remount,ro,bind '{tmp_path}'"
    if shutil.which("unshare") is None or in_spaces(mount).returncode:
        pytest.skip("needs leave to mount a folder read-only")
    (tmp_path.parent / "filler.py").write_text(FILLER)
    read = "from dove_core.review.store import Marks; import sys; print(len(Marks(sys.argv[1]).history()))"
    done = in_spaces(f"{mount} && '{sys.executable}' -c '{read}' '{tmp_path}/marks.sqlite'")
    assert done.stdout == "1\n", done.stderr
    script = f"PYTHONPATH='{ROOT}' '{sys.executable}' '{tmp_path.parent / 'filler.py'}' '{tmp_path}/marks.sqlite'"
    done = in_spaces(f"{mount} && {script}")
    assert done.stderr.startswith("UsageError"), done.stderr
    assert "marks.sqlite cannot be written" in done.stderr and "permissions" in done.stderr


def test_a_file_that_another_process_keeps_locked_is_an_error(tmp_path, monkeypatch):
    marks = Marks(tmp_path / "marks.sqlite")
    marks.add([Mark("a", "q", "confirm")])
    monkeypatch.setattr("dove_core.review.store._WAIT", 0.1)
    other = sqlite3.connect(marks.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UsageError, match="was in use"):
        marks.add([Mark("b", "q", "confirm")])
    assert len(marks.current()) == 1  # readers do not wait
    other.close()


def test_the_first_mark_waits_for_a_process_that_is_just_making_the_file(tmp_path):
    path = tmp_path / "marks.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE marks (id)")
    timer = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    timer.start()
    assert Marks(path).add([Mark("a", "lake", "confirm")]) == 1
    timer.join()
    other.close()
