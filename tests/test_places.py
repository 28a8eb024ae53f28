"""Folders and buckets behave in the same way; the bucket is on a real S3 server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.addresses import place_of
from dove_core.buckets import Bucket
from dove_core.data.manifest import read_manifest
from dove_core.data.sharding.shards import shard_release
from dove_core.data.sharding.verify_shards import verify_shards
from dove_core.errors import UsageError
from dove_core.events import Event, Saved, Started
from dove_core.places import Folder, Place
from dove_core.processes import Share
from tests.data.releases import SMALL, contents, make_release
from tests.s3_server import BUCKET, s3_environment, s3_serving

pytest.importorskip("s3fs")
pytest.importorskip("moto")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_serving() as address, s3_environment(address):
        yield f"s3://{BUCKET}"


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> Place:
    return place_of(tmp_path / "place" if request.param == "folder" else f"{bucket}/{tmp_path.name}")


def put(place: Place, name: str, data: bytes) -> None:
    with place.writing(name) as stream:
        stream.write(data)


def test_written_files_exist_and_removed_files_do_not(place):
    place.make()
    assert place.sizes() == {}
    put(place, "b.txt", b"four")
    put(place, "a.txt", b"")
    put(place / "below", "c.txt", b"1")
    assert place.sizes() == {"a.txt": 0, "b.txt": 4}
    assert place.folders() == ["below"]
    assert place.read("b.txt") == b"four"
    put(place, "b.txt", b"another")
    assert place.read("b.txt") == b"another"
    place.remove("b.txt")
    place.remove("b.txt")
    assert list(place.sizes()) == ["a.txt"]
    with pytest.raises(FileNotFoundError):
        place.read("b.txt")


def test_a_file_whose_writing_fails_does_not_appear(place):
    place.make()
    put(place, "a.txt", b"old")
    with pytest.raises(RuntimeError), place.writing("a.txt") as stream:
        stream.write(b"half of the new")
        raise RuntimeError
    assert place.read("a.txt") == b"old"
    assert list(place.sizes()) == ["a.txt"]


def test_addresses_become_places(tmp_path):
    assert isinstance(place_of("shards/sky"), Folder)
    assert isinstance(place_of(f"file://{tmp_path}"), Folder)
    assert place_of(f"file://{tmp_path}").url == str(tmp_path)
    assert isinstance(place_of("s3://bucket/a/"), Bucket)
    assert place_of("s3://bucket/a/").where("b") == "s3://bucket/a/b"
    assert place_of("s3://bucket/a").name == "a"


@pytest.mark.parametrize(("url", "words"), [("nonsense://x/y", "unknown protocol"), ("s3://nowhere/x", "cannot be")])
def test_an_invalid_address_is_an_error_with_a_hint(bucket, url, words):
    with pytest.raises(UsageError, match=words) as caught, place_of(url).writing("a") as stream:
        stream.write(b"a")
    assert caught.value.hint


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_in_a_bucket_equal_those_in_a_folder(bucket, tmp_path, workers):
    release = make_release(tmp_path / "release")
    shard_release(release, tmp_path / "local" / "sky", SMALL)
    out = f"{bucket}/{tmp_path.name}/sky"
    events: list[Event] = []
    config = dataclasses.replace(SMALL, workers=workers)
    (manifest,) = shard_release(release, out, config, report=events.append)
    place = place_of(out) / "train"
    wanted = {Path(name).name: data for name, data in contents(tmp_path / "local").items()}
    assert {name: place.read(name) for name in place.sizes()} == wanted
    assert read_manifest(place) == manifest
    assert f"{out}/train/00000.tar" in [event.path for event in events if isinstance(event, Saved)]
    assert verify_shards(out, config) == []


def test_sharding_into_a_bucket_resumes_and_can_be_shared(bucket, tmp_path):
    release = make_release(tmp_path / "release")
    out = f"{bucket}/{tmp_path.name}/sky"
    assert shard_release(release, out, SMALL, share=Share(0, 2)) == []
    shard_release(release, out, SMALL, share=Share(1, 2))
    place = place_of(out) / "train"
    before = {name: place.read(name) for name in place.sizes()}
    for name in ("manifest.json", "00001.done"):
        place.remove(name)
    events: list[Event] = []
    shard_release(release, out, SMALL, report=events.append)
    assert next(event for event in events if isinstance(event, Started)).done == 6
    assert {name: place.read(name) for name in place.sizes()} == before
    put(place, "00000.tar", b"x" * json.loads(before["00000.done"])["bytes"])
    assert [fault.file for fault in verify_shards(out, SMALL)] == [f"{out}/train/00000.tar"]
