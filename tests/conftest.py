"""Small real inputs, made once a session: images of coloured shapes, their shards, and a model trained on them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Before torch is loaded: threads that wait sleep. Where other programs run, a test takes a third of the time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch

from dove_core.config import ComputeConfig, ShardConfig, TrainConfig
from dove_core.data.sharding.shards import shard_captions
from dove_core.training.loop import train
from tests.made import SMALL, make_karpathy

os.environ.setdefault("NO_COLOR", "1")
torch.set_num_threads(2)
# Started in the background, we would inherit that Ctrl-C is ignored, and so would every process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ALONE = ComputeConfig(device="cpu", workers=0, amp=False)  # float32: the same on every processor


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 48 train, 12 val and 12 test images; two captions each; five shards of train."""
    folder = tmp_path_factory.mktemp("shapes")
    captions, images = make_karpathy(folder / "source", {"train": 48, "val": 12, "test": 12})
    shard_captions(captions, images, folder / "shards" / "shapes", ShardConfig(shard_size=10, workers=1))
    return folder / "shards" / "shapes"


@pytest.fixture(scope="session")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after two epochs on the shapes."""
    run = tmp_path_factory.mktemp("runs") / "shapes"
    training = TrainConfig(weights="none", epochs=2, batch_size=16, learning_rate=1e-3)
    train(shapes / "train", run, SMALL, training, ALONE, validation=shapes / "val")
    return run
