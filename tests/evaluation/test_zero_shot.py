"""Zero-shot classification with a trained checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dove_core.config import RankConfig, ShardConfig, ZeroShotConfig
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.errors import DataError, UsageError
from dove_core.evaluation.zero_shot import classify_split
from tests.cli.test_commands import dove
from tests.conftest import ALONE
from tests.made import COLOURS, draw_shape

WORDS = ZeroShotConfig(label_field="label", templates="a {c} circle on grey ground|one {c} circle")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 18 circles, labelled by colour."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = ["filepath,label"]
    for k in range(18):
        draw_shape(COLOURS[k % 6], "circle", shift=k // 6).save(folder / f"{k}.jpg")
        rows.append(f"{k}.jpg,{COLOURS[k % 6]}")
    (folder / "colours_test.csv").write_text("\n".join(rows))
    shard_captions(folder / "colours_test.csv", folder, folder / "shards", ShardConfig(workers=1))
    return folder / "shards" / "test"


def test_each_image_gets_the_class_with_the_best_prompts(trained, labelled):
    found = classify_split(trained / "best", labelled, WORDS, RankConfig(rank_by="pair"), ALONE, batch_size=5)
    assert found.classes == tuple(sorted(COLOURS))
    embedder = Embedder(load_encoder(trained / "best"), ALONE)
    hits = {"global": 0, "pairwise": 0}
    for k in range(18):
        features = embedder.describe_images([((labelled.parents[1] / f"{k}.jpg").read_bytes(), "x")])
        scores: dict[str, list[float]] = {"global": [], "pairwise": []}
        for name in found.classes:
            captions = embedder.describe_texts([t.replace("{c}", name) for t in WORDS.templates.split("|")], exact=True)
            mean = torch.nn.functional.normalize(captions.embedding.mean(dim=0), dim=0)
            scores["global"].append(float(features.embedding[0] @ mean))
            scores["pairwise"].append(float(embedder.score_pairs(features, captions).mean()))
        for row, values in scores.items():
            hits[row] += found.classes[int(np.argmax(values))] == COLOURS[k % 6]
    assert {row: scores.top_1 for row, scores in found.rows.items()} == pytest.approx(
        {row: 100 * count / 18 for row, count in hits.items()}
    )


def test_rank_by_does_not_change_the_global_row_and_templates_are_recorded(trained, labelled):
    pair, both = (
        classify_split(trained / "best", labelled, WORDS, RankConfig(rank_by=way), ALONE) for way in ("pair", "sum")
    )
    assert np.array_equal(pair.rows["global"].confusion, both.rows["global"].confusion)
    other = ZeroShotConfig(label_field="label", templates="There is one stripe, and it is {c}.")
    changed = classify_split(trained / "best", labelled, other, RankConfig(), ALONE)
    assert changed.templates != both.templates


def test_missing_labels_and_templates_without_a_class_are_errors(trained, labelled, shapes):
    with pytest.raises(DataError, match="no labels in the field 'label'") as caught:
        classify_split(trained / "best", shapes / "val", WORDS, RankConfig(), ALONE)
    assert "fields with captions: caption" in caught.value.hint
    nothing = ZeroShotConfig(label_field="label", templates="a photo|{c}")
    with pytest.raises(UsageError, match="--templates: 'a photo' has no"):
        classify_split(trained / "best", labelled, nothing, RankConfig(), ALONE)


def test_the_command_shows_classes_and_writes_the_names_of_clip_benchmark(trained, labelled):
    words = ("eval", "--checkpoint", str(trained / "best"), "--shards", str(labelled), "--label-field", "label")
    words += ("--device", "cpu", "--workers", "0")
    code, out, err = dove(*words)
    assert code == 0, err
    assert "18 images, 6 classes" in out
    assert all(colour in out for colour in COLOURS)
    code, out, _ = dove(*words, "--json")
    found = json.loads(out)
    assert found["task"] == "zeroshot_classification"
    assert set(found["metrics"]["pairwise"]) == {"acc1", "acc5", "mean_per_class_recall"}
    assert np.array(found["confusion"]["global"]).sum() == 18
