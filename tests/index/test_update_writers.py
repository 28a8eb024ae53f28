"""Writers and readers of one index in processes of their own, on disks with and without locks, and in a bucket."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dove_core.buckets import Bucket
from dove_core.config import CacheConfig, EmbedConfig
from dove_core.errors import SearchIndexError
from dove_core.events import Updated
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.index.locks import writing
from dove_core.places import Folder, Place
from tests.conftest import ALONE
from tests.cutting_proxy import Link, linked
from tests.index.test_update_kills import in_process
from tests.index.test_updates import SETTINGS, images_of, vectors_of, write_images
from tests.s3_server import BUCKET, s3_environment, s3_serving
from tests.sources.test_inputs import encoded

pytest.importorskip("s3fs")
pytest.importorskip("moto")


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    """A bucket, and a link to it that counts requests."""
    with s3_serving() as server, linked(server) as (address, link), s3_environment(address):
        yield link


def bucket(folder: Path, cache: str = "cache") -> Bucket:
    return Bucket(f"s3://{BUCKET}/index/{folder.name}", CacheConfig(str(folder / cache)))


def updated(events: list) -> list[Updated]:
    return [event for event in events if isinstance(event, Updated)]


def read_again_and_again(place: Place, stop: Path) -> None:
    """Open the index and ask it, until a file appears; write how often, or what went wrong, into that folder."""
    rounds = 0
    while not stop.exists():
        index = SearchIndex(place.fresh)
        vector = index.vectors_of([0])[0].astype(np.float32)
        rows, _ = index.search(vector, 3)
        assert len(index.rows(rows.tolist())) == 3
        assert index.words.digest()
        assert len(index.table) == len(index)
        rounds += 1
    stop.with_name(f"rounds-{os.getpid()}").write_text(str(rounds))


def update_while_reading(place: Place, folder: Path, checkpoint: Path, home: Path, updates: int) -> list[int]:
    """Update an index while two processes read it; return how often each of them did."""
    stop, caches = home / "stop", [CacheConfig(str(home / f"cache{k}")) for k in range(2)]
    own = [Bucket(place.url, cache) if place.is_remote else place for cache in caches]
    readers = [in_process(lambda one=one: read_again_and_again(one, stop)) for one in own]
    try:
        for k in range(updates):
            write_images(folder, range(20 + k, 21 + k))
            (folder / f"{k:03d}.jpg").unlink()
            embed(checkpoint, folder, place.fresh, SETTINGS, ALONE)
    finally:
        stop.touch()
        ends = [os.waitpid(reader, 0)[1] for reader in readers]
    assert ends == [0, 0], "a reader has failed"
    return [int(path.read_text()) for path in home.glob("rounds-*")]


def test_processes_read_a_whole_index_while_it_is_updated(trained, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(8)), tmp_path / "index"
    embed(trained / "best", folder, out, SETTINGS, ALONE)
    rounds = update_while_reading(Folder(out), folder, trained / "best", tmp_path, 6)
    assert min(rounds) > 2
    assert len(images_of(SearchIndex(out))) == 8


def test_processes_read_a_whole_index_in_a_bucket_while_it_is_updated(link, trained, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(8)), bucket(tmp_path)
    embed(trained / "best", folder, out, SETTINGS, ALONE)
    rounds = update_while_reading(out, folder, trained / "best", tmp_path, 4)
    assert min(rounds) > 1
    assert len(images_of(SearchIndex(out.fresh))) == 8


def test_an_index_in_a_bucket_is_brought_up_to_date(link, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("dove_core.index.build.FEW", 0)  # segments are not merged because they are small
    folder, more, out = write_images(tmp_path / "photos", range(12)), tmp_path / "more", bucket(tmp_path)
    settings = EmbedConfig(batch_size=4, part_size=3, regions=True)
    first = vectors_of(embed(trained / "best", folder, out, settings, ALONE))
    reader = SearchIndex(bucket(tmp_path, "another machine"))
    write_images(folder, range(12, 14))
    (folder / "deep").mkdir()
    with out.writing("part-00004.parquet") as stream:  # as a writer that was killed has left it
        stream.write(out.read("part-00001.parquet"))
    events = []
    index = embed(trained / "best", folder, out.fresh, SETTINGS, ALONE, report=events.append)
    assert updated(events) == [Updated(out.url, 2, 0, 0, 0, 12)]
    assert [name for name, _ in index.manifest.segments] == ["", "segment-00001"]
    asked = link.gets("/vectors.npy"), link.gets("/regions-00000.npy")
    again = SearchIndex(bucket(tmp_path, "another machine"))
    assert (link.gets("/vectors.npy"), link.gets("/regions-00000.npy")) == (asked[0] + 1, asked[1]), "only what is new"
    assert len(again.regions.records(np.arange(14))) == 14
    assert len(reader.rows(range(12))) == len(reader) == 12

    (folder / "001.jpg").rename(folder / "deep" / "moved.jpg")
    (folder / "007.jpg").write_bytes(encoded(40))
    (folder / "008.jpg").unlink()
    write_images(more, range(30, 33))
    events.clear()
    index = embed(trained / "best", [folder, more], out.fresh, SETTINGS, ALONE, add=True, report=events.append)
    assert updated(events) == [Updated(out.url, 3, 1, 1, 1, 11)]
    found = vectors_of(index)
    assert np.array_equal(found["deep/moved.jpg"], first["001.jpg"])
    assert images_of(index).keys() == found.keys()
    with pytest.raises(SearchIndexError, match="was made from"):
        embed(trained / "best", more, out.fresh, SETTINGS, ALONE)
    events.clear()
    assert len(embed(trained / "best", more, out.fresh, SETTINGS, ALONE, replace=True, report=events.append)) == 3
    assert updated(events) == [Updated(out.url, 0, 0, 13, 0, 3)]
    embed(trained / "best", more, out.fresh, SETTINGS, ALONE)
    kept = {name for name, _ in SearchIndex(out.fresh).manifest.segments}
    assert kept <= set(out.fresh.folders()) | {""}
    assert not out.fresh.has(".writer")


def test_a_second_writer_of_a_bucket_is_refused_and_a_dead_one_is_not_waited_for(link, trained, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(3)), bucket(tmp_path)
    with writing(out, "other work", shared=False):
        with pytest.raises(SearchIndexError, match=rf"being written by process {os.getpid()} of .* on .*, since \d\d:"):
            embed(trained / "best", folder, out.fresh, SETTINGS, ALONE)
        assert set(out.fresh.sizes()) == {".writer"}
    with (
        writing(out, "a", shared=True),
        writing(out.fresh, "a", shared=True),
        pytest.raises(SearchIndexError, match="being written"),
        writing(out.fresh, "b", shared=True),
    ):
        pass
    dead = in_process(lambda: None)
    os.waitpid(dead, 0)
    note = {"process": dead, "machine": os.uname().nodename, "user": "x", "time": time.time(), "owner": "y"}
    for left in ({**note, "process": dead}, {**note, "machine": "elsewhere", "time": time.time() - 1000}):
        with out.writing(".writer") as stream:
            stream.write(json.dumps(left).encode())
        embed(trained / "best", folder, out.fresh, SETTINGS, ALONE)
        assert not out.fresh.has(".writer")
    with out.writing(".writer") as stream:
        stream.write(json.dumps({**note, "machine": "elsewhere"}).encode())
    with pytest.raises(SearchIndexError, match=rf"process {dead} of x on elsewhere"):
        embed(trained / "best", folder, out.fresh, SETTINGS, ALONE)


def test_a_writer_that_lost_its_place_does_not_publish(link, tmp_path):
    out = bucket(tmp_path)
    with writing(out, "first", shared=False) as lock:
        out.remove(".writer")  # as if this process had been stopped for so long that it counted as dead
        other = writing(out.fresh, "second", shared=False)
        with other, pytest.raises(SearchIndexError, match="being written by process"), lock.alone():
            pass
        with lock.alone():
            pass


def test_a_disk_without_locks_has_one_writer_and_keeps_old_segments(trained, tmp_path, monkeypatch):
    def refused(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    folder, out = write_images(tmp_path / "photos", range(3)), tmp_path / "index"
    monkeypatch.setattr(fcntl, "flock", refused)
    embed(trained / "best", folder, out, SETTINGS, ALONE)
    assert not (out / ".writer").exists()
    with writing(Folder(out), "other work", shared=False):
        write_images(folder, range(3, 5))
        with pytest.raises(SearchIndexError, match=f"being written by process {os.getpid()}"):
            embed(trained / "best", folder, out, SETTINGS, ALONE)
    assert len(images_of(embed(trained / "best", folder, out, SETTINGS, ALONE))) == 5
    assert (out / "vectors.npy").exists(), "whether it is read cannot be told"
    monkeypatch.undo()
    (folder / "000.jpg").unlink()
    embed(trained / "best", folder, out, SETTINGS, ALONE)
    assert not (out / "vectors.npy").exists()
