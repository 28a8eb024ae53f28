"""The STAC API over HTTP: what is found equals what the library finds; standard clients read it."""

from __future__ import annotations

import json
import subprocess
import sys
from urllib.parse import quote

import pystac
import pystac_client
import pytest

from dove_core.answers.image_index import open_index
from tests.made import draw_shape
from tests.serve.conftest import KEYS, METADATA, PARIS, fetch, make_index, send, served

WORDS = "a red circle on grey ground"


def get(server, path, **parameters):
    return fetch(f"{server.url}/{path}", params=parameters, timeout=60)


def keys(answer):
    assert answer.status_code == 200, answer.text
    return [feature["id"] for feature in answer.json()["features"]]


def listed(hits):
    return [(hit.row.key, pytest.approx(hit.score)) for hit in hits]


@pytest.fixture(scope="module")
def index(indexed):
    return open_index(indexed / "index/places")


@pytest.mark.parametrize(
    "words", [WORDS, "a blue square", "there is one cross", "green stripe", "white", "a purple circle", "ground, grey",
              "yellow square on ground", "cross", "a circle"],
)  # fmt: skip
def test_a_question_in_words_has_the_hits_of_the_library(server, index, words):
    answer = get(server, "search", q=words, collections="places", limit=5).json()
    hits = index.search(words, top=5)
    assert [feature["id"] for feature in answer["features"]] == [hit.row.key for hit in hits]
    scores = [feature["properties"]["dove:score"] for feature in answer["features"]]
    assert scores == pytest.approx([hit.score for hit in hits])
    posted = send(f"{server.url}/search", json={"q": [words], "collections": ["places"], "limit": 5}).json()
    assert posted["features"] == answer["features"]


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ({"dedup": "true"}, {"dedup": True}),
        ({"min_score": "0.99"}, {"min_score": 0.99}),
        ({"rerank": "5"}, {"rerank": 5}),
        ({"rerank": "5", "rank_by": "pair"}, {"rerank": 5, "rank_by": "pair"}),
        ({"exact": "true"}, {"exact": True}),
        ({"like": KEYS[:2], "unlike": KEYS[2:3]}, {"like": KEYS[:2], "unlike": KEYS[2:3]}),
        ({"bbox": "2,48,3,49"}, {"bbox": (2, 48, 3, 49)}),
        ({"bbox": "179,-19,-179,-16"}, {"bbox": (179, -19, -179, -16)}),
        ({"datetime": "2020-01-01T00:00:00Z/2020-12-31T23:59:59Z"}, {"datetime": "2020"}),
        ({"near": "48.86,2.35", "within": "5km"}, {"near": "48.86,2.35", "within": "5km"}),
        ({"source": "CH,US"}, {"source": "CH,US"}),
        ({"max_gsd": "0.5"}, {"max_gsd": 0.5}),
        ({"tag": "highway=motorway"}, {"tag": "highway=motorway"}),
    ],
    ids=str,
)  # fmt: skip
def test_every_parameter_of_a_query_has_its_effect(server, index, parameters, arguments):
    answer = get(server, "search", q=WORDS, collections="places", limit=7, **parameters).json()
    found = [(feature["id"], feature["properties"]["dove:score"]) for feature in answer["features"]]
    assert found == listed(index.search(WORDS, top=7, **arguments))
    assert found != listed(index.search(WORDS, top=7)) or "exact" in parameters


def test_pages_of_hits_follow_each_other_without_a_gap(server, index):
    client = pystac_client.Client.open(server.url)
    search = client.search(collections=["places"], limit=5, max_items=24, method="GET")
    search._parameters["q"] = WORDS
    assert [item.id for item in search.items()] == [hit.row.key for hit in index.search(WORDS, top=24)]
    body = {"q": WORDS, "collections": ["places"], "limit": 9}
    found, link = [], {"href": f"{server.url}/search", "body": body}
    while link:
        answer = send(link["href"], json=link["body"]).json()
        found += [feature["id"] for feature in answer["features"]]
        link = next((one for one in answer["links"] if one["rel"] == "next"), None)
    assert found == [hit.row.key for hit in index.search(WORDS, top=24)]


