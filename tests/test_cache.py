"""Copies of objects in buckets: bounded, whole, shared by processes, and of one version."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dove_core import buckets
from dove_core.buckets import Bucket, file_system
from dove_core.cache import Cache, Fact, cache_folder
from dove_core.config import CacheConfig
from dove_core.data.reader import Shards
from dove_core.errors import DataError, DownloadError, UsageError
from tests.cutting_proxy import Link, linked
from tests.s3_server import BUCKET, s3_environment, s3_serving

pytest.importorskip("s3fs")
pytest.importorskip("moto")
ROOT = Path(__file__).parents[1]
READER = """
import sys
from dove_core.buckets import Bucket
from dove_core.config import CacheConfig
from dove_core.data.reader import Shards

shards = Shards(Bucket(sys.argv[1], CacheConfig(sys.argv[2], float(sys.argv[3]))))
local = Shards(__import__("pathlib").Path(sys.argv[4]))
order = list(range(len(shards))) * 2
assert all(shards.read(k).image == local.read(k).image for k in (order if sys.argv[5] == "1" else order[::-1]))
"""


def file(cache: Cache, name: str, size: int = 1000) -> Path:
    """Have one file in the cache."""
    with cache.hold("s3://b", {name: Fact(size, "1")}, lambda _, path: path.write_bytes(bytes(size)) and None) as one:
        time.sleep(0.02)  # times of use differ
        return one.folder / name


def test_the_least_recently_used_entry_is_removed_when_the_bound_is_passed(tmp_path):
    cache = Cache(CacheConfig(str(tmp_path), 3e-6))
    a, b, c = (file(cache, name) for name in "abc")
    assert file(cache, "a") == a
    d = file(cache, "d")
    assert [path.exists() for path in (a, b, c, d)] == [True, False, True, True]
    file(cache, "e", 2500)
    assert [path.exists() for path in (a, b, c, d)] == [False] * 4


def test_what_is_held_stays_and_what_is_open_can_be_read_to_its_end(tmp_path):
    cache = Cache(CacheConfig(str(tmp_path), 2e-6))
    held = cache.hold("s3://b", {"a": Fact(1000, "1")}, lambda _, path: path.write_bytes(b"a" * 1000) and None)
    with file(cache, "b").open("rb") as opened:
        c, d = file(cache, "c"), file(cache, "d")
        assert (held.folder / "a").exists()
        assert [path.exists() for path in (c, d)] == [False, True]
        assert opened.read() == bytes(1000)
    held.close()
    file(cache, "e", 1500)
    assert not held.folder.exists()


def test_what_is_larger_than_the_bound_is_an_error_that_says_how_to_raise_it(tmp_path):
    with pytest.raises(UsageError, match=r"s3://b/a has 2e-06 GB, the cache is limited to 1e-06 GB") as caught:
        file(Cache(CacheConfig(str(tmp_path), 1e-6)), "a", 2000)
    assert "--cache-size" in caught.value.hint


def test_a_failed_copy_leaves_nothing_and_what_a_killed_process_left_is_removed(tmp_path):
    cache = Cache(CacheConfig(str(tmp_path), 2e-6))

    def fail(name: str, path: Path) -> None:
        path.write_bytes(b"half")
        raise DownloadError("cut")

    with pytest.raises(DownloadError, match="cut"):
        cache.hold("s3://b", {"a": Fact(1000, "1"), "words/b": Fact(1, "1")}, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    left = tmp_path / f"{'0' * 32}-1500.part"
    left.mkdir()
    file(cache, "a")
    assert not left.exists()


def test_the_folder_is_the_one_chosen_or_that_of_the_environment(monkeypatch):
    monkeypatch.delenv("DOVE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder(CacheConfig()) == Path("/xdg/dove")
    monkeypatch.setenv("DOVE_CACHE", "/own")
    assert cache_folder(CacheConfig()) == Path("/own")
    assert cache_folder(CacheConfig("/chosen")) == Path("/chosen")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address, s3_environment(address):
        yield address


@pytest.fixture
def link(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """A link to the server that every client takes; they and we are quick to try again."""
    import s3fs

    monkeypatch.setattr(buckets, "_PAUSES", (0.01, 0.02))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    with linked(server) as (address, link):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield link
    s3fs.S3FileSystem.clear_instance_cache()


def put_shards(shapes: Path, name: str) -> str:
    file_system("s3://").put(f"{shapes / 'train'}/", f"{BUCKET}/{name}/", recursive=True)
    return f"s3://{BUCKET}/{name}"


def stored(cache):
    return sum(int(path.name.split("-")[1]) for path in cache.iterdir() if path.name != "locks")


@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_processes_share_the_cache_without_harm(shapes, link, tmp_path, size):
    url = put_shards(shapes, tmp_path.name)
    bound = int(size * 1e9)
    largest = max(path.stat().st_size for path in (shapes / "train").glob("*.tar"))
    assert largest < bound
    words = [sys.executable, "-c", READER, url, str(tmp_path / "cache"), str(size), str(shapes / "train")]
    running = [subprocess.Popen([*words, str(k % 2)], cwd=ROOT) for k in range(3)]
    assert [one.wait(120) for one in running] == [0] * 3
    if size == 1.0:
        assert link.gets(".tar") == 5, "each shard came once"
        assert link.gets(".parquet") == 5
    else:
        assert stored(tmp_path / "cache") <= bound + 2 * largest, "two others may have kept what they were reading"
        subprocess.run([*words, "0"], cwd=ROOT, check=True)
        assert stored(tmp_path / "cache") <= bound


def test_a_connection_that_is_cut_in_the_middle_of_a_shard_costs_only_time(shapes, link, tmp_path):
    url = put_shards(shapes, tmp_path.name)
    shards = Shards(Bucket(url, CacheConfig(str(tmp_path / "cache"))))
    link.left, link.cuts = 3000, 2
    assert shards.read(5).image == Shards(shapes / "train").read(5).image
    assert link.cuts == 0


def test_a_connection_that_stays_cut_is_an_error_that_names_the_object(shapes, link, tmp_path):
    url = put_shards(shapes, tmp_path.name)
    shards = Shards(Bucket(url, CacheConfig(str(tmp_path / "cache"))))
    link.left = 3000
    with pytest.raises(DownloadError, match=rf"{url}/00000\.tar cannot be reached") as caught:
        shards.read(5)
    assert "run the same command again" in caught.value.hint
    link.left = None
    assert shards.read(5).image


def test_an_object_that_changes_is_an_error_and_not_a_mixture(shapes, server, tmp_path):
    url = put_shards(shapes, tmp_path.name)
    shards = Shards(Bucket(url, CacheConfig(str(tmp_path / "cache"))))
    shards.read(0)
    place = f"{url.removeprefix('s3://')}/00001.tar"
    for data in (b"x" * (shapes / "train" / "00001.tar").stat().st_size, b"shorter"):
        file_system(url).pipe_file(place, data)
        with pytest.raises(DownloadError, match=r"00001\.tar has changed since the first request for it"):
            shards.read(12)
    file_system(url).rm_file(place)
    with pytest.raises(DataError, match=r"00001\.tar cannot be opened"):
        shards.read(12)
    assert shards.read(0).image


def test_copies_of_an_older_version_are_not_used_for_the_new_one(server, tmp_path):
    bucket = Bucket(f"s3://{BUCKET}/{tmp_path.name}", CacheConfig(str(tmp_path / "cache")))
    for data in (b"one", b"two"):
        with bucket.writing("a") as stream:
            stream.write(data)
        with Bucket(bucket.url, bucket.cache).local_path("a") as path:
            assert path.read_bytes() == data


class Refusing(BaseHTTPRequestHandler):
    """Refuses everything, as a store does."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_a_bucket_that_is_not_there_or_refuses_is_a_usage_error(server, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="does not exist"):
        Shards(Bucket(f"s3://{BUCKET}/nothing"))
    with pytest.raises((UsageError, DataError), match="s3://nowhere/a"):
        Shards(Bucket("s3://nowhere/a"))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{web.server_port}")
        with pytest.raises(UsageError, match="is refused") as caught:
            Shards(Bucket(f"s3://{BUCKET}/a"))
        web.shutdown()
    assert "credentials" in caught.value.hint
    s3fs.S3FileSystem.clear_instance_cache()


def test_paths_on_this_machine_need_no_cache(shapes):
    code = (
        "import sys; from pathlib import Path; from dove_core.data.reader import Shards\n"
        "assert Shards(Path(sys.argv[1])).read(3).image\n"
        "found = {'fsspec', 's3fs', 'dove_core.buckets', 'dove_core.cache'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(shapes / "train")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert os.environ.get("DOVE_CACHE") is None
