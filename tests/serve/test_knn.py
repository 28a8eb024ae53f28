"""clip-retrieval's protocol: its own Python client finds what the library finds."""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from dove_core.answers.image_index import open_index
from tests.http_server import Served, serving
from tests.made import draw_shape
from tests.serve.conftest import fetch, send, served

WORDS = "a red circle on grey ground"


@pytest.fixture(scope="module")
def index(indexed):
    return open_index(indexed / "index/places")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "mine.png"
    draw_shape("blue", "square").save(path)
    return path


def client_of_clip_retrieval():
    """Return the class of clip-retrieval's client, from its one file: the package needs another numpy than ours."""
    places = [Path(folder) / "clip_retrieval" / "clip_client.py" for folder in sys.path]
    found = next((path for path in places if path.exists()), None)
    if found is None:
        pytest.skip("needs clip-retrieval: pip install --no-deps clip-retrieval")
    spec = importlib.util.spec_from_file_location("clip_client", found)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ClipClient


def ask(server, **body):
    return send(f"{server.url}/knn-service", content=json.dumps(body), timeout=120)


def test_the_client_of_clip_retrieval_finds_by_text_image_and_embedding(server, index, image):
    client = client_of_clip_retrieval()(f"{server.url}/knn-service", "places", num_images=6, deduplicate=False)
    for found, hits in (
        (client.query(text=WORDS), index.search(WORDS, top=6)),
        (client.query(image=str(image)), index.search(image=str(image), top=6)),
    ):
        assert [hit["key"] for hit in found] == [hit.row.key for hit in hits]
        assert [hit["similarity"] for hit in found] == pytest.approx([hit.score for hit in hits])
        assert [hit["caption"] for hit in found] == [hit.row.caption for hit in hits]
        assert fetch(found[0]["url"]).content == index.searcher.index.image(hits[0].row)
    vector = [2 * float(value) for value in index.searcher.index.vectors_of([3])[0]]
    assert client.query(embedding_input=vector)[0]["similarity"] == pytest.approx(1, abs=1e-3)


def test_further_hits_have_ids_whose_metadata_can_be_asked_for(server, index):
    found = ask(server, text=WORDS, indice_name="places", num_images=2, num_result_ids=5, deduplicate=False).json()
    assert [sorted(hit) for hit in found[:2]] == [["caption", "id", "key", "similarity", "url"]] * 2
    assert [sorted(hit) for hit in found[2:]] == [["id", "similarity"]] * 3
    ids = [hit["id"] for hit in found]
    rows = send(f"{server.url}/metadata", json={"ids": ids, "indice_name": "places"}).json()
    assert [row["metadata"]["key"] for row in rows] == [row.key for row in index.rows(ids)]
    assert fetch(f"{server.url}/indices-list").json() == ["places", "more"]


def test_equal_images_are_shown_once_if_that_is_asked_for(server):
    found = [len(ask(server, text=WORDS, num_images=24, deduplicate=flag).json()) for flag in (True, False)]
    assert found[0] < found[1] == 24


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "no text, no image and no embedding"),
        ({"text": "x", "indice_name": "nowhere"}, "no index nowhere"),
        ({"image": "%%%"}, "not valid base64"),
        ({"image": base64.b64encode(b"GIF89a not really").decode()}, "not an image"),
        ({"embedding_input": [1.0, 2.0]}, "no embedding of this index"),
        ({"text": "red", "num_images": 10**9}, "num_images"),
        ({"image_url": "http://127.0.0.1:9/latest/meta-data"}, "fetches no images"),
        ({"image_url": "file:///etc/passwd"}, "fetches no images"),
        ({"image_url": "http://[oops"}, "not a valid address"),
    ],
)
def test_an_invalid_request_is_a_problem(server, body, detail):
    answer = ask(server, **body)
    assert answer.status_code == 400, answer.text
    assert detail in answer.json()["detail"]


def test_images_are_fetched_from_allowed_hosts_only(indexed, index, image, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as web, served(tmp_path, str(indexed / "index/places"), "--image-hosts", "127.0.0.1") as process:
        web.files["mine.png"] = Served(image.read_bytes())
        web.files["elsewhere.png"] = Served(b"", redirect=f"http://localhost:{web.server_address[1]}/mine.png")
        hits = index.search(image=str(image), top=3)
        found = ask(process, image_url=web.url("mine.png"), num_images=3, num_result_ids=3, deduplicate=False).json()
        assert [hit["key"] for hit in found] == [hit.row.key for hit in hits]
        for url in (web.url("elsewhere.png"), web.url("nothing.png")):
            assert ask(process, image_url=url).json()["status"] == 400
        asked = len(web.asked)
        other = ask(process, image_url=web.url("mine.png").replace("127.0.0.1", "localhost"))
        assert other.status_code == 400
        assert len(web.asked) == asked
