"""`dove fetch` as a user runs it, against a real server with SkyScript's own file names."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import RELEASES, SKYSCRIPT
from dove_core.data.fetching.selection import select
from tests.cli.test_commands import dove
from tests.data.mirror import archive, jpeg, stem, table
from tests.http_server import Served, Server, serving

FILES = [file.path for file in select(SKYSCRIPT, FetchConfig()).files]
TEST_TABLE = "dataframe/SkyScript_test_30K_filtered_by_CLIP_openai.csv"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    """Every file of SkyScript's server below sky/; the archives of SkyScript hold a few images."""
    with serving() as running:
        for release in RELEASES.values():
            for file in (*release.files, *(file for other in release.alternatives for file in other.files)):
                if file.path.endswith(".parquet"):
                    continue
                body = zipped("a/b.jpg", b"x" * 50) if file.path.endswith(".zip") else table([(2, 0), (3, 1)])
                running.files[f"sky/{file.path}"] = Served(body)
        for part in range(2, 8):
            images = {f"images{part}/{stem(part, n)}.jpg": jpeg(part, n) for n in range(30)}
            running.files[f"sky/images{part}.zip"] = Served(archive(images))
        running.files[f"sky/{TEST_TABLE}"] = Served(table([(part, 7) for part in range(2, 8)]))
        yield running


def fetch(server: Server, *words: str) -> tuple[int, str, str]:
    return dove("fetch", *words, "--mirror", server.url("sky/"), "--no-checksum")


def gets(server: Server) -> int:
    return sum(not one.is_probe for one in server.asked)


def test_a_whole_release_is_fetched_from_a_mirror_once(empty, server):
    code, out, err = fetch(server, "--json")
    assert code == 0, err
    assert {path for path in json.loads(out)["files"] if not path.endswith(".json")} == {
        f"data/skyscript/{path}" for path in FILES
    }
    asked = gets(server)
    assert fetch(server)[0] == 0
    assert gets(server) == asked


def test_the_plan_is_shown_before_the_first_byte_and_lists_every_file(empty, server):
    code, out, err = fetch(server, "--dry-run")
    assert code == 0, err
    assert [line.split()[-1] for line in out.splitlines()[1:-1]] == [f"data/skyscript/{path}" for path in FILES]
    assert out.splitlines()[-1].startswith("15 of 15 files to fetch: 0.00 GiB; ")
    assert gets(server) == 0
    assert not list(empty.iterdir())
    code, out, _ = fetch(server)
    assert (code, out) == (0, "")
    assert "here  data/skyscript/images7.zip" in fetch(server, "--dry-run")[1]


def test_the_plan_is_printed_as_json(empty, server):
    code, out, _ = fetch(server, "--dry-run", "--json", "--split", "test")
    plan = json.loads(out)
    assert code == 0
    assert plan["folder"] == "data/skyscript" and plan["bytes_free"] > 0
    first, *_, last = plan["files"]
    assert first == {
        "path": f"data/skyscript/{TEST_TABLE}", "url": server.url(f"sky/{TEST_TABLE}"), "server": "present",
        "size": len(server.files[f"sky/{TEST_TABLE}"].body), "here": "absent",
        "bytes_to_come": len(server.files[f"sky/{TEST_TABLE}"].body), "estimated": False, "by_member": False,
    }  # fmt: skip
    assert (last["by_member"], last["estimated"]) == (True, True)


def test_check_prints_a_line_for_each_file_and_fails_if_one_is_missing(empty, server):
    code, out, _ = fetch(server, "--check")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["present"] * 15
    assert out.splitlines()[0].split()[2] == str(len(server.files[f"sky/{FILES[0]}"].body))
    server.files["sky/images3.zip"].status = 403
    del server.files["sky/meta4.zip"]
    code, out, err = fetch(server, "--check")
    assert code == 3
    words = dict(line.split()[1::-1] for line in out.splitlines())
    assert words[server.url("sky/images3.zip")] == "forbidden"
    assert words[server.url("sky/meta4.zip")] == "missing"
    assert "2 of 15 files cannot be fetched" in err
    found = json.loads(fetch(server, "--check", "--json")[1])["files"]
    assert {file["server"] for file in found} == {"present", "forbidden", "missing"}
    assert gets(server) == 0


def test_a_split_and_a_limit_fetch_members_only(empty, server):
    code, _, err = fetch(server, "--split", "test", "--no-meta")
    assert code == 0, err
    assert [path.name for path in Path("data/skyscript/images5").iterdir()] == [f"{stem(5, 7)}.jpg"]
    assert "about" in err
    code, _, err = fetch(server, "--split", "test", "--no-meta", "--limit", "2", "--out", "two")
    assert code == 0, err
    assert len(Path("two", TEST_TABLE).read_text().splitlines()) == 3
    assert dove("shard", "skyscript")[0] == 0


