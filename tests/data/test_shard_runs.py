import dataclasses
import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dove_core.config import ShardConfig
from dove_core.data.sharding.shards import ShardManifest, read_manifest, shard_release
from dove_core.errors import DataError
from dove_core.events import Advanced, Event, Saved, Started
from tests.data.releases import SMALL, contents, make_release, picture


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release")


def test_equal_input_gives_equal_bytes(release: Path, tmp_path: Path) -> None:
    shard_release(release, tmp_path / "one" / "sky", SMALL)
    shard_release(release, tmp_path / "two" / "sky", SMALL)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    shard_release(release, tmp_path / "two" / "sky", dataclasses.replace(SMALL, seed=1))
    assert contents(tmp_path / "one") != contents(tmp_path / "two")


def test_a_second_run_keeps_finished_shards_and_reports_the_same(release: Path, tmp_path: Path) -> None:
    events: list[list[Event]] = [[], []]
    before = None
    for reported in events:
        shard_release(release, tmp_path / "out", SMALL, report=reported.append)
        after = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("0*")}
        assert before in (None, after)
        before = after
    train = tmp_path / "out" / "train"
    assert events[0][0] == Started("shard train", 10, "pictures", done=0)
    assert sum(event.amount for event in events[0] if isinstance(event, Advanced)) == 10
    assert [e.path.name for e in events[0] if isinstance(e, Saved)] == [
        "00000.tar", "00001.tar", "00002.tar", "manifest.json"
    ]  # fmt: skip
    assert events[1] == [Started("shard train", 10, "pictures", done=10), Saved(train / "manifest.json")]


def test_a_changed_input_or_setting_makes_the_shards_again(release: Path, tmp_path: Path) -> None:
    def shard(config: ShardConfig) -> dict[str, int]:
        shard_release(release, tmp_path / "out", config)
        return {path.name: path.stat().st_ino for path in (tmp_path / "out" / "train").glob("*.tar")}

    first = shard(SMALL)
    assert shard(dataclasses.replace(SMALL, max_bad=0.5)) == first
    with zipfile.ZipFile(release / "images2.zip", "a") as images:
        images.writestr("images2/another.jpg", picture(99))
    second = shard(SMALL)
    assert not set(first.values()) & set(second.values())
    larger = shard(dataclasses.replace(SMALL, shard_size=100))
    assert list(larger) == ["00000.tar"], "shards of the larger plan are gone"
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == [
        "00000.done", "00000.parquet", "00000.tar", "manifest.json", "sizes.json"
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["tar", "parquet", "done"])
def test_a_shard_with_a_part_lost_or_cut_is_made_again(release: Path, tmp_path: Path, ending: str) -> None:
    shard_release(release, tmp_path / "out", SMALL)
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "train" / f"00001.{ending}").unlink()
    shard_release(release, tmp_path / "out", SMALL)
    assert contents(tmp_path / "out") == whole
    cut = tmp_path / "out" / "train" / "00002.tar"
    cut.write_bytes(cut.read_bytes()[:-700])
    shard_release(release, tmp_path / "out", SMALL)
    assert contents(tmp_path / "out") == whole


KILLED = """
import os, signal, sys
from pathlib import Path
from dove_core.config import ShardConfig
from dove_core.data.sharding.shards import shard_release
from dove_core.events import Advanced, Saved

finished = 0

def report(event):
    global finished
    finished += isinstance(event, Saved)
    if isinstance(event, Advanced if sys.argv[3] == "inside" else Saved) and finished >= 2:
        os.kill(os.getpid(), signal.SIGKILL)

shard_release(Path(sys.argv[1]), Path(sys.argv[2]), ShardConfig(shard_size=4), report=report)
"""


@pytest.mark.parametrize("when", ["between", "inside"])
def test_a_run_killed_goes_on_where_it_stopped_and_ends_with_the_same_bytes(
    release: Path, tmp_path: Path, when: str
) -> None:
    shard_release(release, tmp_path / "whole" / "sky", SMALL)
    out = tmp_path / "killed" / "sky"
    command = [sys.executable, "-c", KILLED, release, out, when]
    code = subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode
    assert code == -signal.SIGKILL
    assert not (out / "train" / "manifest.json").exists()
    assert sorted(path.name for path in out.rglob("*.done")) == ["00000.done", "00001.done"]
    assert bool(list(out.rglob("*.tmp"))) == (when == "inside")
    kept = (out / "train" / "00000.tar").stat().st_ino
    events: list[Event] = []
    shard_release(release, out, SMALL, report=events.append)
    assert events[0] == Started("shard train", 10, "pictures", done=8)
    assert (out / "train" / "00000.tar").stat().st_ino == kept
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_manifest_is_read_back_strictly(release: Path, tmp_path: Path) -> None:
    (manifest,) = shard_release(release, tmp_path / "out", SMALL)
    path = tmp_path / "out" / "train" / "manifest.json"
    values = json.loads(path.read_text())
    assert set(values) == {"format", *(field.name for field in dataclasses.fields(ShardManifest))}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({**values, "extra": 1}, "unknown keys: extra"),
        ({k: v for k, v in values.items() if k != "rows"}, "missing keys: rows"),
        ({**values, "format": 2}, "not of format 1"),
        ({**values, "samples": 11}, "not 11 in all"),
        ({**values, "samples": "10"}, "samples that is no int"),
        ({**values, "shards": None}, "shards is not a list"),
        ({**values, "shards": [{"name": "00000.tar"}]}, "a shard is not"),
        ({**values, "counts": []}, "counts is not an object"),
    ]
    for broken, words in wrong:
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=words) as caught:
            read_manifest(path.parent)
        assert str(path) in caught.value.message
        assert "dove shard" in caught.value.hint
    manifest.write(path.parent)
    assert read_manifest(path.parent) == manifest