@pytest.mark.parametrize("words", ["a red circle", "white", "there is one cross", "a purple stripe on grey ground"])
def test_pystac_client_finds_what_the_command_prints(server, indexed, words):
    client = pystac_client.Client.open(server.url)
    search = client.search(collections=["places"], limit=5, max_items=12, method="GET")
    search._parameters["q"] = words  # it has no argument for words yet
    found = [(item.id, item.properties["dove:score"]) for item in search.items()]
    command = [sys.executable, "-m", "dove_cli", "query", words, "--index", "places", "--top", "12", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=indexed, check=True)
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [(hit["key"], hit["score"]) for hit in printed if "key" in hit]
    whole = pystac.ItemCollection.from_file(f"{server.url}/search?collections=places&limit=12&q={quote(words)}")
    assert [(item.id, item.properties["dove:score"]) for item in whole] == found


def test_pystac_client_reads_every_collection_and_every_item(server):
    client = pystac_client.Client.open(server.url)
    assert [one.id for one in client.get_collections()] == ["places", "more"]
    places = client.get_collection("places")
    assert places.extent.spatial.bboxes == [[-180.0, -18.2, 180.0, 48.865]]
    assert [time.isoformat() for time in places.extent.temporal.intervals[0]] == [
        "2019-01-01T00:00:00+00:00", "2021-01-02T23:59:59+00:00"
    ]  # fmt: skip
    items = list(places.get_items())
    assert len(items) == 24
    assert [item.id for item in items][: len(KEYS)] == KEYS
    paris, suva, _, nowhere = items[:4]
    assert paris.datetime.isoformat() == "2020-07-03T10:20:30+00:00"
    assert tuple(paris.bbox) == PARIS
    assert paris.properties["gsd"] == 10.0
    assert paris.properties["tags"] == METADATA[0]["tags"]
    assert suva.datetime is None
    assert suva.properties["start_datetime"] == "2019-01-01T00:00:00Z"
    assert suva.properties["end_datetime"] == "2019-12-31T23:59:59Z"
    assert nowhere.geometry is None
    assert nowhere.properties["dove:undated"] is True
    for item in items[:4]:
        item.validate()


@pytest.mark.parametrize("number", range(len(KEYS)))
def test_an_image_is_found_by_its_key_whatever_it_is(server, index, number):
    key = KEYS[number]
    item = get(server, f"collections/places/items/{quote(key, safe='')}").json()
    assert item["id"] == key
    [link] = [one["href"] for one in item["links"] if one["rel"] == "self"]
    assert fetch(link).json() == item
    image = fetch(item["assets"]["image"]["href"])
    assert image.content == index.searcher.index.image(index.rows([number])[0])
    assert image.headers["content-type"] == "image/jpeg"
    small = fetch(item["assets"]["thumbnail"]["href"], params={"side": 16})
    assert small.headers["content-type"] == "image/jpeg"
    assert len(small.content) < len(image.content)
    assert keys(send(f"{server.url}/search", json={"ids": [key], "collections": ["places"]})) == [key]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("gsd < 0.5", [2]),
        ("gsd <= 0.5 AND source IN ('CH', 'S2')", [1]),
        ("NOT gsd > 0.5", [1, 2]),
        ("gsd IS NULL", [3]),
        ("NOT (gsd IS NULL) AND gsd BETWEEN 0.2 AND 20", [0, 1]),
        ("source <> 'CH'", [0, 2]),
        ("source IS NULL OR source = 'US'", [2, 3]),
        ("tags.highway = 'motorway'", [0]),
        ("tags.highway <> 'motorway'", []),
        ("tags.name IS NULL", [0, 2, 3]),
        ("\"tags.name\" = '<b>é</b>'", [1]),
        ("datetime > DATE('2020-07-02')", [0, 2]),
        ("datetime <= TIMESTAMP('2020-07-03T10:20:30Z')", [0, 1]),
        ("T_INTERSECTS(datetime, INTERVAL('2019-05-01', '2020-01-01'))", [1]),
        ("datetime IS NULL", [3]),
        ("caption LIKE '%blue square%'", []),
        ("id = 'a/slash' OR id LIKE 'plai_'", [0, 1]),
        ("collection = 'more'", []),
        ("S_INTERSECTS(geometry, POLYGON((2 48, 3 48, 3 49, 2 49, 2 48)))", [0]),
        ("S_INTERSECTS(geometry, POINT(-179.85 -16.9))", [2]),
    ],
)
def test_a_filter_in_cql2_keeps_the_images_it_is_true_for(server, condition, expected):
    asked = {
        "collections": "places",
        "filter": f"({condition}) AND id IN ('plain', 'a/slash', 'with space', '{KEYS[3]}')",
    }
    assert keys(get(server, "search", **asked)) == [KEYS[number] for number in expected]


