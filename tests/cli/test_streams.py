"""Commands whose output is a closed pipe, a full disk, a terminal without Unicode, or has characters that steer one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.test_commands import at_home, home  # noqa: F401  # fixtures
from tests.made import draw_shape

DOVE = [sys.executable, "-m", "dove_cli"]
NAMES = ("机场", "sân bay ✈", "esc\x1b]0;title\x07\x1b[2J", "left\u202egpj")


def dove(*words: str, into: str = "", environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, in a shell if its output goes `into` something."""
    words = (*DOVE, *words)
    command = ["bash", "-c", f'"$@" {into}; echo "code ${{PIPESTATUS[0]}}" >&2', "bash", *words] if into else [*words]
    own = {**os.environ, **(environment or {})}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=own, encoding="utf-8", errors="replace", check=False
    )


@pytest.fixture(scope="module")
def names(home, tmp_path_factory) -> Path:  # noqa: F811
    """An index of images with file names in other scripts, and with control characters."""
    folder = tmp_path_factory.mktemp("names")
    for name in NAMES:
        draw_shape("red", "circle").save(folder / f"{name}.png")
    out = folder / "index" / "names"
    done = dove(
        "embed", str(folder), "--checkpoint", str(home / "runs/shapes/best"), "--out", str(out), "--workers", "0",
        "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(
    "words", [("query", "red circle", "--top", "60"), ("query", "red circle", "--top", "60", "--json"), ("--help",)]
)
def test_a_reader_that_has_enough_ends_a_command_without_an_error(at_home, words):  # noqa: F811
    done = dove(*words, into="| head -1")
    assert "code 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_files_are_written_although_nobody_reads_the_output(at_home, tmp_path):  # noqa: F811
    sheet = tmp_path / "sheet.png"
    done = dove("query", "red circle", "--json", "--top", "60", "--sheet", str(sheet), into="| true")
    assert "code 0" in done.stderr
    assert sheet.exists()


@pytest.mark.parametrize("words", [("query", "red circle"), ("query", "red circle", "--json"), ("--help",)])
def test_a_full_disk_behind_the_output_has_its_exit_code(at_home, words):  # noqa: F811
    done = dove(*words, into=">/dev/full")
    assert "code 8" in done.stderr
    assert "no space left while writing standard output" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_keeps_its_exit_code_if_nobody_reads_the_output(at_home):  # noqa: F811
    assert "code 2" in dove("query", "zzz", "--json", into="| true").stderr


def test_closed_streams_are_no_error(at_home):  # noqa: F811
    words = ("query", "red circle", "--json", "--top", "3")
    assert "code 0" in dove(*words, into=">&-").stderr
    assert len(dove(*words, into="2>&-").stdout.splitlines()) == 3


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_terminal_of_any_encoding_shows_all_hits(names, encoding, as_json):
    words = ("query", "red circle", "--index", str(names), *(["--json"] if as_json else []))
    done = dove(*words, environment={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    if as_json:
        assert sorted(json.loads(line)["key"] for line in done.stdout.splitlines()) == sorted(f"{n}.png" for n in NAMES)
    else:
        assert ("机场" if encoding == "utf-8" else "\\u673a\\u573a") in done.stdout


@pytest.mark.parametrize("words", [("--json",), ()])
def test_a_file_name_cannot_steer_a_terminal(names, words):
    done = dove("query", "red circle", "--index", str(names), *words)
    for character in ("\x1b", "\x07", "\u202e"):
        assert character not in done.stdout + done.stderr
    assert "\\x1b]0;title" in done.stdout or "\\u001b]0;title" in done.stdout


def test_notes_about_words_are_in_the_json(at_home, tmp_path):  # noqa: F811
    done = dove("query", "red circles near a zeppelin", "--top", "1", "--json")
    expected = [
        "words read as others that the model has learned: circles as circle",
        "words that the model has not learned: near, zeppelin",
    ]
    assert json.loads(done.stdout)["notes"] == expected
    assert all(line in done.stderr for line in expected)
    (tmp_path / "q.txt").write_bytes("red circle\nsquares\nxyzzy\n".encode("utf-16"))  # as PowerShell writes it
    done = dove("query", "--queries", str(tmp_path / "q.txt"), "--json", "--top", "1")
    known, other, unknown = map(json.loads, done.stdout.splitlines())
    assert "notes" not in known
    assert other["notes"] == ["words read as others that the model has learned: squares as square"]
    assert (unknown["hits"], unknown["notes"]) == ([], ["words that the model has not learned: xyzzy"])


def test_folders_without_rights_are_errors_that_name_them(home, tmp_path):  # noqa: F811
    as_user = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]
    if os.geteuid() == 0 and subprocess.run([*as_user, "true"], check=False).returncode:
        pytest.skip("root, and its rights cannot be dropped")
    (tmp_path / "index").mkdir()
    (tmp_path / "images").mkdir()
    draw_shape("red", "circle").save(tmp_path / "images" / "a.png")
    best = str(home / "runs/shapes/best")
    for closed, code, words in (
        ("index", 6, ("query", "red", "--index", str(tmp_path / "index"))),
        ("images", 2, ("embed", str(tmp_path / "images"), "--checkpoint", best, "--out", str(tmp_path / "new"))),
    ):
        (tmp_path / closed).chmod(0)
        command = [*(as_user if os.geteuid() == 0 else []), *DOVE, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (tmp_path / closed).chmod(0o755)
        assert done.returncode == code, done.stderr
        assert str(tmp_path / closed) in done.stderr
        assert "Permission denied" in done.stderr
        assert "hint:" in done.stderr


def test_a_current_folder_that_was_removed_is_named(tmp_path):
    script = f'mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; "$@"'
    done = subprocess.run(["bash", "-c", script, "bash", *DOVE, "query", "red"], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"the current folder was removed" in done.stderr
