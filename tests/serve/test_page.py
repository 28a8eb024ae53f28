"""The page in Chromium: what a person does on it. No request leaves the machine, and the console stays empty."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import geopandas
import httpx
import pytest

from tests.made import draw_shape
from tests.serve.conftest import make_index, served

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")

SOFTWARE = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--ignore-gpu-blocklist"]
"""WebGL without a graphics card."""

REFUSED = "status of 400"
CARDS = "els => els.map(el => el.dataset.id)"


@pytest.fixture(scope="module")
def pages(trained: Path, indexed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of an index with places and one of 130 images without."""
    folder = tmp_path_factory.mktemp("pages")
    make_index(folder / "index" / "places", trained / "best")
    make_index(folder / "index" / "bare", trained / "best", count=130, bare=True)
    with served(folder, "index/places", "index/bare") as process:
        yield process


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=SOFTWARE)
        yield browser
        browser.close()


Visit = Callable[..., Any]


@pytest.fixture
def visit(pages: Any, chromium: Any) -> Iterator[Visit]:
    """Open an address of the page, and wait for what it shows; see at the end that nothing went wrong."""
    contexts, asked, said = list[Any](), list[str](), list[str]()
    allowed, answered = list[str](), list[Any]()

    def visit(
        address: str = "map",
        *,
        width: int = 1280,
        height: int = 800,
        fails: str = "",
        server: Any = pages,
        **options: Any,
    ) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(120_000)
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        context.on("console", lambda message: said.append(message.text))
        context.on("weberror", lambda error: said.append(str(error.error)))
        context.on("requestfinished", lambda request: answered.append(request))
        context.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
        if fails:
            allowed.extend(fails.split("|"))
        page = context.new_page()
        page.goto(f"{server.url}/{address}")
        page.wait_for_selector(".card, .error, .headline .link")
        return page

    visit.answered = answered  # type: ignore[attr-defined]
    yield visit
    for context in contexts:
        context.close()
    hosts = {urlsplit(url).hostname for url in asked if urlsplit(url).scheme not in ("blob", "data")}
    assert hosts <= {"127.0.0.1"}
    assert [text for text in said if not any(one in text for one in allowed)] == []


def keys_of(page: Any) -> list[str]:
    return [one.partition("/")[2] for one in page.eval_on_selector_all(".card", CARDS)]


def until(page: Any, expression: str, arg: Any = None) -> None:
    """Wait until an expression is true; `wait_for_function` needs `unsafe-eval`, which the page forbids."""
    for _ in range(1200):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(100)
    raise TimeoutError(expression)


def settled(page: Any) -> Any:
    """Wait until a search is shown."""
    until(page, "!document.body.hasAttribute('aria-busy')")
    return page


def mapped(page: Any) -> Any:
    """Wait until the map shows the hits."""
    page.wait_for_selector("#map[data-ready]")
    until(page, "document.querySelector('#map').hitMap && !document.body.hasAttribute('aria-busy')")
    page.wait_for_timeout(800)  # the map moves for so long
    return page


def on_screen(page: Any, longitude: float, latitude: float) -> tuple[float, float]:
    """Return where a place is in the window, in pixels."""
    x, y = page.evaluate(
        "place => { const at = document.querySelector('#map').hitMap.project(place); return [at.x, at.y] }",
        [longitude, latitude],
    )
    frame = page.locator("#map").bounding_box()
    return frame["x"] + x, frame["y"] + y


def search_of(pages: Any, **parameters: Any) -> list[str]:
    found = httpx.get(f"{pages.url}/search", params={"limit": 60, **parameters}, timeout=60).json()
    return [item["id"] for item in found["features"]]


def of_address(page: Any, name: str) -> list[str]:
    return parse_qs(urlsplit(page.url).query).get(name, [])


