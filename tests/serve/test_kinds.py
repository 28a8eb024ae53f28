"""Indexes of every kind over HTTP: in a bucket, in Milvus, of a model of another family."""

from __future__ import annotations

import time

import pytest
from starlette.testclient import TestClient

from dove_core.answers.image_index import open_index
from dove_core.buckets import Bucket, file_system
from dove_core.config import CacheConfig, PushConfig
from dove_core.index.milvus.push import push_index
from dove_core.serve.server import web_app
from tests.s3_server import BUCKET, s3_environment, s3_serving
from tests.serve.conftest import make_index

WORDS = "a red circle on grey ground"


def keys(client, **parameters):
    answer = client.get("/search", params={"q": WORDS, "limit": 5, **parameters})
    assert answer.status_code == 200, answer.text
    return [feature["id"] for feature in answer.json()["features"]]


def local(app):
    return TestClient(app, base_url="http://localhost")


def expected(index, **arguments):
    return [hit.row.key for hit in open_index(index).search(WORDS, top=5, **arguments)]


def test_a_collection_in_milvus_has_the_hits_of_the_index_that_was_pushed(indexed, tmp_path):
    pytest.importorskip("milvus_lite")
    places = indexed / "index/places"
    address = f"{tmp_path / 'local.db'}/places"
    push_index(places, address, PushConfig())
    with local(web_app([address])) as client:
        assert keys(client) == expected(places)
        assert keys(client, bbox="2,48,3,49", max_gsd=20) == expected(places, bbox=(2, 48, 3, 49), max_gsd=20)
        assert client.get("/collections/places/items/a%2Fslash").json()["id"] == "a/slash"
        assert client.get("/search", params={"limit": 3}).json()["numberMatched"] == 24
        for parameters in ({"ids": "plain"}, {"filter": "gsd < 1", "q": WORDS}, {"bbox": "2,48,3,49"}):
            answer = client.get("/search", params=parameters)
            assert answer.status_code == 400
            assert "is in Milvus" in answer.json()["detail"]


def test_an_index_in_a_bucket_is_served_and_opened_again_when_it_is_replaced(trained, tmp_path):
    pytest.importorskip("s3fs")
    first = make_index(tmp_path / "first", trained / "best", count=8)
    second = make_index(tmp_path / "second", trained / "best", count=12, shift=2)
    with s3_serving() as address, s3_environment(address):
        bucket = Bucket(f"s3://{BUCKET}/index/places", CacheConfig(str(tmp_path / "cache")))
        there = f"{BUCKET}/index/places"
        store = file_system("s3://")
        store.put(f"{first}/", there, recursive=True)
        app = web_app([bucket], checkpoint=trained / "best", shards=first / "images")
        with local(app) as client:
            assert keys(client) == expected(first)
            store.rm(f"{there}/index.json")
            time.sleep(1.5)
            assert keys(client) == expected(first)
            store.put(f"{second}/", there, recursive=True)
            for _ in range(100):
                if client.get("/collections/places").json()["dove:count"] == 12:
                    break
                time.sleep(0.1)
            assert keys(client) == expected(second)


def test_an_index_of_a_clip_is_served(tmp_path):
    pytest.importorskip("open_clip")
    from tests.clip_models import make_clip

    best = tmp_path / "models/small"
    make_clip(best)
    index = make_index(tmp_path / "index/clips", best, count=6)
    with local(web_app([index])) as client:
        assert keys(client) == expected(index)
