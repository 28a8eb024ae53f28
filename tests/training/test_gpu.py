"""What only a GPU can show; `python -m benchmarks.on_gpu` runs these tests first."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from dove_core.config import ComputeConfig, ModelConfig, TrainConfig
from dove_core.data.reader import Shards
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.training.loop import resume, train
from tests.conftest import ALONE
from tests.made import SMALL

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
GPU = ComputeConfig(device="cuda", workers=2)
TRAINING = TrainConfig(weights="none", epochs=3, batch_size=16, learning_rate=1e-3)


@pytest.mark.parametrize("decode", ["cpu", "gpu"])
@pytest.mark.parametrize("compiled", ["off", "on"])
def test_the_loss_falls_and_the_checkpoint_is_the_same_on_a_cpu(shapes, tmp_path, decode, compiled):
    compute = dataclasses.replace(GPU, decode=decode, compile=compiled)
    train(shapes / "train", tmp_path / "run", SMALL, TRAINING, compute, validation=shapes / "val")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    found = []
    for own in (GPU, ALONE):
        embedder = Embedder(load_encoder(tmp_path / "run" / "last"), dataclasses.replace(own, amp=False))
        batches = list(embedder.embed_shards(Shards(shapes / "test"), batch_size=4))
        found.append(torch.cat([features.embedding.cpu() for _, features in batches]))
    assert (found[0] * found[1]).sum(dim=1).min() > 0.999


def test_a_resumed_run_on_a_gpu_continues(shapes, tmp_path):
    short = dataclasses.replace(TRAINING, max_steps=4)
    train(shapes / "train", tmp_path / "run", SMALL, short, GPU)
    result = resume(tmp_path / "run", GPU, changes={"max_steps": 6})
    assert result is not None
    assert result.steps == 6


def test_a_clip_is_trained_further_in_bf16(shapes, tmp_path):
    pytest.importorskip("open_clip")
    from tests.clip_models import make_clip

    make_clip(tmp_path / "clip")
    training = TrainConfig(epochs=3, batch_size=16, learning_rate=1e-3)
    train(shapes / "train", tmp_path / "run", ModelConfig(), training, GPU, start=tmp_path / "clip")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_pair_scores_equal_those_of_a_cpu(trained, shapes):
    scores = []
    for own in (GPU, ALONE):
        embedder = Embedder(load_encoder(trained / "best"), dataclasses.replace(own, amp=False))
        images = embedder.describe_images([(Shards(shapes / "test").read(k).image, str(k)) for k in range(6)])
        scores.append(
            embedder.score_pairs(images, embedder.describe_texts(["a red circle", "two squares"], exact=True))
        )
    assert torch.allclose(scores[0], scores[1], atol=1e-3)