def test_benchmarks_are_found_by_name(empty, server):
    assert fetch(server, "rsicd")[0] == 0
    assert Path("data/rsicd/benchmark/RSICD.zip").exists()
    assert fetch(server, "Roof_Shape")[0] == 0
    assert Path("data/roof-shape/benchmark/roof_shape.zip").exists()
    assert fetch(server, "benchmarks")[0] == 0
    assert len(list(Path("data/benchmarks/benchmark").glob("*.zip"))) == 14


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["atlantis"], "there is no release or model 'atlantis'"),
        (["rsitmd", "--split", "test"], "rsitmd is fetched as a whole: --split"),
        (["rsitmd", "--no-meta"], "rsitmd is fetched as a whole: --no-meta"),
        (["rsicd", "--limit", "5"], "rsicd has its captions and images in the same files: --limit"),
        (["--parts", "9"], "skyscript has no archive 9"),
        (["--parts", "two"], "--parts 'two' is not a list of numbers"),
        (["--captions", "best"], "Invalid value for '--captions'"),
        (["--connections", "0"], "--connections 0 is out of range"),
        (["--limit", "-1"], "--limit -1 is out of range"),
        (["--mirror", "nowhere/here"], "nowhere/here is not a web address"),
        (["--from", "nowhere"], "--from nowhere does not exist"),
        (["sample", "--split", "test"], "the sample release is drawn on this machine"),
        (["sample", "--mirror", "x"], "the sample release is drawn on this machine"),
    ],
)
def test_contradicting_or_invalid_options_are_usage_errors(empty, server, words, message):
    mirror = [] if {"--mirror", "sample"} & set(words) else ["--mirror", server.url("sky/")]
    code, _, err = dove("fetch", *words, *mirror)
    assert code == 2
    assert message in err
    assert gets(server) == 0


def test_an_unknown_release_lists_the_known_ones(empty):
    _, _, err = dove("fetch", "atlantis")
    assert all(name in err for name in ("sample", "skyscript", "rsicd", "eurosat", "benchmarks", "skyclip-vit-l14"))


def test_a_wrong_checksum_and_a_refusal_end_with_the_download_code(empty, server):
    code, _, err = dove("fetch", "--mirror", server.url("sky/"))
    assert code == 3
    assert "--no-checksum" in err
    for served in server.files.values():
        served.status = 403
    code, _, err = fetch(server, "--out", "other")
    assert code == 3
    assert "403" in err


def test_a_release_that_does_not_fit_on_the_disk_ends_with_its_own_code(empty, server):
    for served in server.files.values():
        served.total = 2**50
    code, _, err = fetch(server)
    assert code == 8
    assert "has no room" in err and "--limit" in err
    assert fetch(server, "--dry-run")[0] == 8


def test_files_elsewhere_on_this_disk_are_adopted(empty, server):
    mine = empty / "mine"
    mine.mkdir()
    (mine / "images2.zip").write_bytes(server.files["sky/images2.zip"].body)
    code, _, err = fetch(server, "--from", "mine")
    assert code == 0, err
    assert f"from {mine / 'images2.zip'}" in err or "from mine/images2.zip" in err
    assert Path("data/skyscript/images2.zip").samefile(mine / "images2.zip")


def at_a_terminal(server: Server, *words: str, answer: bytes = b"") -> tuple[int, str]:
    """Run `dove fetch` at a terminal of its own; return exit code and what it showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "dove_cli", "fetch", "rsicd", "--mirror", server.url("sky/"), *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "dumb"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as run:
        os.close(theirs)
        os.write(ours, answer)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the terminal's other end is closed
                break
            if not piece:
                break
            shown += piece
        code = run.wait(60)
    os.close(ours)
    return code, shown.decode()


def test_fetch_asks_on_a_terminal_before_it_downloads(empty, server):
    code, shown = at_a_terminal(server, answer=b"n\n")
    assert code == 0 and "fetch this? [Y/n]" in shown and "nothing was fetched" in shown
    assert gets(server) == 0
    code, shown = at_a_terminal(server, answer=b"\n")
    assert code == 0 and "fetch this?" in shown
    assert Path("data/rsicd/benchmark/RSICD.zip").exists()
    code, shown = at_a_terminal(server)  # all is here: there is nothing to ask
    assert code == 0 and "fetch this?" not in shown
    code, shown = at_a_terminal(server, "--yes", "--out", "other")
    assert code == 0 and "fetch this?" not in shown
    assert Path("other/benchmark/RSICD.zip").exists()