def test_words_lead_to_a_grid_in_the_order_of_the_api(visit, pages):
    page = visit("map?collections=places")
    assert len(keys_of(page)) == 24
    page.fill("#words", "a red circle")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#headline').textContent === 'a red circle'")
    assert keys_of(page) == search_of(pages, q="a red circle", collections="places")
    assert of_address(page, "q") == ["a red circle"]
    assert page.title() == "a red circle – dove"
    card = page.locator(".card").first
    assert card.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") == 48
    assert "<img src=x" in card.locator(".caption").inner_text()


def test_more_and_less_like_a_hit_change_the_search(visit, pages):
    page = visit("map?collections=places&q=a+red+circle")
    first, second = keys_of(page)[:2]
    page.hover(".card >> nth=0")
    page.click(".card >> nth=0 >> [title='More like this']")
    page.wait_for_selector(".example.like")
    settled(page)
    assert keys_of(page) == search_of(pages, q="a red circle", like=first, collections="places")
    page.locator(
        f".card:has([aria-label^='{keys_of(page).index(second) + 1}. ']) >> [title='Less like this']"
    ).first.evaluate("el => el.click()")
    page.wait_for_selector(".example.unlike")
    settled(page)
    assert of_address(page, "like") == [first]
    assert of_address(page, "unlike") == [second]
    page.click(".example.like .clear")
    page.wait_for_selector(".example.like", state="detached")
    assert of_address(page, "like") == []


def test_a_box_that_is_drawn_is_searched(visit, pages):
    page = mapped(visit("map?collections=places&bbox=0,45,10,55"))
    page.click("summary:has-text('Area')")
    page.click("text=Box")
    corners = [on_screen(page, x, y) for x, y in [(1, 50), (4, 47)]]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=5)
    page.mouse.up()
    until(page, "!location.search.includes('bbox=0%2C45')")
    west, south, east, north = map(float, of_address(page, "bbox")[0].split(","))
    assert (west, south, east, north) == pytest.approx((1, 47, 4, 50), abs=0.1)
    assert sorted(keys_of(settled(page))) == sorted(search_of(pages, collections="places", bbox="1,47,4,50"))
    page.click("[aria-label='Remove the filter Area']")
    until(page, "document.querySelectorAll('.card').length === 24")


def test_a_polygon_that_is_drawn_is_searched(visit, pages):
    page = mapped(visit("map?collections=places&bbox=0,45,10,55"))
    page.click("summary:has-text('Area')")
    page.click("text=Polygon")
    for x, y in [(1, 47), (4, 47), (2.5, 51), (1, 47)]:
        page.mouse.click(*on_screen(page, x, y))
    until(page, "location.search.includes('intersects')")
    polygon = json.loads(of_address(page, "intersects")[0])
    assert [len(ring) for ring in polygon["coordinates"]] == [4]
    assert sorted(keys_of(settled(page))) == sorted(
        search_of(pages, collections="places", intersects=json.dumps(polygon))
    )
    assert "plain" in keys_of(page)


def test_escape_gives_up_a_drawing(visit):
    page = mapped(visit("map?collections=places"))
    page.click("summary:has-text('Area')")
    page.click("text=Polygon")
    page.wait_for_selector("body[data-drawing]")
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not([data-drawing])")
    assert len(keys_of(page)) == 24


