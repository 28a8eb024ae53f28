"""Where the words of a query attend on an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dove_core.answers.explain import explain, highlight, write_explanations
from dove_core.config import EmbedConfig, QueryConfig
from dove_core.errors import UsageError
from dove_core.index.embed import embed
from dove_core.search.query import Searcher
from tests.cli.test_commands import dove
from tests.conftest import ALONE

TEXT = "a red circle on grey ground"


@pytest.fixture(scope="module")
def searcher(trained, shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "shapes"
    embed(trained / "best", shapes / "test", folder, EmbedConfig(), ALONE)
    return Searcher.open(folder, ALONE)


def test_attention_is_that_of_the_model(searcher):
    hits = searcher.ask(TEXT, QueryConfig(top=3))
    embedder, index = searcher.embedder, searcher.index
    for one in explain(searcher, TEXT, hits):
        images = embedder.describe_images([(index.image(one.hit.row), "x")])
        captions = embedder.describe_texts([TEXT], exact=True)
        attention = torch.einsum("htd,hrd->htr", captions.query[0], images.key[0]).softmax(dim=-1)
        assert np.allclose(one.by_word.reshape(6, 4), attention.mean(dim=0), atol=1e-5)
        pooled = torch.einsum("ht,htr->r", captions.weight[0], attention) / 4
        assert np.allclose(one.whole.reshape(4), pooled, atol=1e-5)
        assert one.whole.sum() == pytest.approx(1, abs=1e-4)
        assert one.weights.sum() == pytest.approx(1, abs=1e-4)
        assert one.words == TEXT.split()


def test_the_most_attended_place_is_the_brightest():
    attention = np.array([[0.7, 0.1], [0.1, 0.1]])
    pixels = np.asarray(highlight(Image.new("RGB", (200, 200), (200, 200, 200)), attention)).astype(int)
    red_over_blue = pixels[..., 0] - pixels[..., 2]
    assert red_over_blue[20, 20] > 100 > 20 > red_over_blue[180, 180]
    assert pixels[20, 20].sum() > pixels[180, 180].sum()
    flat = np.asarray(highlight(Image.new("RGB", (200, 200), (200, 200, 200)), np.full((2, 2), 0.25)))
    assert flat.std(axis=(0, 1)).max() == 0


def test_a_sheet_has_a_row_for_each_hit_and_the_command_writes_it(searcher, tmp_path):
    hits = searcher.ask(TEXT, QueryConfig(top=2))
    write_explanations(tmp_path / "two.png", TEXT, explain(searcher, TEXT, hits))
    with Image.open(tmp_path / "two.png") as sheet:
        assert sheet.width == 12 + 6 * 212
        two = sheet.height
    words = ("query", TEXT, "--index", str(searcher.index.folder), "--device", "cpu")
    code, _, err = dove(*words, "--explain", str(tmp_path / "deep" / "six.png"))
    assert code == 0, err
    with Image.open(tmp_path / "deep" / "six.png") as sheet:
        assert sheet.height - two == 4 * (200 + 36 + 12)


def test_a_query_without_words_cannot_be_explained(searcher, tmp_path):
    code, _, err = dove("query", "--like", "test_1", "--index", str(searcher.index.folder), "--explain", "x.png")
    assert code == 2
    assert "--explain" in err
    with pytest.raises(UsageError, match="has no words"):
        explain(searcher, "?!", searcher.ask(TEXT, QueryConfig(top=1)))
