"""Files are finished or absent; records are read back strictly."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from dove_core.errors import DataError, SpaceError, UsageError
from dove_core.files import (
    atomic_file,
    atomic_folder,
    is_left_over,
    read_record,
    settled_folder,
    space_checked,
    write_record,
)


@dataclass(frozen=True)
class Thing:
    name: str
    size: int


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "file"
    with pytest.raises(RuntimeError), atomic_file(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with atomic_file(path) as stream:
        stream.write(b"whole")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"whole"


def test_a_folder_is_replaced_whole_or_stays(tmp_path):
    folder = tmp_path / "last"
    with atomic_folder(folder) as aside:
        (aside / "a").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(folder) as aside:
        (aside / "a").write_text("2")
        raise RuntimeError
    assert (folder / "a").read_text() == "1"
    with atomic_folder(folder) as aside:
        (aside / "b").write_text("3")
    assert [p.name for p in folder.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_after_a_crash_between_two_renames_the_older_folder_is_found(tmp_path):
    (tmp_path / "last.old").mkdir()
    assert settled_folder(tmp_path / "last") == tmp_path / "last.old"
    (tmp_path / "last").mkdir()
    assert settled_folder(tmp_path / "last") == tmp_path / "last"


def test_a_full_disk_is_an_error_of_its_own(tmp_path):
    with pytest.raises(SpaceError, match="no space left") as caught, space_checked(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "finished files are kept" in caught.value.hint
    with pytest.raises(OSError, match="input/output"), space_checked(tmp_path):
        raise OSError(errno.EIO, "input/output error")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written: File exists"), atomic_file(tmp_path / "file" / "a"):
        pass
    with pytest.raises(UsageError, match="cannot be written"), atomic_folder(tmp_path / "file" / "a"):
        pass


def test_a_record_comes_back_equal(tmp_path):
    write_record(tmp_path / "r.json", Thing("a", 1), 3)
    assert read_record(tmp_path / "r.json", Thing, 3, DataError, hint="") == Thing("a", 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("{", "cannot be read"),
        ("[]", "not of format 3"),
        (json.dumps({"format": 2, "name": "a", "size": 1}), "not of format 3"),
        (json.dumps({"format": 3, "name": "a"}), "missing keys: size"),
        (json.dumps({"format": 3, "name": "a", "size": 1, "odd": 0}), "unknown keys: odd"),
        (json.dumps({"format": 3, "name": "a", "size": None}), "a size that is not of type int"),
    ],
)
def test_a_record_with_a_wrong_key_or_value_is_an_error_that_names_the_file(tmp_path, content, words):
    path = tmp_path / "r.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_record(path, Thing, 3, DataError, hint="make it again")
    assert str(path) in caught.value.message
    assert caught.value.hint == "make it again"


def test_an_error_keeps_its_hint_between_processes():
    error = pickle.loads(pickle.dumps(DataError("what", hint="how")))
    assert (type(error), error.message, error.hint) == (DataError, "what", "how")


def test_what_a_dead_process_left_is_left_over_and_what_a_living_one_writes_is_not(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from dove_core.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as stream: os._exit(9)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.bin")])
    for _ in range(3000):  # a zombie is dead, though its number is still taken
        if (left := list(tmp_path.glob(".*.tmp"))) and is_left_over(left[0]):
            break
        time.sleep(0.01)
    assert child.wait() == 9
    left = list(tmp_path.glob(".*.tmp"))
    assert is_left_over(left[0])
    with atomic_file(tmp_path / "b.bin"):
        (own,) = tmp_path.glob(".b.bin.*.tmp")
        assert not is_left_over(own)
        os.utime(own, (0, 0))  # written before this process began: by another that had its number
        assert is_left_over(own)
    other = tmp_path / ".c.bin.00000000-1-00000000.tmp"  # of another machine
    other.write_bytes(b"")
    assert not is_left_over(other)
    os.utime(other, (0, 0))
    assert is_left_over(other)
    assert not is_left_over(tmp_path / "notes.tmp")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_not_a_regular_file_is_not_replaced(tmp_path, kind):
    path = tmp_path / "there"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    mode = path.stat().st_mode
    with pytest.raises(UsageError, match="there is"), atomic_file(path) as stream:
        stream.write(b"x")
    assert path.stat().st_mode == mode
    assert [one.name for one in tmp_path.iterdir()] == ["there"]
