"""The HTML page: self-contained, with the figures of the result."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from dove_core.config import EvalConfig, RankConfig
from dove_core.data.reader import Shards
from dove_core.evaluation.evaluate import evaluate
from dove_core.evaluation.report import section_of, write_report
from tests.cli.test_commands import dove
from tests.conftest import ALONE
from tests.evaluation.test_material import ROWS, a_set


class Page(HTMLParser):
    """Collects tags and text, and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def measured(trained, shapes):
    return evaluate(trained / "best", shapes / "train", EvalConfig(), RankConfig(), ALONE, command="dove <eval>")


def test_a_retrieval_page_has_rows_curves_and_queries_and_loads_no_files(measured, shapes, tmp_path):
    write_report(tmp_path / "page.html", [section_of(measured, Shards(shapes / "train"))])
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    for row, scores in measured.rows.items():
        assert f"{scores.mean_recall:.2f}" in page.text, row
        assert f"{scores.mean_recall_random_ties:.2f}" in page.text, row
    assert "ATTENTION: THIS CHECKPOINT WAS TRAINED ON THESE IMAGES." in page.text
    assert "dove <eval>" in page.text  # escaped
    assert sum(tag == "polyline" for tag, _ in page.tags) == 6
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert 32 <= len(sources) <= 48
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (48, 48)
    assert not re.search(r"(?:src|href)=\"(?!data:)|url\(|@import|<script", text)


def test_the_page_shows_the_queries_with_the_best_and_the_worst_ranks(measured, shapes):
    section = section_of(measured, Shards(shapes / "train"))
    last = measured.ranked["pairwise"]
    ranks = [query["rank"] for query in section.images]
    assert ranks[:8] == sorted(last.ranks.image_ranks)[:8]
    assert ranks[8:] == sorted(last.ranks.image_ranks)[:-9:-1]
    texts = [query["text"] for query in section.texts]
    assert len(set(texts)) == len(texts) == 16
    worst = [query["rank"] for query in section.texts[8:]]
    assert worst == sorted(worst, reverse=True)
    assert worst[-1] > section.texts[7]["rank"]
    for query in section.images:
        assert query["is_own"] == (query["first"] in query["own"])
        assert query["rank"] > 1 or query["is_own"]
    for query in section.texts:
        assert query["rank"] > 1 or query["first"] is None  # the best hit is its own image


def test_curves_have_the_recall_of_the_table(measured, shapes):
    section = section_of(measured, Shards(shapes / "train"))
    for row, scores in measured.rows.items():
        for direction in ("image_to_text", "text_to_image"):
            curve = section.curves[row][direction]
            assert len(curve) == 100
            assert [curve[k - 1] for k in (1, 5, 10)] == pytest.approx(list(getattr(scores, direction).values()))


def test_a_classification_page_has_the_confusion_matrix(trained, tmp_path):
    path = a_set(tmp_path, "aid", ROWS, names="red\ngreen\nblue\n<b>\n")
    words = ("eval", "--checkpoint", str(trained / "best"), "--images", str(path), "--device", "cpu", "--workers", "0")
    code, _, err = dove(*words, "--report", str(tmp_path / "deep" / "page.html"))
    assert code == 0, err
    assert "saved" in err
    page = Page((tmp_path / "deep" / "page.html").read_text())
    cells = [attrs for tag, attrs in page.tags if tag == "td" and " classified as " in attrs.get("title", "")]
    assert len(cells) == 16
    assert "<b> · " not in page.text  # a class without images has no share
    assert "<b>" in page.text
