"""Comparison of two evaluations, and their provenance."""

from __future__ import annotations

import json
import shutil

import pytest

from dove_core.config import EvalConfig, RankConfig, ShardConfig
from dove_core.data.reader import Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.errors import DataError
from dove_core.evaluation.compare import compare
from dove_core.evaluation.evaluate import evaluate
from dove_core.evaluation.provenance import seen_in_training
from dove_core.places import Folder
from tests.conftest import ALONE
from tests.made import make_karpathy


def write(path, recall, width=None, **more):
    metrics = {"mean_recall": recall}
    if width is not None:
        metrics |= {"mean_recall_low": recall - width, "mean_recall_high": recall + width}
    path.write_text(json.dumps({"task": "retrieval", "dataset": "rsicd", "metrics": {"global": metrics}, **more}))
    return path


@pytest.mark.parametrize(("second", "beyond"), [(11.0, False), (12.0, True), (8.9, False), (8.0, True)])
def test_a_difference_exceeds_chance_if_it_exceeds_both_intervals_together(tmp_path, second, beyond):
    a, b = write(tmp_path / "a.json", 10.0, 0.9), write(tmp_path / "b.json", second, 0.9)  # together 1.27
    compared = compare(a, b)
    (found,) = compared.differences
    assert (found.row, found.first, found.second, found.beyond) == ("global", 10.0, second, beyond)
    assert found.difference == pytest.approx(second - 10)
    assert compared.unlike == []
    assert compared.metric == "mean_recall"


def test_without_intervals_chance_is_unknown_and_different_settings_are_named(tmp_path):
    a, b = write(tmp_path / "a.json", 10.0, 0.9), write(tmp_path / "b.json", 12.0, protocol="unique-text")
    compared = compare(a, b)
    assert compared.differences[0].beyond is None
    assert compared.unlike == ["protocol"]


def classified(path, accuracy, images=400, **more):
    metrics = {"acc1": accuracy, "acc5": 90.0}
    content = {"task": "zeroshot_classification", "pictures": images, "metrics": {"global": metrics}, **more}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("second", "beyond"), [(56.0, False), (58.0, True)])
def test_classification_is_compared_by_accuracy_with_an_interval_by_the_number_of_images(tmp_path, second, beyond):
    a, b = classified(tmp_path / "a.json", 50.0), classified(tmp_path / "b.json", second)  # 4.9 each, 6.9 together
    compared = compare(a, b)
    assert compared.metric == "acc1"
    assert compared.differences[0].beyond is beyond


def test_different_tasks_are_not_compared(tmp_path):
    with pytest.raises(DataError, match=r"a\.json has the task retrieval, .*b\.json the task zeroshot_classification"):
        compare(write(tmp_path / "a.json", 10.0), classified(tmp_path / "b.json", 50.0))


@pytest.mark.parametrize("text", ["{}", "[]", '{"metrics": {"global": {}}}', "no json", '{"metrics": 3}'])
def test_a_file_that_is_not_an_evaluation_is_an_error(tmp_path, text):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(DataError, match=r"b\.json") as caught:
        compare(write(tmp_path / "a.json", 10.0), tmp_path / "b.json")
    assert "dove eval --json" in caught.value.hint


def test_an_evaluation_records_its_provenance(trained, shapes):
    found = evaluate(trained / "best", shapes / "val", EvalConfig(), RankConfig(), ALONE, command="dove eval").to_json()
    assert found["data"] == Shards(shapes / "val").manifest.fingerprint
    assert found["command"] == "dove eval"
    assert {"python", "torch", "numpy"} <= set(found["versions"])
    assert found["seen"] == "chosen on"


def test_images_of_training_and_validation_are_recognised(trained, shapes, tmp_path):
    assert seen_in_training(Folder(trained / "last"), Shards(shapes / "train")) == "trained on"
    assert seen_in_training(Folder(trained / "best"), Shards(shapes / "val")) == "chosen on"
    assert seen_in_training(Folder(trained / "last"), Shards(shapes / "val")) == ""
    assert seen_in_training(Folder(trained / "best"), Shards(shapes / "test")) == ""
    shutil.copytree(trained / "best", tmp_path / "best")
    assert seen_in_training(Folder(tmp_path / "best"), Shards(shapes / "train")) == "unknown"


def test_images_are_recognised_in_other_shards_and_through_links(trained, shapes, tmp_path, monkeypatch):
    captions, images = make_karpathy(tmp_path / "source", {"train": 48, "val": 12, "test": 3})
    content = json.loads(captions.read_text())
    for image in content["images"]:
        image["split"] = {"train": "test", "val": "val", "test": "train"}[image["split"]]
    captions.write_text(json.dumps(content))
    shard_captions(captions, images, tmp_path / "other", ShardConfig(shard_size=7, workers=1))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(trained / "best")
    assert seen_in_training(Folder(tmp_path / "link"), Shards(tmp_path / "other" / "test")) == "trained on"
    assert seen_in_training(Folder(tmp_path / "link"), Shards(tmp_path / "other" / "val")) == "chosen on"
    assert seen_in_training(Folder(tmp_path / "link"), Shards(tmp_path / "other" / "train")) == ""
