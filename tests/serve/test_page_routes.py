"""The routes behind the page: its files, where words lie, hits as files, marks."""

from __future__ import annotations

import csv
import io
import json
import sqlite3

import geopandas
import httpx
import pytest

from tests.made import draw_shape

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def get(server, path, headers=None, **parameters):
    return httpx.get(f"{server.url}/{path}", params=parameters, headers=headers, timeout=400)


def test_a_browser_is_led_to_the_page_and_a_program_gets_json(server):
    led = get(server, "", HTML, q="a red circle")
    assert led.status_code == 303
    assert led.headers["location"] == "/map?q=a+red+circle"
    assert get(server, "", {"Accept": "*/*"}).json()["type"] == "Catalog"
    page = get(server, "map", HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]
    assert "<style" not in page.text and " style=" not in page.text and "onclick" not in page.text


def test_files_of_the_page_are_compressed_once_and_asked_for_again_only_if_they_changed(server):
    first = get(server, "page/main.js", {"Accept-Encoding": "gzip"})
    assert first.headers["content-encoding"] == "gzip"
    assert first.headers["content-type"].startswith("text/javascript")
    again = get(server, "page/main.js", {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = get(server, "page/main.js", {"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.text == first.text


@pytest.mark.parametrize("path", ["", "map", "healthz", "page/main.js", "collections/places"])
def test_head_is_answered_as_get_without_the_body(server, path):
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    head, full = (httpx.request(method, f"{server.url}/{path}", headers=headers) for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == full.headers["content-type"] and full.content


def test_head_has_no_way_around_a_method_that_a_route_lacks(server):
    assert httpx.head(f"{server.url}/knn-service").status_code == 405


def test_head_is_counted_with_its_route(server):
    httpx.head(f"{server.url}/map")
    counted = [line for line in get(server, "metrics").text.splitlines() if 'method="HEAD"' in line]
    assert any('route="/map"' in line for line in counted), counted


@pytest.mark.parametrize(
    "path", ["page/nothing.js", "page/../app.py", "page/%2e%2e/app.py", "page/..%2fapp.py", "page/", "page//etc/passwd"]
)
def test_no_other_file_can_be_asked_for(server, path):
    with httpx.Client() as client:
        request = client.build_request("GET", f"{server.url}/")
        request.url = request.url.copy_with(raw_path=f"/{path}".encode())
        assert client.send(request).status_code == 404


def test_the_page_says_where_the_licences_of_its_parts_are(server):
    for name, word in [
        ("maplibre-gl", "MapLibre"),
        ("instrument-sans", "SIL OPEN FONT LICENSE"),
        ("world-atlas", "Bostock"),
    ]:
        assert word in get(server, f"page/vendor/{name}.LICENSE.txt").text


def test_where_words_lie_is_a_map_for_each_word(server):
    found = get(server, "collections/places/attention/plain", q="red circle").json()
    assert found["words"] == ["red", "circle"]
    assert sum(found["weights"]) == pytest.approx(1, abs=1e-3)
    assert len(found["by_word"]) == 2
    assert all(0 <= value <= 1 for row in found["whole"] for value in row)
    assert found["image"].startswith("data:image/jpeg;base64,")
    assert get(server, "collections/places/attention/nobody", q="red").status_code == 404
    assert get(server, "collections/places/attention/plain").status_code == 400


def test_hits_are_saved_as_the_search_finds_them(server, tmp_path):
    asked = {"q": "a red circle", "collections": "places", "limit": 8}
    keys = [item["id"] for item in get(server, "search", **asked).json()["features"]]
    table = list(csv.DictReader(io.StringIO(get(server, "save", kind="csv", **asked).text)))
    assert [row["key"] for row in table] == keys
    assert [json.loads(row["tags"]) for row in table if row["key"] == "plain"] == [{"highway": "motorway"}]
    found = get(server, "save", kind="geojson", **asked)
    assert found.headers["content-disposition"] == 'attachment; filename="dove.geojson"'
    placed = [row["key"] for row in table if row["west"]]
    assert [feature["properties"]["key"] for feature in found.json()["features"]] == placed
    (tmp_path / "hits.parquet").write_bytes(get(server, "save", kind="geoparquet", **asked).content)
    assert geopandas.read_parquet(tmp_path / "hits.parquet")["key"].tolist() == placed


def test_a_list_without_a_question_is_saved_without_scores(server):
    assert {row["score"] for row in csv.DictReader(io.StringIO(get(server, "save", kind="csv").text))} == {""}
    assert get(server, "save", kind="geojson").json()["features"][0]["properties"]["score"] is None
    assert get(server, "save", kind="shapefile").status_code == 400


def test_hits_of_an_uploaded_image_are_saved(server):
    stream = io.BytesIO()
    draw_shape("red", "circle").save(stream, "PNG")
    parameters = {"kind": "csv", "limit": 3, "collections": "places"}
    answer = httpx.post(f"{server.url}/save/image", params=parameters, files={"image": stream.getvalue()}, timeout=400)
    assert len(answer.text.splitlines()) == 4
    bad = httpx.post(f"{server.url}/save/image", params=parameters, files={"image": b"no image"}, timeout=400)
    assert bad.status_code == 400


def test_a_mark_is_stored_listed_and_exported(server, indexed):
    mark = {"key": "a/slash", "query": "Green  Square", "verdict": "confirm", "note": "=1+1 <b>", "who": "eva"}
    address = f"{server.url}/collections/more/marks"
    assert httpx.post(address, json=mark).status_code == 201
    assert httpx.post(address, json={**mark, "verdict": "reject"}).status_code == 201
    [listed] = get(server, "collections/more/marks", query="green square").json()["marks"]
    assert (listed["verdict"], listed["note"], listed["who"]) == ("reject", "=1+1 <b>", "eva")
    assert listed["model"] == get(server, "collections/more").json()["dove:model"]
    assert len(get(server, "collections/more/marks", history=True).json()["marks"]) == 2
    assert get(server, "collections/more/marks", kind="csv").text.splitlines()[0].startswith("key,query,verdict")
    [feature] = get(server, "collections/more/marks", kind="geojson").json()["features"]
    assert feature["properties"]["key"] == "a/slash" and feature["geometry"]["type"] == "Polygon"
    assert sqlite3.connect(indexed / "index" / "more.marks.sqlite").execute(
        "SELECT count(*) FROM marks"
    ).fetchone() == (2,)


def test_a_mark_can_be_taken_back(server):
    address, asked = f"{server.url}/collections/places/marks", {"query": "a blue stripe"}
    mark = {"key": "plain", "verdict": "confirm", "who": "eva", **asked}
    assert httpx.post(address, json=mark).status_code == 201
    assert httpx.post(address, json={**mark, "verdict": "withdraw"}).json()["verdict"] == "withdraw"
    assert get(server, "collections/places/marks", **asked).json() == {"marks": []}
    lines = get(server, "collections/places/marks", kind="csv", history=True, **asked).text.splitlines()
    assert [line.split(",")[2] for line in lines] == ["verdict", "confirm", "withdraw"]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({"key": "nobody"}, 404), ({"verdict": "maybe"}, 400), ({"query": " "}, 400), ({"note": "x" * 5000}, 400)],
)
def test_a_mark_that_is_not_valid_is_refused(server, wrong, status):
    mark = {"key": "plain", "query": "green", "verdict": "confirm", **wrong}
    answer = httpx.post(f"{server.url}/collections/places/marks", json=mark)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_mark_of_another_site_is_refused(server):
    text = json.dumps({"key": "plain", "query": "green", "verdict": "confirm"})
    answer = httpx.post(f"{server.url}/collections/places/marks", content=text, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400


def test_a_search_with_marks_leaves_out_what_was_rejected(server):
    asked = {"q": "a purple cross", "collections": "places", "limit": 5}
    keys = [item["id"] for item in get(server, "search", **asked).json()["features"]]
    for key, verdict in [(keys[0], "confirm"), (keys[1], "reject")]:
        mark = {"key": key, "query": "a purple cross", "verdict": verdict}
        assert httpx.post(f"{server.url}/collections/places/marks", json=mark).status_code == 201
    found = get(server, "search", marks=True, **asked).json()
    assert keys[1] not in [item["id"] for item in found["features"]]
    assert any("1 confirmed and 1 rejected" in note for note in found["dove:notes"])
    body = {"q": "a purple cross", "collections": ["places"], "limit": 5, "marks": True}
    assert httpx.post(f"{server.url}/search", json=body).json()["features"] == found["features"]
