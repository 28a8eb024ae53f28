"""Retrieval scores of a checkpoint on a split, in three rows."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from dove_core.config import EvalConfig, RankConfig
from dove_core.data.reader import Shards
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError, DataError
from dove_core.evaluation.encode import encode_split
from dove_core.evaluation.evaluate import evaluate
from dove_core.evaluation.retrieval import recall
from dove_core.evaluation.rows import score_rows
from tests.conftest import ALONE


@pytest.fixture(scope="module")
def embedder(trained):
    return Embedder(load_encoder(trained / "best"), ALONE)


@pytest.fixture(scope="module")
def encoded(embedder, shapes):
    return encode_split(embedder, Shards(shapes / "train"), batch_size=7, exact=True)


@pytest.mark.parametrize("rank_by", ["pair", "sum"])
def test_reranking_pair_by_pair_equals_reranking_by_the_matrix_of_all_pairs(embedder, encoded, rank_by):
    settings, rank = EvalConfig(rerank=5), RankConfig(rank_by=rank_by)
    with_matrix = score_rows(embedder, encoded, settings, rank)
    alone = score_rows(embedder, encoded, dataclasses.replace(settings, pairwise=False), rank)
    assert set(with_matrix) == {"global", "reranked", "pairwise"}
    assert set(alone) == {"global", "reranked"}
    assert alone["reranked"].to_json() == pytest.approx(with_matrix["reranked"].to_json())


def test_reranking_all_equals_the_pairwise_row_and_reranking_one_the_global_row(embedder, encoded):
    rows = score_rows(embedder, encoded, EvalConfig(rerank=10**6), RankConfig())
    assert rows["reranked"].to_json() == rows["pairwise"].to_json()
    rows = score_rows(embedder, encoded, EvalConfig(rerank=1), RankConfig())
    assert rows["reranked"].text_to_image[1] == rows["global"].text_to_image[1]


def test_distinct_captions_are_encoded_once_and_counted_for_each_image(embedder, encoded, shapes):
    shards = Shards(shapes / "train")
    texts = [text for captions in shards.captions("caption") for text in captions]
    assert len(encoded.owners) == len(texts) == 96
    assert len(encoded.captions.embedding) == len(set(texts)) < 96
    assert encoded.owners.tolist() == [n for n in range(48) for _ in range(2)]
    whole = (encoded.images.embedding @ embedder.embed_texts(texts).T).numpy()
    row = score_rows(embedder, encoded, EvalConfig(pairwise=False), RankConfig())["global"]
    assert row.mean_recall == pytest.approx(recall(np.round(whole, 5), encoded.owners).mean_recall, abs=1.5)


def test_batch_size_and_workers_do_not_change_the_result(trained, shapes):
    found = [
        evaluate(trained / "best", shapes / "val", EvalConfig(batch_size=size), RankConfig(), compute).to_json()
        for size, compute in ((64, ALONE), (5, dataclasses.replace(ALONE, workers=2)))
    ]
    assert found[0] == found[1]


def test_the_json_has_the_facts_of_the_measurement(trained, shapes):
    found = evaluate(trained / "best", shapes / "val", EvalConfig(), RankConfig(), ALONE).to_json()
    assert found["dataset"] == "shapes"
    assert found["split"] == "val"
    assert found["pictures"] == 12
    assert found["captions"] == 24
    assert found["model"] == load_encoder(trained / "best").fingerprint
    assert set(found["metrics"]) == {"global", "reranked", "pairwise"}


def test_shards_without_the_models_caption_field_are_an_error(embedder, shapes, tmp_path):
    empty = shutil.copytree(shapes / "val", tmp_path / "val")
    manifest = (empty / "manifest.json").read_text()
    fields = '"caption_fields": [\n  "caption"\n ]'
    assert fields in manifest
    (empty / "manifest.json").write_text(manifest.replace(fields, '"caption_fields": ["a", "b"]'))
    with pytest.raises(DataError, match="has no caption field 'title_multi_objects'") as caught:
        encode_split(embedder, Shards(empty), batch_size=8, exact=True)
    assert "it has a, b" in caught.value.hint


def test_a_diverged_model_is_an_error_and_not_a_perfect_score(trained, shapes):
    encoder = load_encoder(trained / "best")
    with torch.no_grad():
        encoder.model.multiscale.out.weight.fill_(float("nan"))
    broken = Embedder(encoder, ALONE)
    split = encode_split(broken, Shards(shapes / "val"), batch_size=8, exact=True)
    with pytest.raises(CheckpointError, match="not finite"):
        score_rows(broken, split, EvalConfig(), RankConfig())
