"""`dove shard` as a user or a scheduler calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dove_cli.render import printable
from dove_core.data.manifest import read_manifest
from tests.cli.test_commands import dove
from tests.data.parquet_files import make_rsicd
from tests.data.releases import contents, make_release


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_release(tmp_path / "data" / "sky", 10)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tasks_share_a_plan_and_the_last_one_finishes(home):
    words = ["shard", "--shard-size", "4", "--workers", "1"]
    assert dove(*words, "--out", "whole/sky")[0] == 0
    code, out, err = dove(*words, "--task-id", "1", "--num-tasks", "2", "--json")
    assert (code, out) == (0, "")
    assert "2 of 3 shards are missing: 00000.tar, 00002.tar" in err
    code, _, err = dove(*words, "--finish")
    assert code == 4
    assert "run the tasks that make them" in err
    code, out, _ = dove(*words, "--task-id", "0", "--num-tasks", "2", "--json")
    assert code == 0
    assert json.loads(out)["samples"] == 10
    assert contents(home / "shards") == contents(home / "whole")
    (home / "shards/sky/train/manifest.json").unlink()
    assert dove(*words, "--finish")[0] == 0
    assert contents(home / "shards") == contents(home / "whole")


def test_a_slurm_array_gives_the_number_of_the_task(home, monkeypatch):
    variables = {"ID": "7", "MIN": "5", "COUNT": "3", "STEP": "2"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    code, _, err = dove("shard", "--shard-size", "4", "--workers", "1")
    assert code == 0, err
    assert "SLURM array: task 1 of 3" in err
    assert [path.name for path in sorted(home.rglob("*.tar"))] == ["00001.tar"]
    monkeypatch.delenv("SLURM_ARRAY_TASK_COUNT")
    code, _, err = dove("shard")
    assert code == 2
    assert "--task-id and --num-tasks" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task-id", "1"], "belong together"),
        (["--num-tasks", "4"], "belong together"),
        (["--task-id", "4", "--num-tasks", "4"], "--task-id 4 is not one of --num-tasks 4"),
        (["--finish", "--num-tasks", "4"], "--finish makes no shard"),
        (["--verify", "maybe"], "maybe"),
        (["--image-size", "-3"], "--image-size"),
        (["--out", "nonsense://there"], "unknown protocol"),
        (["--out", "file://localhost/there"], "three slashes"),
        (["--out", "memory://there"], "would be lost"),
        (["--captions", "a.csv", "--images", "b.zip", "--name", "../c"], "cannot be the name of a folder"),
    ],
)
def test_contradicting_or_invalid_options_are_usage_errors(home, words, message):
    code, _, err = dove("shard", *words)
    assert code == 2, err
    assert message in err
    assert not list(home.rglob("*.tar"))


def test_verify_only_finds_a_flipped_bit_and_says_how_to_repair_it(home):
    code, _, err = dove("shard", "--verify-only")
    assert code == 2
    assert "none below shards/" in err
    assert dove("shard", "--shard-size", "4", "--workers", "1")[0] == 0
    code, out, err = dove("shard", "--verify-only", "--json")
    assert code == 0
    assert json.loads(out) == {"shards": "shards/sky", "faults": []}
    path = home / "shards/sky/train/00001.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:600] + bytes([whole[600] ^ 4]) + whole[601:])
    code, out, err = dove("shard", "sky", "--verify-only", "--json")
    assert code == 4
    (fault,) = json.loads(out)["faults"]
    assert fault["file"] == "shards/sky/train/00001.tar"
    assert "run `dove shard` again" in err
    path.unlink()
    assert dove("shard", "--shard-size", "4", "--workers", "1")[0] == 0
    assert path.read_bytes() == whole
    assert dove("shard", "--verify-only")[0] == 0


def test_images_are_downsampled_and_failed_ones_are_tried_again(home):
    code, _, err = dove("shard", "--image-size", "4", "--image-format", "webp", "--workers", "1")
    assert code == 0, err
    assert b".webp\0" in next(home.rglob("*.tar")).read_bytes()[:512]
    code, _, err = dove("shard", "--image-size", "4", "--image-format", "webp", "--retry-failed", "--workers", "1")
    assert code == 0, err
    assert read_manifest(home / "shards/sky/train").samples == 10


def test_a_fetched_release_of_parquet_files_is_sharded_with_all_its_splits(tmp_path, monkeypatch):
    make_rsicd(tmp_path / "data" / "rsicd")
    monkeypatch.chdir(tmp_path)
    code, out, err = dove("shard", "--workers", "1", "--json")
    assert code == 0, err
    assert [json.loads(line)["shards"] for line in out.splitlines()] == [
        "shards/rsicd/train", "shards/rsicd/val", "shards/rsicd/test"
    ]  # fmt: skip
    assert "images from image.bytes, captions from captions, names from filename" in err
    first = contents(tmp_path / "shards" / "rsicd")
    code, _, err = dove("shard", "rsicd", "--workers", "1")
    assert code == 0, err
    assert contents(tmp_path / "shards" / "rsicd") == first


def test_own_parquet_files_need_a_name_and_no_images(tmp_path, monkeypatch):
    make_rsicd(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    code, _, err = dove("shard", "--captions", "mine")
    assert code == 2
    assert "--captions and --name belong together" in err
    code, _, err = dove("shard", "--captions", "mine", "--images", "mine", "--name", "x")
    assert code == 2
    assert "remove --images" in err
    code, _, err = dove("shard", "--captions", "mine", "--name", "x", "--split", "test", "--workers", "1")
    assert code == 0, err
    assert [path.parent.name for path in tmp_path.rglob("manifest.json")] == ["test"]
    (tmp_path / "mine/data/test-00000-of-00001.parquet").rename(tmp_path / "photos.parquet")
    code, _, err = dove("shard", "--captions", "photos.parquet", "--name", "photos")
    assert code == 4
    assert "hint: name the split with --split train" in err
    code, _, err = dove(
        "shard", "--captions", "photos.parquet", "--name", "photos", "--split", "all", "--workers", "1"
    )  # fmt: skip
    assert code == 0, err
    assert read_manifest(tmp_path / "shards/photos/all").samples == 5


def test_another_table_replaces_shards_only_with_overwrite(home):
    rows = ["filepath,title\nimages2/a1_CH_19.jpg,a lake\n", "filepath,title\nimages2/a2_CH_19.jpg,a pond\n"]
    for number, text in enumerate(rows):
        (home / f"{number}.csv").write_text(text)
    words = ["shard", "--images", "data/sky", "--name", "mine", "--workers", "1", "--captions"]
    code, _, err = dove(*words, "0.csv")
    assert (code, "0.csv: no split in its name, taken as train; choose another with --split" in err) == (0, True)
    before = contents(home / "shards")
    code, _, err = dove(*words, "1.csv")
    assert (code, "has shards made from 0.csv, which shards of 1.csv would replace" in err) == (2, True)
    assert contents(home / "shards") == before
    assert dove(*words, "1.csv", "--overwrite")[0] == 0
    assert contents(home / "shards") != before


def test_what_comes_from_elsewhere_cannot_steer_a_terminal():
    assert printable("e\x1b[31mf\r\x9b\u202e机场\n") == "e\\x1b[31mf\\r\\x9b\\u202e机场\n"
    assert printable("one\ntwo", kept="") == "one\\ntwo"
