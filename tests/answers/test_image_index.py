"""`open_index`: keyword arguments and natural types stand for the same settings as on the command line."""

from __future__ import annotations

import dataclasses
import inspect
import io

import numpy as np
import pytest
from PIL import Image

import dove_core as dove
from dove_core.config import EmbedConfig, FilterConfig, QueryConfig, RankConfig
from dove_core.errors import UsageError
from dove_core.events import Noted
from tests.conftest import ALONE

NOT_SETTINGS = {"self", "text", "texts", "image", "like", "unlike", "marks", "report"}


@pytest.fixture(scope="module")
def index(trained, shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "shapes"
    dove.embed(trained / "best", shapes, folder, EmbedConfig(), ALONE)
    return dove.open_index(folder, compute=ALONE)


@pytest.fixture(scope="module")
def places(trained, tmp_path_factory):
    """An index of drawn scenes, which have locations, times, sources and tags."""
    folder = tmp_path_factory.mktemp("places")
    dove.draw_release(folder / "release", workers=1, counts={"train": 40})
    dove.shard_release(folder / "release", folder / "shards", dove.ShardConfig(workers=1))
    dove.embed(trained / "best", folder / "shards", folder / "index", EmbedConfig(), ALONE)
    return dove.open_index(folder / "index", compute=ALONE)


def keys(hits):
    return [hit.row.key for hit in hits]


@pytest.mark.parametrize("name", ["search", "search_all"])
def test_each_argument_is_a_setting_and_has_its_default(name):
    arguments = inspect.signature(getattr(dove.ImageIndex, name)).parameters
    settings = {
        field.name: field.default
        for kind in (QueryConfig, RankConfig, FilterConfig)
        for field in dataclasses.fields(kind)
    }
    assert set(arguments) - NOT_SETTINGS == set(settings)
    for setting, default in settings.items():
        assert arguments[setting].default == (default or None if hasattr(FilterConfig, setting) else default)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"top": 4},
        {"rerank": 8},
        {"rerank": 8, "rank_by": "pair"},
        {"dedup": True},
        {"min_score": 0.2},
        {"exact": True},
    ],
)
def test_a_search_finds_what_the_searcher_finds_with_the_same_settings(index, settings):
    ranking = RankConfig(settings["rank_by"]) if "rank_by" in settings else RankConfig()
    query = QueryConfig(**{name: value for name, value in settings.items() if name != "rank_by"})
    expected = index.searcher.ask("a red circle", query, ranking)
    assert list(index.search("a red circle", **settings)) == expected
    (hits,) = index.search_all(["a red circle"], **settings)
    assert list(hits) == expected


def test_values_of_filters_are_given_as_natural_types_or_as_the_text_of_an_option(places):
    rows = places.rows()
    box, place = rows[0].box, rows[0].place
    sources = sorted({row.source for row in rows if row.source})[:2]
    tags = [f"{name}={value}" for name, value in next(row.tags for row in rows if row.tags).items()][:2]
    box, place = tuple(np.float32(box)), np.array(place[::-1])
    for natural, texts in (
        ({"bbox": box}, {"bbox": ",".join(f"{degrees:.9g}" for degrees in box)}),
        ({"near": place, "within": "900km"}, {"near": f"{place[0]:.17g},{place[1]:.17g}", "within": "900km"}),
        ({"source": sources}, {"source": ",".join(sources)}),
        ({"source": sources[0]}, {"source": sources[0]}),
        ({"tag": tags}, {"tag": ",".join(tags)}),
        ({"datetime": "2019/.."}, {"datetime": "2019/.."}),
        ({"max_gsd": 0.5}, {"max_gsd": 0.5}),
    ):
        expected = places.searcher.ask("a lake", QueryConfig(top=100), filters=FilterConfig(**texts))
        assert 0 < len(expected) < len(places), texts
        assert list(places.search("a lake", top=100, **natural)) == expected
        (hits,) = places.search_all(["a lake"], top=100, **natural)
        assert list(hits) == expected


def test_an_empty_list_does_not_switch_a_filter_off(index):
    for name in ("bbox", "near", "source", "tag"):
        with pytest.raises(ValueError, match="empty list"):
            index.search("a red circle", **{name: []})


def test_an_image_is_given_as_a_path_as_bytes_or_as_an_image(index, tmp_path):
    row = index.rows([30])[0]
    (image,) = index.search(like=row.key, top=1).images()
    image.save(tmp_path / "mine.png")
    data = (tmp_path / "mine.png").read_bytes()
    for given in (tmp_path / "mine.png", str(tmp_path / "mine.png"), data, Image.open(io.BytesIO(data))):
        hits = index.search(image=given, top=3)
        assert hits[0].row.key == row.key
        assert hits[0].score == pytest.approx(1, abs=1e-2)
    assert index.search("a circle", image=tmp_path / "mine.png").question.title == "a circle, like mine.png"
    with pytest.raises(UsageError, match=r"none\.png cannot be read"):
        index.search(image=tmp_path / "none.png")


def test_one_key_or_several_are_examples(index):
    one, other = (row.key for row in index.rows([4, 9]))
    assert keys(index.search(like=one)) == keys(index.search(like=[one]))
    assert keys(index.search(like=[one], unlike=other)) == keys(index.search(like=one, unlike=(other,)))
    with pytest.raises(UsageError, match="the query has no words"):
        index.search()


def test_unknown_words_are_notes_of_the_hits(index):
    hits = index.search("a red zeppelin", top=2)
    assert hits.notes == ("words that the model has not learned: zeppelin",)
    assert hits[:1].notes == hits.notes
    assert index.search("a red circle").notes == ()


def test_several_texts_are_answered_in_their_order(index):
    events = []
    found = list(index.search_all(["a red circle", "xyzzy", "a blue square"], top=3, report=events.append))
    assert [hits.question.text for hits in found] == ["a red circle", "xyzzy", "a blue square"]
    assert [len(hits) for hits in found] == [3, 0, 3]
    assert keys(found[2]) == keys(index.search("a blue square", top=3))
    (event,) = events
    assert isinstance(event, Noted)
    assert "xyzzy" in event.message


def test_hits_explain_themselves(index, tmp_path):
    hits = index.search("a red circle on grey ground", top=2)
    hits.explain(tmp_path / "explained.png")
    with Image.open(tmp_path / "explained.png") as drawn:
        assert drawn.height > 2 * 200
    with pytest.raises(UsageError, match="no words"):
        index.search(like=hits[0].row.key).explain(tmp_path / "x.png")


def test_a_moved_model_and_moved_shards_can_be_given(index, trained, shapes):
    moved = dove.open_index(index.name, checkpoint=trained / "best", shards=shapes, compute=ALONE)
    assert (len(moved), moved.name) == (72, index.name)
    assert moved.search("a red circle", top=1).images()[0].size == (48, 48)
    assert moved.embedder.encoder.dim == 32