def test_a_filter_may_be_json_and_is_combined_with_a_question(server):
    condition = {"op": "and", "args": [{"op": "<", "args": [{"property": "gsd"}, 1]},
                                       {"op": "=", "args": [{"property": "source"}, "US"]}]}  # fmt: skip
    body = {"q": WORDS, "collections": ["places"], "filter": condition, "filter-lang": "cql2-json", "limit": 100}
    found = send(f"{server.url}/search", json=body).json()["features"]
    assert len(found) == 6
    assert {feature["properties"]["source"] for feature in found} == {"US"}
    text = "gsd < 1 AND source = 'US'"
    assert keys(get(server, "search", q=WORDS, collections="places", filter=text, limit=100)) == [
        feature["id"] for feature in found
    ]
    listed = get(server, "collections/places/items", filter=text, limit=100).json()
    assert listed["numberMatched"] == 6
    assert "gsd" in get(server, "queryables").json()["properties"]


def test_a_polygon_keeps_the_footprints_that_it_meets(server):
    triangle = {"type": "Polygon", "coordinates": [[[2, 48], [3, 48], [2.3, 49], [2, 48]]]}
    body = {"intersects": triangle, "collections": ["places"], "limit": 100}
    found = send(f"{server.url}/search", json=body).json()
    assert found["numberMatched"] == 6
    assert {tuple(feature["bbox"]) for feature in found["features"]} == {PARIS}


@pytest.mark.parametrize(("west", "east"), [(180.05, 180.15), (-180.08, -180.02), (179.0, 181.0), (-181.0, -179.0)])
def test_a_polygon_drawn_over_the_180th_meridian_finds_what_lies_beyond(server, west, east):
    ring = [[west, -17.5], [east, -17.5], [east, -16.0], [west, -16.0], [west, -17.5]]
    body = {"intersects": {"type": "Polygon", "coordinates": [ring]}, "collections": ["places"], "limit": 100}
    found = send(f"{server.url}/search", json=body).json()["features"]
    assert found
    assert {feature["properties"]["gsd"] for feature in found} == {0.1}  # those of Taveuni


def test_several_collections_are_one_list_in_order_of_their_scores(server):
    found = get(server, "search", q=WORDS, limit=30).json()["features"]
    assert len(found) == 30
    assert {feature["collection"] for feature in found} == {"places", "more"}
    scores = [feature["properties"]["dove:score"] for feature in found]
    assert scores == sorted(scores, reverse=True)
    assert get(server, "search", limit=100).json()["numberMatched"] == 30


def test_collections_of_several_models_take_turns_and_say_so(indexed, trained, shapes, tmp_path):
    from dove_core.config import TrainConfig
    from dove_core.training.loop import train
    from tests.conftest import ALONE
    from tests.made import SMALL

    train(shapes / "train", tmp_path / "run", SMALL, TrainConfig(weights="none", max_steps=1, batch_size=16), ALONE)
    other = make_index(tmp_path / "index/other", tmp_path / "run/last", count=6)
    with served(tmp_path, str(indexed / "index/places"), str(other)) as process:
        answer = get(process, "search", q=WORDS, limit=6).json()
    assert [feature["collection"] for feature in answer["features"]] == ["places", "other"] * 3
    assert any("different models" in note for note in answer["dove:notes"])


