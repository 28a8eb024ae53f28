"""The text side in numpy returns the results of the trained model, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from dove_core.config import ModelConfig
from dove_core.encoding.dove import build, save_checkpoint
from dove_core.encoding.dove_text import DoveText
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError
from dove_core.model.tokenizer import Tokenizer, split_words
from tests.conftest import ALONE

TEXTS = ("a red circle on grey ground", "one", "There is one square, and it is blue.", "...", "red " * 40)


@pytest.fixture(scope="module", params=["small", "full"])
def checkpoint(request, trained, tmp_path_factory):
    if request.param == "small":
        return trained / "best"
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("full")
    words = Tokenizer(sorted({word for text in TEXTS for word in split_words(text)}), 40)
    save_checkpoint(folder, build(ModelConfig(backbone="resnet18", embed_dim=512), words))
    return folder


def test_captions_have_the_vectors_of_the_trained_model(checkpoint):
    plain, embedder = DoveText.open(checkpoint), Embedder(load_encoder(checkpoint), ALONE)
    for text in TEXTS:
        ours, theirs = plain.describe(text), embedder.describe_texts([text], exact=True)
        assert np.abs(ours.embedding - theirs.embedding[0].numpy()).max() < 1e-6, text
        assert np.abs(ours.pooled - theirs.pooled[0].numpy()).max() < 1e-5
        assert np.abs(ours.query - theirs.query[0].numpy()).max() < 1e-5
        assert np.abs(ours.weight - theirs.weight[0].numpy()).max() < 1e-6
        assert ours.embedding.dtype == np.float32


def test_pairs_have_the_scores_of_the_trained_model(checkpoint):
    plain, embedder = DoveText.open(checkpoint), Embedder(load_encoder(checkpoint), ALONE)
    model, size = embedder.encoder.model, embedder.encoder.checkpoint.config.image_size
    pixels = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        images, regions = model.encode_regions(pixels)
        assert all(torch.equal(a, b) for a, b in zip(images, model.encode_images(pixels), strict=True))
        assert torch.equal(images.embedding, embedder.encoder.encode_images(pixels))
    for text in TEXTS:
        theirs = embedder.score_pairs(images, embedder.describe_texts([text], exact=True))[:, 0].numpy()
        ours = plain.score(text, regions.numpy(), images.fused.numpy())
        assert np.abs(ours - theirs).max() < 1e-5, text
        if split_words(text):
            found = plain.attention(text, regions.numpy(), images.fused.numpy())
            assert np.abs(found.parts.by_word.sum(axis=1) + found.parts.image - ours).max() < 1e-6


def test_saving_the_text_side_leaves_out_all_other_weights(trained, tmp_path):
    load_encoder(trained / "best").save_text_side(tmp_path)
    whole, part = DoveText.open(trained / "best"), DoveText.open(tmp_path)
    assert np.array_equal(whole.encode("a red circle"), part.encode("a red circle"))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path, trained / "best")]
    assert sizes[0] < sizes[1] / 100


def test_a_checkpoint_of_an_earlier_roam_is_refused_with_a_hint(trained, tmp_path):
    shutil.copytree(trained / "best", tmp_path / "old")
    values = json.loads((tmp_path / "old" / "model.json").read_text())
    (tmp_path / "old" / "model.json").write_text(json.dumps(values | {"format": 1}))
    for load in (load_encoder, DoveText.open):
        with pytest.raises(CheckpointError, match="format 1: a model with the ROAM of an earlier version") as caught:
            load(tmp_path / "old")
        assert "dove train" in caught.value.hint


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "vocabulary.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_missing_or_damaged_file_is_named(trained, tmp_path, name, damage):
    load_encoder(trained / "best").save_text_side(tmp_path)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        DoveText.open(tmp_path)


def test_no_torch_is_imported(trained):
    code = (
        "import sys\nfrom pathlib import Path\nfrom dove_core.encoding.dove_text import DoveText\n"
        "DoveText.open(Path(sys.argv[1])).encode('a red circle')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(trained / "best")]).returncode == 0
