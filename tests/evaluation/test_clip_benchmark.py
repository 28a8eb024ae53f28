"""A model of open_clip has the scores that clip-benchmark's own code gives it."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from dove_core.config import EvalConfig, QueryConfig, RankConfig, ShardConfig, ZeroShotConfig
from dove_core.data.reader import Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.load import load_encoder
from dove_core.errors import UsageError
from dove_core.evaluation.evaluate import evaluate
from dove_core.evaluation.zero_shot import classify_split
from dove_core.index.embed import embed
from dove_core.search.query import Searcher
from tests.cli.test_commands import dove
from tests.clip_models import make_clip
from tests.conftest import ALONE
from tests.evaluation.test_material import ROWS, a_set
from tests.made import COLOURS, SHAPES, draw_shape

WORDS = ("airport", "runway", "river", "field", "forest", "harbour", "ships", "houses", "near", "red", "large", "small")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its dependencies
    from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "model"
    return make_clip(folder), folder


def tokens_of(encoder):
    """Return the tokenizer as clip-benchmark calls it."""
    return lambda texts: torch.from_numpy(encoder.tokenizer.encode(texts))


def pixels_and_captions(shards: Shards, encoder, field: str):
    """Return the model's input of all images, and their captions."""
    records = [shards.read(number) for number in range(len(shards))]
    pixels = torch.stack([encoder.preprocess.fit(record.image, "x") for record in records])
    return encoder.preprocess.normalise(pixels), [list(record.sample.captions[field]) for record in records]


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Shards of 48 images of noise, whose embeddings differ by more than rounding; two captions each."""
    folder, random = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    images = []
    for k in range(48):
        side = int(random.choice([1, 2, 4, 8]))
        pixels = random.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(folder / f"{k}.png")
        sentences = [{"raw": " ".join(random.choice(WORDS, 4))} for _ in range(2)]
        images.append({"filename": f"{k}.png", "split": "test", "sentences": sentences})
    (folder / "noise.json").write_text(json.dumps({"images": images}))
    shard_captions(folder / "noise.json", folder, folder / "shards", ShardConfig(workers=1))
    return folder / "shards" / "test"


def test_retrieval_has_the_recall_of_clip_benchmark(clip, noise):
    model, folder = clip
    encoder, shards = load_encoder(folder), Shards(noise)
    pixels, captions = pixels_and_captions(shards, encoder, "caption")
    theirs = zeroshot_retrieval.evaluate(
        model, [(pixels[k : k + 16], captions[k : k + 16]) for k in range(0, 48, 16)],
        tokens_of(encoder), "cpu", amp=False, recall_k_list=[1, 5, 10],
    )  # fmt: skip
    found = evaluate(folder, noise, EvalConfig(caption_field="caption", protocol="captions-5"), compute=ALONE)
    assert set(found.rows) == {"global"}
    scores = found.rows["global"]
    assert scores.text_to_image == pytest.approx(
        {k: 100 * theirs[f"image_retrieval_recall@{k}"] for k in (1, 5, 10)}, abs=1e-5
    )
    assert scores.image_to_text == pytest.approx(
        {k: 100 * theirs[f"text_retrieval_recall@{k}"] for k in (1, 5, 10)}, abs=1e-5
    )


def test_zero_shot_classification_has_the_accuracy_of_clip_benchmark(clip, tmp_path):
    model, folder = clip
    rows = ["filepath,label"]
    for k in range(48):
        draw_shape(COLOURS[k % 6], SHAPES[k % 4], shift=k // 6).save(tmp_path / f"{k}.jpg")
        rows.append(f"{k}.jpg,{COLOURS[k % 6]}")
    (tmp_path / "colours_test.csv").write_text("\n".join(rows))
    shard_captions(tmp_path / "colours_test.csv", tmp_path, tmp_path / "shards", ShardConfig(workers=1))
    encoder, templates = load_encoder(folder), ["a {c} shape", "an aerial photo of {c}."]
    settings = ZeroShotConfig(label_field="label", templates="|".join(templates))
    found = classify_split(folder, tmp_path / "shards" / "test", settings, compute=ALONE)
    pixels, labels = pixels_and_captions(Shards(tmp_path / "shards" / "test"), encoder, "label")
    target = torch.tensor([found.classes.index(own[0]) for own in labels])
    tokens = tokens_of(encoder)
    classifier = zeroshot_classification.zero_shot_classifier(
        model, tokens, list(found.classes), templates, "cpu", amp=False
    )
    logits, _ = zeroshot_classification.run_classification(model, classifier, [(pixels, target)], "cpu", amp=False)
    best = logits.topk(5, dim=1).indices == target[:, None]  # their function fails with numpy 2.4
    top_1, top_5 = best[:, :1].any(dim=1).double().mean(), best.any(dim=1).double().mean()
    assert set(found.rows) == {"global"}
    assert found.rows["global"].top_1 == pytest.approx(100 * float(top_1), abs=1e-9)
    assert found.rows["global"].top_5 == pytest.approx(100 * float(top_5), abs=1e-9)


def test_reranking_a_clip_is_an_error_that_says_so(clip, shapes, tmp_path):
    embed(clip[1], shapes / "test", tmp_path / "index", compute=ALONE)
    searcher = Searcher.open(tmp_path / "index")
    with pytest.raises(UsageError, match="no pairwise scores"):
        searcher.ask("a red circle", QueryConfig(rerank=5), RankConfig())


def test_eval_with_a_clip_has_the_global_row_and_refuses_to_rerank(clip, noise):
    words = [
        "eval",
        "--checkpoint",
        str(clip[1]),
        "--shards",
        str(noise),
        "--caption-field",
        "caption",
        "--device",
        "cpu",
    ]
    code, out, _ = dove(*words, "--json")
    assert code == 0
    assert set(json.loads(out)["metrics"]) == {"global"}
    for option in (["--rerank", "5"], ["--pairwise"]):
        code, out, err = dove(*words, *option)
        assert (code, out) == (2, "")
        assert f"{option[0]}: {clip[1]} has no pairwise scores" in err.replace("\n", " ")
    assert dove(*words, "--rerank", "0", "--json")[0] == 0


def test_both_protocols_and_a_suite_have_the_global_row_alone(clip, noise, tmp_path):
    for protocol in ("captions-5", "unique-text"):
        settings = EvalConfig(caption_field="caption", protocol=protocol)
        assert set(evaluate(clip[1], noise, settings, compute=ALONE).rows) == {"global"}
    a_set(tmp_path, "aid", ROWS)
    titles = [(path, f"a {label} circle") for path, label in ROWS]
    a_set(tmp_path, "RSICD", titles, names="", header="filepath,title", table="RSICD_test.csv")
    words = ["eval", "--checkpoint", str(clip[1]), "--suite", str(tmp_path), "--device", "cpu", "--workers", "0"]
    code, out, err = dove(*words, "--json")
    assert code == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["dataset"] for one in found[:2]] == ["aid", "RSICD"]
    assert all(set(one["metrics"]) == {"global"} for one in found)