def test_filters_by_date_source_resolution_and_tag_narrow_the_search(visit, pages):
    page = visit("map?collections=places&q=circle")
    page.click("summary:has-text('Dates')")
    page.fill("label:has-text('From') input", "2020-01-01")
    page.locator("label:has-text('From') input").blur()
    page.wait_for_selector(".pill.on:has-text('Dates: 2020-01-01')")
    assert keys_of(settled(page)) == search_of(
        pages, q="circle", collections="places", datetime="2020-01-01T00:00:00Z/.."
    )
    page.click("[aria-label='Remove the filter Dates']")
    page.wait_for_selector(".pill.on", state="detached")
    page.click("summary:has-text('Source')")
    page.click("label.check:has-text('CH')")
    page.wait_for_selector(".pill.on:has-text('Source: CH')")
    assert keys_of(settled(page)) == search_of(pages, q="circle", collections="places", source="CH")
    page.click("[aria-label='Remove the filter Source']")
    page.wait_for_selector(".pill.on", state="detached")
    page.click("summary:has-text('Resolution')")
    page.fill("label:has-text('Metres') input", "1")
    page.locator("label:has-text('Metres') input").blur()
    page.wait_for_selector(".pill.on:has-text('≤ 1 m')")
    assert keys_of(settled(page)) == search_of(pages, q="circle", collections="places", max_gsd="1")
    page.click("[aria-label='Remove the filter Resolution']")
    page.wait_for_selector(".pill.on", state="detached")
    page.click("summary:has-text('Tags')")
    page.click(".chip:has-text('highway=motorway')")
    page.wait_for_selector(".pill.on:has-text('highway=motorway')")
    assert keys_of(settled(page)) == search_of(pages, q="circle", collections="places", tag="highway=motorway")


def test_months_are_chosen_by_a_slider_with_the_keyboard(visit, pages):
    page = visit("map?collections=places&q=circle")
    page.click("summary:has-text('Dates')")
    early, late = page.get_by_label("Earliest month"), page.get_by_label("Latest month")
    assert [one.get_attribute("aria-valuetext") for one in (early, late)] == ["2019-01", "2021-01"]
    early.focus()
    for _ in range(13):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(".pill.on:has-text('Dates: 2020-02-01')")
    expected = search_of(pages, q="circle", collections="places", datetime="2020-02-01T00:00:00Z/..")
    assert keys_of(settled(page)) == expected
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Earliest month"
    late.focus()
    page.keyboard.press("Home")  # not before the earliest
    page.wait_for_selector(".pill.on:has-text('2020-02-01 – 2020-02-29')")
    assert settled(page).locator("#headline").inner_text() == "No image fits"
    assert page.input_value("label:has-text('To') input") == "2020-02-29"


def test_grid_and_map_light_and_choose_each_other(visit):
    page = mapped(visit("map?collections=places&q=circle&bbox=0,45,10,55"))
    page.hover(".card >> nth=1")
    second = page.locator(".card >> nth=1").get_attribute("data-id")
    until(page, "id => document.querySelector('#map').hitMap.marked('lit') === id", arg=second)
    place = on_screen(page, 2.35, 48.86)
    page.mouse.move(*place)
    page.mouse.move(place[0] + 1, place[1])
    page.wait_for_selector(".card.lit")
    page.mouse.click(*place)
    page.wait_for_selector(".card.chosen")
    assert not page.locator("#detail").is_hidden()
    chosen = page.locator(".card.chosen").get_attribute("data-id")
    assert of_address(page, "hit") == [chosen]
    assert page.evaluate("document.querySelector('#map').hitMap.marked('chosen')") == chosen


def test_the_address_holds_the_whole_state(visit):
    address = (
        "map?collections=places&q=a+red+circle&like=plain&bbox=-10,-30,180,60&datetime=2019-01-01T00%3A00%3A00Z%2F.."
        "&source=S2%2CCH&hit=places%2Fplain"
    )
    page = mapped(visit(address))
    assert page.input_value("#words") == "a red circle"
    assert page.locator(".example.like").inner_text().split() == ["like", "plain"]
    assert [text.split(":")[0] for text in page.locator(".pill.on").all_inner_texts()] == ["Dates", "Source", "Area"]
    assert page.locator("#detail .key").inner_text() == "plain"
    before = keys_of(page)
    page.fill("#words", "a blue cross")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#headline').textContent === 'a blue cross'")
    page.go_back()
    until(page, "document.querySelector('#headline').textContent === 'a red circle'")
    assert keys_of(page) == before
    assert page.locator("#detail .key").inner_text() == "plain"


def test_an_image_of_the_address_that_is_not_among_the_hits_is_named(visit):
    page = mapped(visit("map?collections=places&q=a+red+circle&hit=places%2Fgone"))
    assert page.locator("#notes .note").all_inner_texts() == [
        "The image of this link, places/gone, is not among these hits."
    ]
    assert page.locator("#detail").is_hidden()