def test_an_uploaded_image_finds_images_like_it(server, index, tmp_path):
    path = tmp_path / "mine.png"
    draw_shape("blue", "square").save(path)
    expected = [hit.row.key for hit in index.search(image=str(path), like="plain", top=4)]
    parameters = {"collections": "places", "limit": 4, "like": "plain"}
    files = {"image": path.read_bytes()}
    assert keys(send(f"{server.url}/search/image", params=parameters, files=files, timeout=120)) == expected


def test_notes_about_words_are_in_the_answer(server):
    answer = get(server, "search", q="a red zeppelin").json()
    assert any("zeppelin" in note for note in answer["dove:notes"])
    unknown = get(server, "search", q=WORDS, collections="nowhere").json()
    assert unknown["features"] == []
    assert unknown["dove:notes"] == ["there is no collection nowhere; there are places, more"]


@pytest.mark.parametrize(
    ("path", "parameters", "status", "detail", "hint"),
    [
        ("search", {"q": "zeppelin"}, 400, "knows no word", "use words such as"),
        ("search", {"q": "red", "like": "nobody"}, 400, "no image nobody", "a key of this index is"),
        ("search", {"bbox": "1,2,3"}, 400, "4 or 6", ""),
        ("search", {"bbox": "5,50,6,40"}, 400, "bbox", "west,south,east,north"),
        ("search", {"datetime": "yesterday"}, 400, "RFC3339", ""),
        ("search", {"q": "red", "rerank": "-1"}, 400, "rerank", "/api.html"),
        ("search", {"q": "red", "near": "1,2"}, 400, "near and within need each other", "within 25km"),
        ("search", {"q": "red", "source": "XX"}, 400, "no image from it", "CH, S2, US"),
        ("search", {"like": "plain", "rerank": "5"}, 400, "rerank 5: the query has no words", "leave out rerank"),
        ("search", {"filter": "gsd <"}, 400, "not valid CQL2", "properties are"),
        ("search", {"filter": "colour = 'red'"}, 400, "unknown property: colour", "properties are"),
        ("search", {"filter": "(" * 3000 + "gsd=1" + ")" * 3000}, 400, "too long", "brackets"),
        ("search", {"filter": "gsd = 'many'"}, 400, "compares gsd with 'many'", ""),
        ("search", {"intersects": "{}", "bbox": "1,2,3,4"}, 400, "cannot be combined", ""),
        ("search", {"intersects": "{"}, 400, "intersects is not valid JSON", ""),
        ("search", {"intersects": '{"type": "Polygon", "coordinates": [[1, 2]]}'}, 400, "geometry is not valid", ""),
        ("search", {"token": "../.."}, 400, "not from this server", "next"),
        ("search", {"q": "red", "token": "99999"}, 400, "beyond 10,000", ""),
        ("search", {"q": "x" * 3000}, 400, "q", "/api.html"),
        ("collections/nowhere", {}, 404, "no collection nowhere", ""),
        ("collections/places/items/nobody", {}, 404, "no image nobody", ""),
        ("collections/places/thumbnails/plain", {"side": 9000}, 400, "side", ""),
        ("nowhere", {}, 404, "Not Found", ""),
    ],
)
def test_an_error_is_a_problem_with_a_hint(server, path, parameters, status, detail, hint):
    answer = get(server, path, **parameters)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert detail in problem["detail"]
    assert hint in problem.get("hint", "")


def test_stac_api_validator_finds_no_error(server):
    triangle = '{"type": "Polygon", "coordinates": [[[2, 48], [3, 48], [2.3, 49], [2, 48]]]}'
    classes = [word for name in ("core", "collections", "features", "item-search") for word in ("--conformance", name)]
    command = [
        sys.executable, "-m", "stac_api_validator", "--root-url", server.url, *classes, "--collection", "places",
        "--geometry", triangle,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "Validating STAC API - Item Search" in done.stdout + done.stderr
    errors = done.stdout.partition("Errors:")[2]
    assert "Fatal" not in errors
    found = [line for line in errors.splitlines() if line.strip() and "schemas.stacspec.org" not in line]  # no internet
    assert found == []


def test_the_api_page_and_its_data_need_no_other_server(server):
    page = get(server, "api.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "min_score" in page.text
    assert "<script" not in page.text
    assert "/search/image" in get(server, "api").json()["paths"]
