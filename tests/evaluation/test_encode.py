"""Encoding a split in one process and in several, with equal results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dove_core.config import EvalConfig, RankConfig, ShardConfig
from dove_core.data.reader import Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.errors import DataError, UsageError
from dove_core.evaluation.encode import encode_in_tasks, encode_split, shares_of
from dove_core.evaluation.evaluate import evaluate
from dove_core.evaluation.rows import score_rows
from dove_core.executors import Local
from dove_core.places import Folder
from tests.conftest import ALONE
from tests.made import COLOURS, draw_shape, make_karpathy


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Shards of 200 images: enough for three shares."""
    folder = tmp_path_factory.mktemp("many")
    captions, images = make_karpathy(folder / "source", {"test": 200})
    shard_captions(captions, images, folder / "shards", ShardConfig(shard_size=70, workers=1))
    return folder / "shards" / "test"


@pytest.mark.parametrize("pairwise", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_three_processes_give_the_results_of_one(trained, many, pairwise):
    settings = EvalConfig(batch_size=32, pairwise=pairwise)
    alone = evaluate(trained / "best", many, settings, RankConfig(), ALONE)
    shared = evaluate(trained / "best", many, dataclasses.replace(settings, gpus=3), RankConfig(), ALONE)
    assert shared.to_json() == alone.to_json()
    assert torch.equal(shared.encoded.images.embedding, alone.encoded.images.embedding)


def test_shares_end_between_batches_and_blocks_and_cover_all_images():
    for images, size, count in ((1094, 64, 3), (1094, 48, 2), (10, 64, 4), (129, 64, 2), (1000, 7, 8)):
        shares = shares_of(images, size, count)
        assert [start for _, start, _ in shares] == [0, *(stop for _, _, stop in shares[:-1])]
        assert shares[-1][2] == images
        assert all(start % size == start % 64 == 0 for _, start, _ in shares)
        assert len(shares) <= count
    assert len(shares_of(1094, 64, 3)) == 3


def test_more_processes_than_gpus_is_an_error_with_the_number_of_gpus(trained, shapes, monkeypatch):
    embedder = Embedder(load_encoder(trained / "best"), ALONE)
    embedder.device = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="--gpus 3: this machine has 2"):
        encode_in_tasks(
            Folder(trained / "best"), embedder, Shards(shapes / "val"), EvalConfig(gpus=3), ALONE, Local(), exact=True
        )


def test_embeddings_alone_give_the_same_global_row(trained, shapes):
    embedder, shards = Embedder(load_encoder(trained / "best"), ALONE), Shards(shapes / "train")
    lean, full = (encode_split(embedder, shards, batch_size=16, exact=exact) for exact in (False, True))
    assert [len(list(side)) for side in (lean.images, lean.captions)] == [1, 1]
    assert full.images.key.numel() > 0 < full.captions.query.numel()
    only = EvalConfig(pairwise=False, rerank=0)
    rows = score_rows(embedder, lean, only, RankConfig())
    assert list(rows) == ["global"]
    assert rows["global"] == score_rows(embedder, full, only, RankConfig())["global"]
    alone = evaluate(trained / "best", shapes / "train", only, RankConfig(), ALONE)
    assert len(list(alone.encoded.images)) == 1


def test_another_caption_field_can_be_chosen(trained, tmp_path):
    rows = ["filepath,title,text_remark"]
    for k, colour in enumerate(COLOURS):
        draw_shape(colour, "circle").save(tmp_path / f"{k}.jpg")
        rows.append(f"{k}.jpg,a {colour} circle,seen in {colour}")
    (tmp_path / "x_test.csv").write_text("\n".join(rows))
    shard_captions(tmp_path / "x_test.csv", tmp_path, tmp_path / "shards", ShardConfig(workers=1))
    shards = tmp_path / "shards" / "test"
    with pytest.raises(DataError, match="has no caption field"):
        evaluate(trained / "best", shards, EvalConfig(), RankConfig(), ALONE)
    for gpus in (1, 2):
        settings = EvalConfig(caption_field="text_remark", gpus=gpus)
        found = evaluate(trained / "best", shards, settings, RankConfig(), ALONE)
        assert sorted(found.encoded.caption_texts) == sorted(f"seen in {colour}" for colour in COLOURS)


def test_caption_texts_are_in_the_order_of_their_features(trained, shapes):
    embedder, shards = Embedder(load_encoder(trained / "best"), ALONE), Shards(shapes / "train")
    split = encode_split(embedder, shards, batch_size=16, exact=True)
    texts = [text for captions in shards.captions("caption") for text in captions]
    assert [split.caption_texts[k] for k in split.distinct] == texts
    again = embedder.describe_texts(list(split.caption_texts), exact=True)
    assert np.allclose(again.embedding, split.captions.embedding)