@pytest.mark.parametrize(("name", "suffix"), [("GeoJSON", "geojson"), ("GeoParquet", "parquet"), ("CSV", "csv")])
def test_hits_are_saved(visit, tmp_path, name, suffix):
    page = visit("map?collections=places&q=a+red+circle")
    page.click("#save summary")
    with page.expect_download() as download:
        page.click(f"#save .item:has-text('{name}')")
    assert download.value.suggested_filename == f"dove.{suffix}"
    path = tmp_path / f"hits.{suffix}"
    download.value.save_as(path)
    if suffix == "csv":
        with path.open(newline="") as stream:
            assert [row["key"] for row in csv.DictReader(stream)] == keys_of(page)
    else:
        found = geopandas.read_file(path) if suffix == "geojson" else geopandas.read_parquet(path)
        assert found["key"].tolist() == [key for key in keys_of(page) if key in set(found["key"])]
        assert len(found) == 18


def test_the_keyboard_is_enough_for_a_review(visit, pages):
    page = visit("map?collections=places&q=a+green+square")
    keys = keys_of(page)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "words"
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('.card').dataset.id") == f"places/{keys[0]}"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail:not([hidden])")
    assert page.locator("#detail .key").inner_text() == keys[1]
    page.keyboard.press("y")
    page.wait_for_selector(".card[data-verdict=confirm]")
    until(page, "key => document.querySelector('#detail .key').textContent === key", arg=keys[2])
    page.keyboard.press("n")
    page.wait_for_selector(".card[data-verdict=reject]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    page.wait_for_selector("#detail", state="hidden")
    page.keyboard.press("?")
    assert "confirm or reject" in page.locator("#help").inner_text()
    page.keyboard.press("Escape")
    stored = httpx.get(f"{pages.url}/collections/places/marks", params={"query": "a green square"}).json()["marks"]
    assert [(mark["key"], mark["verdict"]) for mark in stored] == [(keys[1], "confirm"), (keys[2], "reject")]


def test_marks_with_a_note_and_a_name_change_the_next_search(visit, pages):
    page = visit("map?collections=places&q=a+white+stripe")
    keys = keys_of(page)
    page.click(".card >> nth=0 >> .frame")
    page.fill("[aria-label='Note']", "<b>sure</b>")
    page.fill("[aria-label='Your name']", "eva")
    page.click("#detail >> text=Confirm")
    page.wait_for_selector(".card[data-verdict=confirm]")
    page.click(".card >> nth=1 >> .frame")
    assert page.input_value("[aria-label='Your name']") == "eva"
    page.click("#detail >> text=Reject")
    page.wait_for_selector(".card[data-verdict=reject]")
    page.click("#use-marks")
    page.wait_for_selector(".note:has-text('1 confirmed and 1 rejected')")
    assert keys[1] not in keys_of(page)
    assert of_address(page, "marks") == ["true"]
    stored = httpx.get(f"{pages.url}/collections/places/marks", params={"query": "a white stripe"}).json()["marks"]
    assert [(mark["note"], mark["who"]) for mark in stored] == [("<b>sure</b>", "eva"), ("", "eva")]
    page.click("#save summary")
    with page.expect_download() as download:
        page.click("#save .item:has-text('all marks of places') >> nth=0")
    assert "<b>sure</b>" in Path(download.value.path()).read_text()


def test_a_mark_is_taken_back_by_the_same_button_or_by_a_key(visit, pages):
    page = visit("map?collections=places&q=a+green+cross")
    asked = {"params": {"query": "a green cross"}}
    page.click(".card >> nth=0 >> .frame")
    page.fill("[aria-label='Your name']", "eva")
    page.click("#detail >> text=Confirm")
    page.wait_for_selector(".card[data-verdict=confirm]")
    assert page.locator("#use-marks").inner_text() == "Search with 1 mark"
    page.click("#detail >> text=Confirm")
    page.wait_for_selector("#detail .verdict-confirm[aria-pressed=false]")
    assert page.locator(".card[data-verdict=confirm]").count() == 0
    assert page.locator("#use-marks").is_hidden()
    page.focus(".card >> nth=1 >> .frame")
    page.keyboard.press("n")
    page.wait_for_selector(".card[data-verdict=reject]")
    page.focus(".card >> nth=1 >> .frame")
    page.keyboard.press("u")
    page.wait_for_selector(".card[data-verdict=reject]", state="detached")
    stored = httpx.get(f"{pages.url}/collections/places/marks", **asked).json()["marks"]
    assert stored == []
    asked["params"] |= {"history": "true"}
    history = httpx.get(f"{pages.url}/collections/places/marks", **asked).json()["marks"]
    assert [mark["verdict"] for mark in history] == ["confirm", "withdraw", "reject", "withdraw"]


def test_marks_of_a_colleague_serve_the_search_and_are_not_ones_own(visit, pages):
    keys = search_of(pages, q="a purple stripe", collections="places")
    mark = {"key": keys[0], "query": "a purple stripe", "verdict": "confirm", "who": "ben"}
    httpx.post(f"{pages.url}/collections/places/marks", json=mark).raise_for_status()
    page = visit("map?collections=places&q=a+purple+stripe")
    assert page.locator("#use-marks").inner_text() == "Search with 1 mark"
    assert page.locator(".card[data-verdict=confirm]").count() == 0


def test_the_page_shows_where_the_words_lie(visit):
    page = visit("map?collections=places&q=red+circle&hit=places%2Fplain")
    page.click("text=Where the words lie")
    page.wait_for_selector("#detail canvas")
    assert re.sub(r"\d+%", "", page.locator("#detail .legend .suggestions").inner_text()).split() == [
        "all",
        "words",
        "red",
        "circle",
    ]
    pixels = "el => [...el.getContext('2d').getImageData(0, 0, 400, 400).data].some(value => value)"
    assert page.locator("#detail canvas").evaluate(pixels)
    page.click("#detail .chip:has-text('circle')")
    assert page.locator("#detail .chip:has-text('circle')").get_attribute("aria-pressed") == "true"


def test_an_image_is_a_query(visit, tmp_path):
    draw_shape("red", "circle").save(tmp_path / "mine.png")
    page = visit("map?collections=places")
    page.set_input_files("#file", tmp_path / "mine.png")
    page.wait_for_selector(".example.like:has-text('mine.png')")
    until(page, "document.querySelector('#headline').textContent === 'Images like yours'")
    page.wait_for_selector(".card .score")
    page.click("#save summary")
    with page.expect_download() as download:
        page.click("#save .item:has-text('CSV')")
    assert Path(download.value.path()).read_text().count("\n") == 25
    page.click(".example.like .clear")
    until(page, "document.querySelector('#headline').textContent === 'All images'")


def test_a_phone_shows_all_of_it_without_a_sideways_scroll(visit):
    page = mapped(visit("map?collections=places&q=circle", width=390, height=844, has_touch=True, color_scheme="dark"))
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 19)"
    page.tap(".card >> nth=0 >> .frame")
    sheet = page.locator("#detail").bounding_box()
    assert (sheet["x"], sheet["width"]) == (0, 390)
    page.tap("#detail [aria-label='Close']")
    page.wait_for_selector("#detail", state="hidden")


