"""`--checkpoint` takes a path, the name of a run or of a model in models/; the only one is the default."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.test_commands import dove


@pytest.fixture
def home(tmp_path, monkeypatch, shapes, trained):
    """A working folder with shards, and the model of a run below models/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").symlink_to(shapes.parent)
    shutil.copytree(trained / "best", tmp_path / "models" / "net")
    return tmp_path


def add_run(home: Path, trained: Path, name: str) -> None:
    shutil.copytree(trained, home / "runs" / name)


def used(*words: str) -> tuple[int, str]:
    """Evaluate; return the exit code and which checkpoint was used, or the error."""
    code, out, err = dove("eval", *words, "--device", "cpu", "--workers", "0", "--no-pairwise", "--json")
    return code, json.loads(out)["checkpoint"] if code == 0 else err


def test_the_only_model_is_the_default_and_so_is_the_only_run(home, trained):
    assert used() == (0, "models/net")
    add_run(home, trained, "first")
    code, err = used()
    assert code == 2
    assert "there are several: models/net, runs/first/best" in err and "--checkpoint" in err
    shutil.rmtree("models")
    assert used() == (0, "runs/first/best")


def test_a_name_is_a_run_or_a_model_and_a_path_is_itself(home, trained):
    add_run(home, trained, "first")
    assert used("--checkpoint", "net") == (0, "models/net")
    assert used("--checkpoint", "first") == (0, "runs/first/best")
    assert used("--checkpoint", "runs/first/last") == (0, "runs/first/last")
    shutil.copytree("models/net", "here")
    assert used("--checkpoint", "here") == (0, "here")


def test_a_name_that_several_have_or_none_is_an_error_that_lists_them(home, trained):
    add_run(home, trained, "net")
    code, err = used("--checkpoint", "net")
    assert code == 2
    assert str(home / "runs/net/best") in err and str(home / "models/net") in err
    code, err = used("--checkpoint", "nets")
    assert code == 5
    assert "there is no checkpoint nets here, in runs/ or in models/" in err
    assert "choose from net, net, or give a path" in err
    (home / "empty").mkdir()
    code, err = used("--checkpoint", "empty")
    assert code == 5 and "empty is not a checkpoint" in err


def test_without_any_checkpoint_both_ways_to_one_are_named(home):
    shutil.rmtree("models")
    assert used()[0] == 5
    assert used()[1].splitlines()[-1].startswith("hint: fetch a model, such as `dove fetch remoteclip-vit-b32`")
    assert (
        "dove fetch remoteclip-vit-b32` (605 MB), or train one with `dove train`, or give a path"
        in used("--checkpoint", "net")[1]
    )


def test_embed_names_the_index_after_the_model_and_query_and_verify_know_its_name(home, trained):
    options = ("--device", "cpu")
    code, _, err = dove("embed", "--checkpoint", "net", "--workers", "0", *options)
    assert code == 0, err
    assert (home / "index/net/index.json").exists()
    (home / "models/net").rename("models/moved")
    for words in (("query", "--like", "test_0", "--checkpoint", "moved"), ("index", "verify", "--checkpoint", "moved")):
        code, _, err = dove(*words, *options)
        assert "there is no checkpoint" not in err, err
    code, _, err = dove("index", "verify", "--checkpoint", "gone", *options)
    assert code == 5 and "there is no checkpoint gone" in err
