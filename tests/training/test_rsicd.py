"""Training from scratch on small images of a part of RSICD."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from dove_core.config import EvalConfig, ModelConfig, RankConfig, ShardConfig, TrainConfig
from dove_core.data.sharding.shards import shard_captions
from dove_core.evaluation.evaluate import evaluate
from dove_core.training.loop import train
from tests.conftest import ALONE

RSICD = Path(os.environ.get("DOVE_RSICD", "/nonexistent"))
MODEL = ModelConfig(backbone="resnet18", image_size=48, embed_dim=128, region_grid=4, caption_field="caption")
TRAINING = TrainConfig(
    weights="none", epochs=5, batch_size=64, objective="infonce", lambda_g=1.0, learning_rate=5e-4, seed=1
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RSICD.is_dir(), reason="DOVE_RSICD names a folder with dataset_rsicd.json and its images"),
]


def take_part(folder: Path, counts: dict[str, int], *, mixed: bool) -> Path:
    """Write the JSON of a part of RSICD; `mixed` gives the training images each other's captions."""
    content = json.loads((RSICD / "dataset_rsicd.json").read_text())
    chance, images = random.Random(3), []
    for split, count in counts.items():
        images += chance.sample([image for image in content["images"] if image["split"] == split], count)
    if mixed:
        train_images = [image for image in images if image["split"] == "train"]
        sentences = [image["sentences"] for image in train_images]
        chance.shuffle(sentences)
        for image, others in zip(train_images, sentences, strict=True):
            image["sentences"] = others
    folder.mkdir()
    (folder / "dataset_part.json").write_text(json.dumps({"images": images, "dataset": "part"}))
    return folder / "dataset_part.json"


@pytest.mark.parametrize("mixed", [False, True])
def test_a_part_of_rsicd_is_learned_unless_its_captions_are_mixed(tmp_path, mixed):
    captions = take_part(tmp_path / "source", {"train": 2000, "val": 300}, mixed=mixed)
    shard_captions(captions, RSICD / "RSICD_images.zip", tmp_path / "shards", ShardConfig(verify="header"))
    train(tmp_path / "shards" / "train", tmp_path / "run", MODEL, TRAINING, ALONE)
    found = evaluate(tmp_path / "run" / "last", tmp_path / "shards" / "val", EvalConfig(), RankConfig(), ALONE)
    chance = 100 * (1 + 5 + 10) / 300 / 3
    for name, scores in found.rows.items():
        if mixed:
            assert scores.mean_recall < 2 * chance, name
        else:
            assert scores.mean_recall > 4 * chance, name