def test_an_index_without_places_has_no_map_and_fills_the_page(visit):
    page = visit("map?collections=bare")
    assert page.locator("#map").is_hidden()
    assert page.locator("#filters summary").all_inner_texts() == ["Ranking"]
    wide = page.locator("#grid").bounding_box()["width"]
    assert wide > 1100
    page.click(".card >> nth=0 >> .frame")
    assert page.locator("#grid").bounding_box()["width"] < wide
    page.select_option("#collection", "places")
    page.wait_for_selector("#map[data-ready]")
    assert of_address(page, "collections") == ["places"]


def test_more_hits_are_shown_on_demand(visit):
    page = visit("map?collections=bare&q=circle")
    assert len(keys_of(page)) == 60
    page.click("#more")
    until(page, "document.querySelectorAll('.card').length === 120")
    page.click("#more")
    until(page, "document.querySelectorAll('.card').length === 130")
    page.wait_for_selector("#more", state="hidden")
    assert of_address(page, "limit") == ["130"]
    assert len(set(keys_of(page))) == 130
    assert len(keys_of(visit(urlsplit(page.url)._replace(scheme="", netloc="").geturl().lstrip("/")))) == 130


def test_a_search_without_hits_says_what_helps(visit):
    page = visit("map?collections=places&q=circle&datetime=2030-01-01T00%3A00%3A00Z%2F..")
    assert page.locator("#headline").inner_text() == "No image fits"
    page.click("text=Remove all filters")
    page.wait_for_selector(".card")
    assert of_address(page, "datetime") == []


