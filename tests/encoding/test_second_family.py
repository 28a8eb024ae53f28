"""A model family of another package works with every command, without changes to the library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dove_core.config import EmbedConfig, EvalConfig, QueryConfig, RankConfig, VerifyConfig, ZeroShotConfig
from dove_core.encoding.load import load_encoder, load_text_side
from dove_core.errors import CheckpointError, UsageError
from dove_core.evaluation.evaluate import evaluate
from dove_core.evaluation.material import sharded
from dove_core.evaluation.zero_shot import classify_split
from dove_core.index.embed import embed
from dove_core.index.verify import verify_index
from dove_core.search.query import Searcher
from dove_core.search.question import Question
from tests import tiny_family
from tests.cli.test_commands import dove
from tests.conftest import ALONE
from tests.made import COLOURS, draw_shape


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    tiny_family.install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{Path(__file__).parents[2]}")
    tiny_family.make_checkpoint(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def index(tiny, shapes, tmp_path):
    return embed(tiny, shapes / "test", tmp_path / "index", EmbedConfig(), ALONE)


def make_classes(folder):
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for kind in ("circle", "square", "triangle"):
            draw_shape(colour, kind).save(folder / colour / f"{kind}.jpg")
    return folder


def test_it_is_loaded_by_its_name(tiny):
    encoder = load_encoder(tiny)
    assert (encoder.family, encoder.dim, len(encoder.fingerprint)) == ("tiny", 8, 16)
    texts = ["a red circle", "one blue square"]
    expected = np.stack([load_text_side(tiny).encode(text) for text in texts])
    assert torch.equal(encoder.encode_texts(texts), torch.from_numpy(expected))


def test_its_index_holds_its_vectors_and_finds_images(index, tiny):
    assert index.fingerprint == load_encoder(tiny).fingerprint
    searcher = Searcher.open(index.folder, ALONE)
    hits = searcher.ask("a red circle", QueryConfig(top=4), RankConfig())
    scores = index.vectors.astype(np.float32) @ load_text_side(tiny).encode("a red circle")
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores.tolist(), reverse=True)[:4])
    own = hits[0].row
    assert searcher.answer(Question(image=(index.image(own), "x")), QueryConfig(top=1), RankConfig())[0].score > 0.999
    assert verify_index(index.folder, ALONE, VerifyConfig(sample=100)) == (12, [])


def test_several_processes_make_the_same_parts(index, tiny, shapes, tmp_path):
    other = embed(tiny, shapes / "test", tmp_path / "other", EmbedConfig(gpus=2), ALONE)
    for path in sorted(index.folder.glob("part-*.parquet")):
        assert path.read_bytes() == (other.folder / path.name).read_bytes()


@pytest.mark.parametrize("gpus", [1, 2])
def test_it_is_evaluated_with_the_row_global_only(tiny, shapes, gpus):
    found = evaluate(tiny, shapes / "val", EvalConfig(gpus=gpus, caption_field="caption"), RankConfig(), ALONE)
    assert list(found.rows) == ["global"]
    assert found.to_json()["model"] == load_encoder(tiny).fingerprint


def test_images_of_one_batch_are_encoded_here_with_all_threads(tiny, shapes):
    threads = torch.get_num_threads()
    assert threads > 1
    evaluate(tiny, shapes / "val", EvalConfig(gpus=2, caption_field="caption"), RankConfig(), ALONE)
    assert torch.get_num_threads() == threads


def test_it_classifies_images(tiny, tmp_path):
    with sharded(make_classes(tmp_path / "classes")) as material:
        found = classify_split(tiny, material.shards, ZeroShotConfig(label_field="label"), RankConfig(), ALONE)
    assert list(found.rows) == ["global"]
    assert found.images == 3 * len(COLOURS)


def test_a_missing_feature_is_an_error_that_names_it(index, tiny, shapes, tmp_path):
    searcher = Searcher.open(index.folder, ALONE)
    with pytest.raises(UsageError, match="family 'tiny' has no pairwise scores"):
        searcher.ask("red", QueryConfig(rerank=5), RankConfig())
    with pytest.raises(UsageError, match="family 'tiny' cannot show where an image fits a text"):
        searcher.attention("red", [])
    with pytest.raises(UsageError, match="--regions: a model of the family 'tiny' has no regions"):
        embed(tiny, shapes / "test", tmp_path / "regions", EmbedConfig(regions=True), ALONE)


def test_the_commands_work_with_it(tiny, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = ("--device", "cpu", "--workers", "0")
    code, _, err = dove("embed", "--checkpoint", str(tiny), "--shards", str(shapes / "test"), "--out", "small", *shared)
    assert code == 0, err
    code, out, err = dove("query", "a red circle", "--top", "3", "--json")
    assert code == 0, err
    assert len(out.splitlines()) == 3
    assert dove("index", "verify", "--device", "cpu")[0] == 0
    code, out, err = dove("eval", "--checkpoint", str(tiny), "--shards", str(shapes / "val"), "--json", *shared)
    assert code == 0, err
    assert list(json.loads(out)["metrics"]) == ["global"]
    code, _, err = dove("query", "a red circle", "--rerank", "5", "--device", "cpu")
    assert (code, "no pairwise scores" in err) == (2, True)


def test_a_family_that_is_not_installed_is_named(shapes, tmp_path, trained):
    tiny_family.make_checkpoint(tmp_path / "tiny")
    with pytest.raises(CheckpointError, match="the model family 'tiny' is not installed") as caught:
        load_encoder(tmp_path / "tiny")
    assert "installed: clip, dove" in caught.value.hint
    moved = shutil.copytree(trained / "best", tmp_path / "best")
    (moved / "model.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load_encoder(moved)
