"""`Hits`: a sequence with everything that can be made of hits."""

from __future__ import annotations

import base64
import io
import json
import re

import geopandas
import numpy as np
import pytest
from PIL import Image

from dove_core.answers.geo import write_geojson
from dove_core.answers.hits import Hits
from dove_core.answers.sheet import write_sheet
from dove_core.search.query import Searcher
from dove_core.search.question import Question
from tests.answers.test_geo import PARIS, SUVA, TAVEUNI, all_of, place_index

NONE = slice(0, 0)


@pytest.fixture
def index(tmp_path):
    return place_index(tmp_path / "index", [PARIS, SUVA, None, TAVEUNI])


@pytest.fixture
def hits(index):
    return Hits(all_of(index), Searcher(index), Question("a <red> circle"), ["words that the model has not learned: x"])


def test_hits_are_a_sequence_and_a_slice_has_the_same_methods(hits, index):
    assert list(hits) == all_of(index)
    assert (len(hits), hits[0].rank, hits[-1].rank) == (4, 1, 4)
    assert hits[0] in hits
    part = hits[1:3]
    assert isinstance(part, Hits)
    assert [hit.rank for hit in part] == [2, 3]
    assert repr(part) == "<2 hits for 'a <red> circle'; words that the model has not learned: x>"
    with pytest.raises(IndexError):
        hits[4]


def test_a_table_has_a_row_for_each_hit_with_its_metadata(hits):
    table = hits.to_pandas()
    assert table.columns.tolist() == [
        "rank", "score", "key", "caption", "lon", "lat", "west", "south", "east", "north", "time", "source", "gsd",
        "tags", "shard",
    ]  # fmt: skip
    assert table["rank"].tolist() == [1, 2, 3, 4]
    for hit, (_, line) in zip(hits, table.iterrows(), strict=True):
        assert (line["key"], line["caption"], line["shard"]) == (hit.row.key, hit.row.caption, hit.row.shard)
        assert line["score"] == pytest.approx(hit.score)
        assert line["tags"] == hit.row.tags
        if hit.row.box:
            assert tuple(line[["west", "south", "east", "north"]]) == hit.row.box
            assert tuple(line[["lon", "lat"]]) == pytest.approx(hit.row.place)
    assert table.loc[1, ["time", "source", "gsd"]].tolist() == ["2020-07-03T10:20", "S2", 10.0]
    assert table.loc[2, ["lon", "lat", "west", "time", "source", "gsd"]].isna().all()


def test_geojson_is_what_the_file_has_and_geopandas_reads_it(hits, tmp_path):
    found = hits.to_geojson()
    write_geojson(tmp_path / "x.geojson", hits)
    assert json.loads(json.dumps(found)) == json.loads((tmp_path / "x.geojson").read_text())
    assert geopandas.GeoDataFrame.from_features(found)["rank"].tolist() == [1, 2, 4]


def test_images_are_those_of_the_hits(hits, index):
    for hit, image in zip(hits, hits.images(), strict=True):
        assert image.mode == "RGB"
        assert np.array_equal(image, Image.open(io.BytesIO(index.image(hit.row))))


def test_files_are_written_to_paths_given_as_text(hits, index, tmp_path):
    folder = str(tmp_path / "new")
    hits.sheet(f"{folder}/sheet.png", columns=2)
    write_sheet(tmp_path / "same.png", "a <red> circle", list(hits), index, columns=2)
    assert (tmp_path / "new/sheet.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    hits.page(f"{folder}/page.html")
    assert "a &lt;red&gt; circle" in (tmp_path / "new/page.html").read_text()
    assert hits.to_geoparquet(f"{folder}/x.parquet") == 3
    assert [path.name for path in hits.copy_images(f"{folder}/copies")] == [f"00{k}_a{k - 1}.jpg" for k in range(1, 5)]


def test_a_notebook_shows_images_and_captions_and_loads_no_other_file(hits):
    shown = hits._repr_html_()
    sources = re.findall(r'src="([^"]*)"', shown)
    assert len(sources) == 4
    for source in sources:
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))
        assert image.size == (48, 48)
    for text in ("a &lt;red&gt; circle", "a green &lt;shape&gt;, &amp; more", "0.490", "has not learned: x"):
        assert text in shown
    assert "http" not in shown


def test_a_notebook_shows_the_first_of_many_hits(index):
    many = Hits(all_of(index) * 10, Searcher(index), Question("x"))
    shown = many._repr_html_()
    assert shown.count("<img") == 24
    assert "the first 24 of 40 hits" in shown


def test_a_notebook_shows_hits_whose_images_are_missing(hits, index):
    (index.shards.path / "00000.tar").unlink()
    shown = hits._repr_html_()
    assert "<img" not in shown
    assert "a green &lt;shape&gt;" in shown
    assert "no images: " in shown


def test_without_hits_everything_still_works(hits, tmp_path):
    none = hits[NONE]
    assert (len(none), list(none), none.images()) == (0, [], [])
    assert repr(none).startswith("<0 hits for")
    assert none.to_pandas().columns.tolist() == hits.to_pandas().columns.tolist()
    assert none.to_pandas().dtypes["lon"] == "float64"
    assert none.to_geojson() == {"type": "FeatureCollection", "features": []}
    assert "no hits" in none._repr_html_()
    none.sheet(tmp_path / "sheet.png")
    none.page(tmp_path / "page.html")
    none.explain(tmp_path / "explained.png")
    assert none.to_geoparquet(tmp_path / "x.parquet") == 0
    assert none.copy_images(tmp_path / "copies") == []
    assert {path.name for path in tmp_path.iterdir()} > {"sheet.png", "page.html", "explained.png", "x.parquet"}