def test_an_error_is_shown_with_its_hint(visit):
    page = visit("map?collections=places&q=zeppelin", fails=REFUSED)
    assert "knows no word of 'zeppelin'" in page.locator(".error").inner_text()
    assert "use words such as" in page.locator(".error").inner_text()
    page.fill("#words", "circle")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card")
    assert page.locator(".error").count() == 0


def test_a_server_that_is_away_is_an_error_in_words(visit):
    page = mapped(visit("map?collections=places", fails="ERR_INTERNET_DISCONNECTED"))
    page.context.set_offline(True)
    page.fill("#words", "circle")
    page.keyboard.press("Enter")
    page.wait_for_selector(".error:has-text('The server does not answer')")


def test_texts_are_never_code(visit):
    attack = "circle <img src=x onerror=alert(1)><script>alert(2)</script>"
    page = visit(
        f"map?collections=places&q={attack}&tag={attack}&like=<script>alert(1)</script>&hit={attack}", fails=REFUSED
    )
    page.goto(page.url.partition("?")[0] + f"?collections=places&q={attack}&like=<script>alert(1)</script>")
    page.wait_for_selector(".card")
    for key in keys_of(page)[:8]:
        page.evaluate('id => document.querySelector(`[data-id="${CSS.escape(id)}"] .frame`).click()', f"places/{key}")
        until(page, "key => document.querySelector('#detail .key')?.textContent === key", arg=key)
    assert page.locator("[onerror], #results script, #detail script, #refine script, #grid b, #detail b").count() == 0
    assert "<script>alert(2)</script>" in page.locator("#headline").inner_text()
    assert "<script>alert(1)</script>" in page.locator(".example").inner_text()


def test_the_page_is_small(visit):
    mapped(visit("map?collections=places"))
    sizes = {one.url: one.sizes()["responseBodySize"] for one in visit.answered if "/thumbnails/" not in one.url}
    assert sizes.keys() > {url for url in sizes if url.endswith(("maplibre-gl.mjs", "world.json"))} != set()
    assert 500_000 < sum(sizes.values()) < 1_000_000


def test_a_base_map_and_a_token_work_together(visit, indexed, tmp_path):
    (tmp_path / "secret").write_text("open-sesame")
    with served(
        tmp_path,
        str(indexed / "index" / "places"),
        "--token-file",
        "secret",
        "--basemap",
        "http://127.0.0.1:48123/{z}/{x}/{y}.png",
    ) as server:
        assert httpx.get(f"{server.url}/map").status_code == 401
        page = visit(
            "map?q=circle",
            server=server,
            fails="ERR_|Failed to fetch",
            http_credentials={"username": "any", "password": "open-sesame"},
        )
        with page.expect_request(re.compile(r"http://127.0.0.1:48123/\d+/\d+/\d+\.png")):
            page.wait_for_selector("#map[data-ready]")
