"""The commands as a user runs them: valid input, invalid input, exit codes, output."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dove_cli import render
from dove_cli.main import app
from dove_core import errors
from dove_core.events import Advanced, Measured, Noted, Saved, Skipped, Started
from tests.made import make_karpathy

IN_A_RUN = "runs/shapes/settings.json"

SMALL_OPTIONS = [
    "--backbone", "resnet18", "--image-size", "32", "--embed-dim", "32", "--heads", "4", "--word-dim", "16",
    "--region-grid", "2", "--weights", "none", "--device", "cpu", "--workers", "0", "--batch-size", "16",
]  # fmt: skip


def dove(*words: str) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, standard output and standard error."""
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory, shapes, trained):
    """A working folder with shards, a run and an index in their default places."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(shapes, folder / "shards" / "shapes")
    shutil.copytree(trained, folder / "runs" / "shapes")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert dove("embed", "--device", "cpu", "--workers", "0")[0] == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_captions_to_a_hit_with_every_default(empty):
    captions, images = make_karpathy(empty / "source", {"train": 24, "val": 8, "test": 8})
    code, out, err = dove("shard", "--captions", str(captions), "--images", str(images), "--name", "shapes")
    assert (code, out) == (0, "")
    assert "shards/shapes/train: 24 samples in 1 shards (24 ok)" in err
    code, out, err = dove("train", *SMALL_OPTIONS, "--epochs", "1")
    assert code == 0, err
    assert "using shards/shapes/train\nchoosing best/ on shards/shapes/val\n" in err
    assert "saved runs/shapes/best" in err
    assert re.search(r"^ 1 +\d\.\d{4}", out, re.M)
    code, out, err = dove("eval", "--device", "cpu", "--workers", "0")
    assert code == 0, err
    assert "using runs/shapes/best\nusing shards/shapes/test\n" in err
    assert "8 images, 16 captions" in out
    assert all(name in out for name in ("global", "reranked (best 50)", "pairwise"))
    code, _, err = dove("embed", "--device", "cpu", "--workers", "0")
    assert code == 0, err
    assert "saved index/shapes" in err
    code, out, err = dove("query", "red circle", "--top", "3", "--sheet", "hits.png", "--device", "cpu")
    assert code == 0, err
    assert len(re.findall(r"^ [123] ", out, re.M)) == 3
    assert (empty / "hits.png").read_bytes().startswith(b"\x89PNG")


def test_eval_json_is_one_object_with_three_rows(at_home):
    code, out, _ = dove("eval", "--json", "--device", "cpu", "--workers", "0")
    assert code == 0
    found = json.loads(out)
    assert (found["protocol"], found["ties"]) == ("captions-5", "pessimistic")
    names = {f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    for row in ("global", "reranked", "pairwise"):
        figures = found["metrics"][row]
        assert names < set(figures)
        assert all(0 <= value <= 100 for name, value in figures.items() if "recall" in name)
        assert figures["mean_recall_low"] <= figures["mean_recall"] <= figures["mean_recall_high"]


def test_eval_says_what_recall_is_with_ties_in_random_order_if_there_are_ties(at_home):
    words = ("eval", "--device", "cpu", "--workers", "0", "--no-pairwise", "--shards", "shards/shapes/train")
    _, out, _ = dove(*words, "--protocol", "captions-5", "--json")
    rows = json.loads(out)["metrics"]
    for figures in rows.values():
        assert figures["mean_recall_random_ties"] > figures["mean_recall"] + 0.01  # equal captions of several images
    row = ", ".join(f"{name} {values['mean_recall_random_ties']:.2f}" for name, values in rows.items())
    _, out, _ = dove(*words, "--protocol", "captions-5")
    assert f"mean recall with ties in random order: {row}" in out
    _, out, _ = dove("eval", "--device", "cpu", "--workers", "0")
    assert "random order" not in out


def test_eval_warns_of_images_that_the_checkpoint_was_trained_or_chosen_on_and_compares_results(at_home, tmp_path):
    words = ("eval", "--device", "cpu", "--workers", "0", "--json", "--no-pairwise", "--shards")
    for split, warning in (("train", "WAS TRAINED ON THESE IMAGES"), ("val", "WAS CHOSEN ON THESE"), ("test", "")):
        code, out, err = dove(*words, f"shards/shapes/{split}")
        assert code == 0, err
        assert warning in err
        assert ("ATTENTION" in err) == bool(warning)
        (tmp_path / f"{split}.json").write_text(out)
    code, out, err = dove("eval", "--compare", str(tmp_path / "val.json"), str(tmp_path / "train.json"))
    assert code == 0, err
    assert "global" in out
    assert "chance" in out
    assert "split, data differ" in err
    code, out, _ = dove("eval", "--compare", str(tmp_path / "val.json"), str(tmp_path / "val.json"), "--json")
    assert json.loads(out)["mean_recall"]["global"]["difference"] == 0
    code, _, err = dove("eval", "--compare", str(tmp_path / "val.json"), str(tmp_path / "none.json"))
    assert code == 4
    assert "hint" in err


def test_query_json_is_one_object_for_each_hit(at_home):
    code, out, err = dove("query", "a green square", "--top", "4", "--rerank", "6", "--json", "--device", "cpu")
    assert code == 0, err
    hits = [json.loads(line) for line in out.splitlines()]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    for hit in hits:
        assert set(hit) == {"rank", "key", "score", "caption", "shard"}
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_an_image_can_be_the_query(at_home, shapes):
    image = shapes.parents[1] / "source" / "images" / "test_3.jpg"
    code, out, err = dove("query", "--image", str(image), "--top", "1", "--json", "--device", "cpu")
    assert code == 0, err
    assert json.loads(out)["score"] > 0.98


def test_the_error_names_a_sheet_that_cannot_be_written(at_home):
    code, _, err = dove("query", "red", "--sheet", "runs/shapes/settings.json/a.png", "--device", "cpu")
    assert code == 2
    assert "cannot be written" in err


def test_embed_and_shard_and_train_print_json(empty):
    captions, images = make_karpathy(empty / "source", {"train": 8})
    _, out, _ = dove("shard", "--captions", str(captions), "--images", str(images), "--name", "s", "--json")
    assert json.loads(out)["samples"] == 8
    code, out, err = dove("train", *SMALL_OPTIONS, "--epochs", "1", "--json")
    assert code == 0, err
    assert "no val split: best/ is the last epoch" in err
    assert json.loads(out)["steps"] == 1
    code, _, err = dove("train", "--shards", "shards/none")
    assert code == 4 and err.startswith("error: "), err
    code, out, _ = dove("embed", "--shards", "shards/s", "--device", "cpu", "--workers", "0", "--json")
    assert json.loads(out)["pictures"] == 8


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["query"], 2, "the query is missing", "airport runway"),
        (["query", "x", "--image", "y"], 2, "--image y cannot be read", "JPEG"),
        (["query", "x", "--queries", "y"], 2, "--queries cannot be combined with another query", "alone"),
        (["query", "--queries", "runs"], 2, "--queries runs cannot be read: Is a directory", "one query on each line"),
        (["query", "red", "blue"], 2, "the query has several parts: red, blue", 'dove query "red blue"'),
        (["query", "--image", IN_A_RUN], 4, f"{IN_A_RUN} is not an image that Pillow can read\n", "JPEG"),
        (["query", "red", "--sheet", "runs"], 2, "--sheet runs is a folder", "--sheet runs/"),
        (["query", "--image", "x.jpg", "--explain", "a.png"], 2, "--explain needs a query in words", "--explain"),
        (["query", "red", "--copy-to", IN_A_RUN], 2, f"--copy-to {IN_A_RUN} is not a folder", "--copy-to images"),
        (["query", "red", "--bbox", "1,2"], 2, "--bbox '1,2' is not 4 numbers", "5.9,45.8"),
        (["eval", "--images", "none.zip"], 4, "none.zip does not exist", "--images"),
        (["eval", "--images", "x", "--suite", "y"], 2, "--images and --suite are both given", "one of them"),
        (["eval", "--captions", "x.json"], 2, "--captions needs --images", "--images"),
        (["eval", "--split", "val"], 2, "--split needs --images", "--shards shards/NAME/val"),
        (["eval", "--compare", "a", "b", "--suite", "y"], 2, "evaluates nothing", "--compare alone"),
        (["eval", "--compare", "a", "b", "--checkpoint", "y"], 2, "evaluates nothing", "--compare alone"),
        (["eval", "--report", "runs"], 2, "--report runs is not a file", "--report page.html"),
        (["eval", "--caption-field", "nothere"], 4, "--caption-field nothere: there is no such field", "are caption"),
        (["eval", "--class-names", "nothere"], 2, "--class-names nothere: there are no labels", "--label-field"),
        (
            ["eval", "--class-names", "runs", "--label-field", "caption"],
            4,
            "runs cannot be read: Is a directory\n",
            "one",
        ),
        (
            ["eval", "--images", "shards", "--captions", "runs"],
            4,
            "runs cannot be read as a CSV: Is a directory\n",
            "CSV",
        ),
        (["query", "--image", "none.jpg"], 2, "--image none.jpg cannot be read", "JPEG"),
        (["query", "red", "--top", "0"], 2, "--top 0 is out of range", "at least 1"),
        (["query", "red", "--cache-size", "0"], 2, "--cache-size 0.0 is out of range", "more than 0"),
        (["query", "zeppelin"], 2, "the model knows no word of 'zeppelin'", "use words such as"),
        (
            ["query", "red", "--index", "other"],
            6,
            "there is no index other in index/",
            "choose from shapes, or give a path",
        ),
        (["query", "red", "--index", "./other"], 6, "other/index.json does not exist", "dove embed"),
        (["serve", "other"], 6, "there is no index other in index/", "choose from shapes"),
        (["marks", "export", "m.csv", "--index", "other"], 6, "there is no index other", "choose from shapes"),
        (["index", "verify", "other"], 6, "there is no index other", "choose from shapes"),
        (["fetch", "mine", "--from", "epoch_20.pt"], 2, "--from epoch_20.pt does not exist", "the file of a model"),
        (["query", "red", "--checkpoint", "none"], 5, "there is no checkpoint none", "choose from shapes"),
        (["eval", "--checkpoint", "runs/none/best"], 5, "runs/none/best is not a checkpoint", "runs/NAME/best"),
        (["eval", "--shards", "shards/none"], 4, "shards/none/manifest.json", "dove shard"),
        (["eval", "--rerank", "-1"], 2, "--rerank -1 is out of range", "at least 0"),
        (["embed", "--shards", "nowhere"], 4, "nowhere holds no shards", "manifest.json"),
        (["train"], 7, "runs/shapes holds a trained run", "--resume"),
        (["train", "--resume"], 7, "has trained all of its 2 epochs", "--epochs N"),
        (["train", "--resume", "--margin", "0.5"], 2, "--margin 0.5: this run was started with 0.2", "--epochs"),
        (
            ["train", "--resume", "--shards", "shards/shapes/val", "--epochs", "3"],
            4,
            "differs from the shards that this run was started with",
            "start a new one with --run",
        ),
        (["train", "--run", "new", "--validation", "none", "--device", "cpu"], 4, "none/manifest.json", "dove shard"),
        (
            ["train", "--run", "new", "--shards", "shards/shapes"],
            4,
            "is the folder of a release",
            "shards/shapes/train",
        ),
        (["eval", "--shards", "shards/shapes"], 4, "is the folder of a release", "shards/shapes/val"),
        (["embed", "--out", "./runs/shapes/settings.json"], 2, "settings.json cannot be written", "another place"),
        (["fetch", "sample", "--out", "runs/shapes/settings.json"], 2, "cannot be written", "another place"),
        (["fetch", "sample", "--mirror", "x"], 2, "the sample release is drawn", "takes --out only"),
        (["train", "--run", "new", "--gpus", "2", "--device", "auto"], 2, "--gpus 2: this machine has", "cpu"),
        (
            ["train", "--run", "new", "--weights", "w.pth", "--device", "cpu"],
            5,
            "--weights w.pth does not exist",
            "file",
        ),
        (
            ["train", "--run", "new", "--weights", "runs", "--device", "cpu"],
            5,
            "--weights runs cannot be read: Is a directory\n",
            "expected the weights of a model",
        ),
        (["train", "--run", "new", "--embed-dim", "100"], 2, "--embed-dim 100 is not a multiple", "512"),
        (["shard"], 4, "a fetched release is needed, and none was found", "dove fetch"),
        (["shard", "--captions", "a.csv"], 2, "--captions, --images and --name belong together", "all three"),
        (["shard", "x", "--captions", "a", "--images", "b", "--name", "c"], 2, "both the release 'x'", "leave one"),
        (["shard", "x", "--split", "val"], 2, "--split goes with --captions", "names of its tables"),
        (["shard", "none"], 4, "data/none", "dove fetch"),
        (["shard", "--captions", "a.csv", "--images", "b", "--name", "c"], 4, "a.csv", ""),
    ],
)
def test_wrong_input_gives_an_error_a_hint_and_an_exit_code(at_home, words, code, message, hint):
    import torch

    if "--gpus" in words and torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    found, out, err = dove(*words)
    assert (found, out) == (code, ""), err
    assert re.search(r"^error: .*" + re.escape(message), err, re.M), err
    assert hint in err.split("hint: ", 1)[-1]


@pytest.mark.parametrize(
    "words", [["fetch", "nonsense"], ["train", "--center-box", "x"], ["eval", "--rerank", "many"], ["fly"]]
)
def test_values_that_the_parser_rejects_are_usage_errors(at_home, words):
    assert dove(*words)[0] == 2


def test_several_candidates_are_listed_and_none_is_used(home, tmp_path, monkeypatch):
    folder = shutil.copytree(home, tmp_path / "home")
    monkeypatch.chdir(folder)
    shutil.copytree("shards/shapes", "shards/other")
    shutil.copytree("runs/shapes", "runs/other")
    shutil.copytree("index/shapes", "index/other")
    for words, listed, option in (
        (["eval"], "runs/other/best, runs/shapes/best", "--checkpoint"),
        (["train"], "shards/other/train, shards/shapes/train", "--shards"),
        (["train", "--resume"], "runs/other, runs/shapes", "--run"),
        (["query", "red"], "index/other, index/shapes", "--index"),
    ):
        code, _, err = dove(*words)
        assert code == 2
        assert listed in err
        assert option in err


@pytest.mark.parametrize(
    ("words", "code", "how"),
    [
        (["shard"], 4, "name it: `dove shard NAME`"),
        (["export"], 5, "name it: `dove export NAME`"),
        (["serve"], 6, "name it: `dove serve NAME`"),
        (["index", "verify"], 6, "name it: `dove index verify NAME`"),
        (["index", "push", "--to", "local.db"], 6, "name it: `dove index push NAME --to ADDRESS`"),
        (["query", "red"], 6, "choose one with --index"),
        (["eval"], 5, "choose one with --checkpoint"),
    ],
)
def test_a_missing_default_has_the_hint_how_its_command_names_another(empty, words, code, how):
    found, _, err = dove(*words)
    assert (found, err.rstrip().endswith(how)) == (code, True), err


def test_an_index_of_another_model_is_an_index_error(home, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(home, tmp_path / "home"))
    done = dove("train", *SMALL_OPTIONS, "--epochs", "1", "--run", "other", "--seed", "5")
    assert done[0] == 0, done[2]
    code, _, err = dove("embed", "--checkpoint", "runs/other/best", "--out", "shapes", "--device", "cpu")
    assert code == 6
    assert "was made by the model" in err
    code, _, err = dove("query", "red", "--checkpoint", "runs/other/best", "--device", "cpu")
    assert code == 6
    assert "give the model of the index with --checkpoint" in err


def test_every_kind_of_error_has_its_own_exit_code_in_the_help_and_on_its_page():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__base__ is errors.DoveError}
    assert kinds == set(render.EXIT_CODES)
    assert len(set(render.EXIT_CODES.values())) == len(kinds)
    code, out, _ = dove("--help")
    assert code == 0
    page = (Path(__file__).parents[2] / "docs/reference/exit-codes.md").read_text()
    for kind, number in render.EXIT_CODES.items():
        assert re.search(rf"^\| {number} \|.*\| `{kind.__name__}` \|$", page, re.M), kind
    for number in (0, 1, *render.EXIT_CODES.values(), render.INTERRUPTED):
        assert re.search(rf"\b{number}\b", out)
        assert re.search(rf"^\| {number} \|", page, re.M), number


COMMANDS = ["fetch", "shard", "train", "eval", "embed", "query", "serve", "export"]
GROUPS = {"index": ["push", "verify"], "marks": ["import", "export"]}


@pytest.mark.parametrize("command", [*COMMANDS, *(f"{group} {one}" for group in GROUPS for one in GROUPS[group])])
def test_every_command_has_help_with_examples(command):
    code, out, _ = dove(*command.split(), "--help")
    assert code == 0
    assert f"dove {command}" in re.sub(r"Usage: dove \w+( \w+)?", "", out)


def listed(*words):
    return re.findall(r"^│ (\w+) {2,}\w", dove(*words)[1], re.M)


def test_the_help_lists_the_commands_in_the_order_of_use():
    assert listed("--help") == [*COMMANDS, *GROUPS]
    assert {group: listed(group, "--help") for group in GROUPS} == GROUPS


def test_ctrl_c_ends_with_130(at_home, monkeypatch):
    import dove_core.evaluation.evaluate as module

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "load_encoder", interrupted)
    code, _, err = dove("eval")
    assert code == 130
    assert "interrupted" in err


def test_bars_appear_on_a_terminal_only(monkeypatch, capsys):
    events = [
        Started("training", 10, "images", done=2), Advanced("training", 3), Measured("training", {"loss": 0.5}),
        Measured("training", {"mean_recall": 12.0}, final=True), Skipped("shard", "damaged picture", 2, "a.jpg"),
        Saved("runs/a"), Noted("a [bracketed] note"),
    ]  # fmt: skip
    with render.reporting() as report:
        for event in events:
            report(event)
    plain = capsys.readouterr()
    assert plain.out == ""
    assert plain.err == (
        "training: 10 images, 2 done before\ntraining: mean recall 12\n"
        "shard: left out 2 (damaged picture), such as a.jpg\nsaved runs/a\na [bracketed] note\n"
    )
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with render.reporting() as report:
        for event in events:
            report(event)
    drawn = capsys.readouterr()
    assert drawn.out == ""
    assert "━" in drawn.err
    assert "5/10" in drawn.err
    assert "a [bracketed] note" in drawn.err


def test_options_override_a_recipe(at_home, tmp_path):
    recipe = tmp_path / "own.toml"
    recipe.write_text("[model]\nheads = 2\nembed_dim = 16\n[training]\nepochs = 7\nlambda_g = 2.0\n")
    words = [word for word in SMALL_OPTIONS if word not in ("--heads", "4")]
    code, _, err = dove("train", *words, "--recipe", str(recipe), "--epochs", "1", "--run", str(tmp_path / "run"))
    assert code == 0, err
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["model"]["heads"] == 2
    assert settings["model"]["embed_dim"] == 32  # given
    assert (settings["training"]["epochs"], settings["training"]["lambda_g"]) == (1, 2.0)
    code, _, err = dove("train", "--resume", "--run", str(tmp_path / "run"), "--recipe", "rsicd-scratch")
    assert code == 2
    assert "this run was started with" in err
    code, _, err = dove("train", "--recipe", "rsicd")
    assert code == 2
    assert "choose one of" in err


def test_options_are_checked_against_the_recipe_and_the_run_and_not_against_the_defaults(at_home, tmp_path):
    recipe, run = tmp_path / "own.toml", tmp_path / "run"
    recipe.write_text("[model]\nheads = 3\nembed_dim = 24\n[training]\ncaptions_per_picture = 2\n")
    words, at = list(SMALL_OPTIONS), SMALL_OPTIONS.index("--heads")
    del words[at : at + 2]
    words += ["--recipe", str(recipe), "--run", str(run), "--embed-dim", "15", "--paired-captions", "2"]
    code, _, err = dove("train", *words, "--max-steps", "1")
    assert code == 0, err
    settings = json.loads((run / "settings.json").read_text())
    assert (settings["model"]["heads"], settings["model"]["embed_dim"]) == (3, 15)
    assert settings["training"]["paired_captions"] == 2
    code, _, err = dove("train", "--resume", "--run", str(run), "--paired-captions", "2", "--max-steps", "2")
    assert code == 0, err
    code, _, err = dove("train", *words, "--paired-captions", "3")
    assert code == 2
    assert "--paired-captions 3 is more than --captions-per-picture 2" in err


@pytest.mark.parametrize("words", [["--epochs", "0"], ["--resume", "--epochs", "0"]])
def test_an_invalid_setting_is_an_error_with_and_without_a_run(words, at_home, tmp_path):
    code, _, err = dove("train", *SMALL_OPTIONS, "--max-steps", "1", "--run", str(tmp_path / "run"))
    assert code == 0, err
    code, _, err = dove("train", *words, "--run", str(tmp_path / "run"))
    assert code == 2
    assert "--epochs 0 is out of range" in err


def test_a_run_that_stops_within_an_epoch_shows_its_step(at_home, tmp_path):
    code, out, err = dove("train", *SMALL_OPTIONS, "--max-steps", "1", "--run", str(tmp_path / "run"))
    assert code == 0, err
    assert out == ""
    assert "stopped at step 1, within an epoch; use --resume --max-steps 0" in " ".join(err.split())


def test_two_processes_train_and_one_reports(at_home, tmp_path):
    command = [
        sys.executable, "-m", "dove_cli", "train", *SMALL_OPTIONS, "--gpus", "2", "--epochs", "2",
        "--run", str(tmp_path / "run"),
    ]  # fmt: skip
    root = str(Path(__file__).parents[2])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("training: 96 images") == 1
    assert done.stderr.count("training: loss") == 2
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [2, 4]  # 48 images: 32 and 16 in a step of two processes


def test_resume_starts_a_run_that_does_not_exist_and_continues_it_with_the_same_command(at_home, tmp_path):
    recipe = tmp_path / "own.toml"
    recipe.write_text("[training]\nepochs = 1\nlambda_g = 2.0\n")
    run = tmp_path / "run"
    words = ["train", *SMALL_OPTIONS, "--recipe", str(recipe), "--run", str(run), "--resume"]
    code, _, err = dove(*words, "--max-steps", "1")
    assert code == 0, err
    assert f"there is no run {run} to resume: starting it" in err
    code, _, err = dove(*words, "--max-steps", "2")
    assert code == 0, err
    assert "starting" not in err
    settings = json.loads((run / "settings.json").read_text())
    assert (settings["training"]["lambda_g"], settings["training"]["max_steps"]) == (2.0, 2)
    recipe.write_text("[training]\nlambda_g = 3.0\n")
    code, _, err = dove(*words)
    assert code == 2
    assert "--lambda-g 3.0: this run was started with 2.0" in err


def test_resume_of_nothing_needs_what_a_start_needs(empty):
    code, _, err = dove("train", "--resume", "--run", "new")
    assert code == 4
    assert "there is no run new to resume: starting it" in err
    assert "a train split is needed, and none was found" in err
