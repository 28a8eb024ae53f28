"""Where the words of a query attend on an image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dove_core.answers.explain import explain, highlight, share_above_uniform, write_explanations
from dove_core.config import EmbedConfig, QueryConfig, RankConfig
from dove_core.encoding.dove import read_checkpoint, save_checkpoint
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
        sharpness = embedder.encoder.model.guidance.log_sharpness.exp().detach()
        attention = (sharpness * captions.query[0] @ images.key[0].T).softmax(dim=-1)
        assert np.allclose(one.by_word.reshape(6, 4), attention, atol=1e-5)
        assert np.allclose(one.whole.reshape(4), captions.weight[0] @ attention, atol=1e-5)
        assert one.whole.sum() == pytest.approx(1, abs=1e-4)
        assert one.weights.sum() == pytest.approx(1, abs=1e-4)
        assert one.words == TEXT.split()


def test_the_scale_is_the_same_for_all_maps_and_a_uniform_map_is_dark():
    grey = Image.new("RGB", (200, 200), (200, 200, 200))

    def glow(attention: np.ndarray) -> np.ndarray:
        pixels = np.asarray(highlight(grey, attention)).astype(int)
        return pixels[..., 0] - pixels[..., 2]

    one_region = glow(np.array([[0.97, 0.01], [0.01, 0.01]]))
    assert one_region[20, 20] > 150 > 20 > one_region[180, 180]
    slight = glow(np.array([[0.27, 0.25], [0.24, 0.24]]))
    assert 0 < slight[20, 20] < 20
    assert glow(np.full((2, 2), 0.25)).max() == glow(np.zeros((2, 2))).max() == 0


def test_certainty_is_the_share_above_a_uniform_map():
    assert share_above_uniform(np.full((3, 3), 1 / 9)) == pytest.approx(0)
    assert share_above_uniform(np.zeros((3, 3))) == 0
    assert share_above_uniform(np.array([[0.5, 0.3], [0.1, 0.1]])) == pytest.approx(0.25 + 0.05)
    assert share_above_uniform(np.array([[1.0, 0], [0, 0]])) == pytest.approx(0.75)


def test_the_terms_of_words_and_image_add_up_to_the_score(searcher):
    hits = searcher.ask(TEXT, QueryConfig(top=3, rerank=3), RankConfig(rank_by="pair"))
    for one in explain(searcher, TEXT, hits):
        assert one.of_image + one.of_words.sum() == pytest.approx(one.hit.score, abs=1e-5)


def test_a_sheet_has_a_row_for_each_hit_and_the_command_writes_it(searcher, tmp_path):
    hits = searcher.ask(TEXT, QueryConfig(top=2))
    write_explanations(tmp_path / "two.png", TEXT, explain(searcher, TEXT, hits))
    with Image.open(tmp_path / "two.png") as sheet:
        assert sheet.width == 12 + 6 * 212
        two = sheet.height
    words = ("query", TEXT, "--index", str(searcher.index.folder), "--device", "cpu")
    code, _, err = dove(*words, "--explain", str(tmp_path / "deep" / "six.png"))
    assert code == 0, err
    assert "share of each map above a uniform map: " in err
    with Image.open(tmp_path / "deep" / "six.png") as sheet:
        assert sheet.height - two == 4 * (200 + 36 + 12)


def test_a_uniform_attention_is_said_to_show_nothing(trained, shapes, tmp_path):
    checkpoint = read_checkpoint(trained / "best")
    checkpoint.model.guidance.log_sharpness.data.fill_(-9)
    (tmp_path / "flat").mkdir()
    save_checkpoint(tmp_path / "flat", checkpoint)
    embed(tmp_path / "flat", shapes / "test", tmp_path / "index", EmbedConfig(), ALONE)
    words = ("query", TEXT, "--index", str(tmp_path / "index"), "--device", "cpu")
    code, _, err = dove(*words, "--explain", str(tmp_path / "six.png"))
    assert code == 0, err
    assert "nothing to see on hit 1, 2, 3, 4, 5, 6" in err


def test_a_query_without_words_cannot_be_explained(searcher, tmp_path):
    code, _, err = dove("query", "--like", "test_1", "--index", str(searcher.index.folder), "--explain", "x.png")
    assert code == 2
    assert "--explain" in err
    with pytest.raises(UsageError, match="has no words"):
        explain(searcher, "?!", searcher.ask(TEXT, QueryConfig(top=1)))
