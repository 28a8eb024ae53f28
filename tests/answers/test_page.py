"""The HTML page of hits: self-contained, complete, and interactive in a real browser."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from dove_core.answers.map import NARROW, WIDE, markers_of, view_of
from dove_core.answers.page import write_page
from dove_core.errors import SearchIndexError
from dove_core.search.query import Hit
from tests.answers.test_geo import PARIS, SUVA, TAVEUNI, all_of, place_index
from tests.evaluation.test_report import Page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome")
NEAR_PARIS = (2.36, 48.86, 2.37, 48.87)
WELLINGTON = (174.7, -41.3, 174.8, -41.2)
SANTIAGO = (-70.7, -33.5, -70.6, -33.4)


def browse(path, *, script="", width=1200):
    """Open a page, run a script in it that gives a value, and return the value and what the console said."""
    text = path.read_text().replace("</body>", f"<script>{{const value=(()=>{{{script}}})();"
                                               "document.title=JSON.stringify(value)}</script></body>")  # fmt: skip
    probed = path.with_name(f"probed-{path.name}")
    probed.write_text(text)
    done = subprocess.run(
        [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
            f"--user-data-dir={path.parent / 'profile'}", f"--window-size={width},1600", probed.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(title[1]), said


@pytest.fixture
def paris(tmp_path):
    return place_index(tmp_path / "paris", [PARIS, NEAR_PARIS, None, PARIS])


def test_a_page_shows_the_metadata_of_every_hit_and_loads_no_other_file(paris, tmp_path):
    write_page(tmp_path / "page.html", "harbours <script>", all_of(paris), paris)
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert "<h1>harbours &lt;script&gt;</h1>" in text
    assert "4 of the 4 images in the index paris, best first; the locations of 3 are known." in page.text
    for hit in all_of(paris):
        card = page.text[page.text.index(f"{hit.score:.3f}") :]
        assert hit.row.caption in card
        assert hit.row.key in card
    for known in ("2020-07-03 10:20", "S2, 10 m per pixel", "48.8600° N, 2.3500° E", "<b>é"):
        assert known in page.text
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == 4
    for source, hit in zip(sources, all_of(paris), strict=True):
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        shown = np.array(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        assert np.abs(shown - np.array(Image.open(io.BytesIO(paris.image(hit.row))))).mean() < 8
    outside = re.findall(r"(?:src|href)=\"(?!data:|#)([^\"]*)", text)
    assert outside[0] == "https://www.openstreetmap.org/?mlat=48.86000&amp;mlon=2.35000#map=15/48.86000/2.35000"
    assert len(outside) == 3
    assert all(address.startswith("https://www.openstreetmap.org/?") for address in outside)
    assert not re.search(r"url\(|@import|<script src|<link", text)
    assert "default-src 'none'" in text


def test_every_link_within_the_page_has_a_target(paris, tmp_path):
    write_page(tmp_path / "page.html", "x", all_of(paris), paris)
    page = Page((tmp_path / "page.html").read_text())
    names = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(names) == len(set(names))
    aims = {attrs["href"][1:] for _, attrs in page.tags if attrs.get("href", "").startswith("#")}
    assert {"hit-1", "hit-2", "place-1", "place-2", "place-4", "land"} <= aims <= set(names)


def test_without_any_place_there_is_no_map(tmp_path):
    index = place_index(tmp_path / "nowhere", [None, None])
    write_page(tmp_path / "page.html", "x", all_of(index), index)
    text = (tmp_path / "page.html").read_text()
    assert "best first; no location is known." in text
    assert "<svg" not in text
    assert "openstreetmap" not in text
    write_page(tmp_path / "page.html", "x", [], index)
    assert "Nothing was found among the 2 images in the index nowhere." in (tmp_path / "page.html").read_text()


def test_large_images_are_reduced(tmp_path):
    index = place_index(tmp_path / "large", [None])
    data = io.BytesIO()
    Image.effect_noise((1200, 600), 90).convert("RGB").save(data, "PNG")
    (index.shards.path / "00000.tar").write_bytes(data.getvalue())
    row = dataclasses.replace(index.rows([0])[0], size=len(data.getvalue()))
    write_page(tmp_path / "page.html", "x", [Hit(1, 0.5, row)], index)
    found = re.search(r"data:image/jpeg;base64,([^\"]+)", (tmp_path / "page.html").read_text())
    assert Image.open(io.BytesIO(base64.b64decode(found[1]))).size == (400, 200)


def test_changed_images_are_named(paris, tmp_path):
    tar = paris.shards.path / "00000.tar"
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(SearchIndexError, match="does not hold the image a0"):
        write_page(tmp_path / "page.html", "x", all_of(paris), paris)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("boxes", "least", "most"),
    [
        ([PARIS] * 3, 0.02, 0.1),
        ([PARIS, NEAR_PARIS], 0.03, 0.2),
        ([SUVA, TAVEUNI], 1.8, 5),
        ([WELLINGTON, SANTIAGO], 115, 200),
        ([PARIS, SUVA, SANTIAGO], 360, 360),
        ([(10.0, 89.5, 11.0, 90.0)], 1, 360),
        ([(-180.0, -90.0, 180.0, 90.0)], 360, 360),
    ],
)
def test_the_map_shows_all_footprints_with_a_small_margin(tmp_path, boxes, least, most):
    hits = all_of(place_index(tmp_path / "index", boxes))
    view = view_of(hits)
    assert least <= view.east - view.west <= most
    assert -90 <= view.south < view.north <= 90
    assert 1.5 <= view.aspect <= 3
    for hit in hits:
        spot = view.spot(hit)
        assert 0 <= spot.x <= 100
        assert 0 <= spot.y <= 100
        frames = spot.frames
        if not view.is_world:
            (frame,) = frames
            assert frame.x >= 0
            assert frame.x + frame.width <= 100
            assert frame.x + frame.width / 2 == pytest.approx(spot.x, abs=1e-6)
            assert frame.y + frame.height / 2 == pytest.approx(spot.y, abs=1e-6)
    assert 2 <= len(view.meridians()) <= 9
    assert all(0 <= line.at <= 100 for line in [*view.meridians(), *view.parallels()])


def test_the_graticule_is_labelled_across_the_antimeridian(tmp_path):
    view = view_of(all_of(place_index(tmp_path / "index", [WELLINGTON, SANTIAGO])))
    labels = [line.label for line in view.meridians()]
    assert {"180°", "150° W", "120° W"} <= set(labels)
    assert labels.index("180°") < labels.index("150° W") < labels.index("120° W")
    assert "30° S" in [line.label for line in view.parallels()]


@pytest.mark.parametrize(
    ("more", "west"),
    [(None, -180), (TAVEUNI, -170), ((-175.5, -21.5, -175.0, -21.0), -30), ((-180.0, -80.0, 180.0, -79.0), -180)],
)
def test_a_world_map_is_cut_where_no_footprint_is(tmp_path, more, west):
    boxes = [PARIS, SANTIAGO, (151.0, -34.0, 151.1, -33.9), *([more] if more else [])]
    view = view_of(all_of(place_index(tmp_path / "index", boxes)))
    assert (view.west, view.east) == (west, west + 360)
    for box in boxes[:3]:
        (frame,) = view.frames(box)
        assert 1.5 < frame.x < 98.5


def test_a_footprint_across_the_antimeridian_is_drawn_at_both_edges_of_a_world_map(tmp_path):
    view = view_of(all_of(place_index(tmp_path / "index", [(-180.0, -90.0, 180.0, 90.0), TAVEUNI])))
    assert view.is_world
    left, right = view.frames(TAVEUNI)
    assert left.x < 0 < left.x + left.width
    assert right.x < 100 < right.x + right.width


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_hit_has_one_marker_and_markers_do_not_cover_each_other(tmp_path, width):
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 0.3, size=(60, 2))
    hits = all_of(place_index(tmp_path / "index", [(10 + x, 50 + y, 10.01 + x, 50.01 + y) for x, y in corners]))
    view = view_of(hits)
    markers = markers_of([view.spot(hit) for hit in hits], view, width)
    assert sorted(rank for marker in markers for rank in marker.ranks) == list(range(1, 61))
    for marker in markers:
        assert marker.ranks == sorted(marker.ranks)
        for other in markers:
            across, along = abs(marker.x - other.x) * width / 100, abs(marker.y - other.y) * width / 100 / view.aspect
            assert marker is other or max(across, along) > 14
    assert view.spot(hits[0]).x == markers[0].x


def test_markers_have_the_number_of_their_hits(paris):
    hits = all_of(paris)
    view = view_of(hits)
    markers = markers_of([view.spot(hit) for hit in hits if hit.row.place], view, WIDE)
    assert [(marker.label, marker.ranks) for marker in markers] == [("1 +1", [1, 4]), ("2", [2])]


@in_a_browser
def test_a_marker_and_the_cards_of_its_images_are_highlighted_together(paris, tmp_path):
    write_page(tmp_path / "page.html", "x", all_of(paris), paris)
    lit = "[...document.querySelectorAll('.card.lit')].map(card => card.id)"
    enter, leave = (f"dispatchEvent(new PointerEvent('pointer{way}'))" for way in ("enter", "leave"))
    script = f"""
      const marker = document.querySelector(".wide .marker[href='#hit-1']"), card = document.querySelector('#hit-2');
      const found = [{lit}];
      marker.{enter}; found.push({lit}); marker.{leave}; found.push({lit});
      card.{enter}; found.push([...document.querySelectorAll('.map .lit')].map(part => part.dataset.hits));
      card.{leave};
      marker.dispatchEvent(new MouseEvent('click', {{bubbles: true}})); found.push({lit});
      return found;"""
    found, said = browse(tmp_path / "page.html", script=script)
    assert found == [[], ["hit-1", "hit-4"], [], ["2", "2", "2"], ["hit-1", "hit-4"]]
    assert said == []


@in_a_browser
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_everything_within_the_window_and_loads_no_other_file(tmp_path, width):
    index = place_index(tmp_path / "world", [PARIS, SUVA, TAVEUNI, SANTIAGO, None])
    long = [dataclasses.replace(hit, row=dataclasses.replace(hit.row, key="k" * 95)) for hit in all_of(index)]
    write_page(tmp_path / "page.html", "x" * 90, long, index)
    script = """
      const map = document.querySelector('.map > svg').getBoundingClientRect();
      const within = box => box.left >= map.left && box.right <= map.right
        && box.top >= map.top && box.bottom <= map.bottom;
      const isShown = name => getComputedStyle(document.querySelector('g.' + name)).display !== 'none';
      return {
        over: document.documentElement.scrollWidth - innerWidth,
        loaded: performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith('data:')).length,
        images: [...document.images].filter(image => image.complete && image.naturalWidth === 48).length,
        dots: [...document.querySelectorAll('.dot')].map(dot => within(dot.getBoundingClientRect())),
        shown: ['wide', 'narrow'].filter(isShown),
        shape: map.width / map.height,
      };"""
    found, said = browse(tmp_path / "page.html", script=script, width=width)
    assert found["over"] <= 0
    assert found["loaded"] == 0
    assert found["images"] == 5
    assert found["dots"] == [True] * 4
    assert found["shown"] == (["wide"] if width == 1200 else ["narrow"])
    assert found["shape"] == pytest.approx(view_of(long).aspect, rel=0.02)
    assert said == []


@in_a_browser
def test_a_browser_draws_a_footprint_where_it_is(tmp_path):
    index = place_index(tmp_path / "paris", [PARIS])
    write_page(tmp_path / "page.html", "x", all_of(index), index)
    script = """
      const of = name => document.querySelector(name).getBoundingClientRect();
      const map = of('.map > svg'), box = of('.footprint');
      return [(box.left - map.left) / map.width, (box.right - map.left) / map.width,
              (box.top - map.top) / map.height, (box.bottom - map.top) / map.height];"""
    found, _ = browse(tmp_path / "page.html", script=script)
    view = view_of(all_of(index))
    west, south, east, north = PARIS
    across, along = view.east - view.west, view.north - view.south
    expected = [(west - view.west) / across, (east - view.west) / across,
                (view.north - north) / along, (view.north - south) / along]  # fmt: skip
    assert found == pytest.approx(expected, abs=0.004)
