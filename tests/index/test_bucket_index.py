"""An index in a bucket: parts are complete or absent, the manifest is last, nothing is transferred twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dove_core.addresses import follow_path, path_between
from dove_core.buckets import Bucket, file_system
from dove_core.config import CacheConfig, EmbedConfig, QueryConfig, RankConfig
from dove_core.data.reader import Shards
from dove_core.errors import SearchIndexError, UsageError
from dove_core.events import Noted, Saved, Started
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.places import Folder
from dove_core.processes import Share
from dove_core.search.query import Searcher
from tests.cli.test_commands import dove
from tests.conftest import ALONE
from tests.cutting_proxy import Link, linked
from tests.data.parquet_files import write_rows
from tests.s3_server import BUCKET, s3_environment, s3_serving

pytest.importorskip("s3fs")
pytest.importorskip("moto")
ROOT = f"s3://{BUCKET}"


@pytest.fixture(scope="module")
def link(shapes: Path) -> Iterator[Link]:
    """A bucket with shards, and a link to it that counts requests."""
    with s3_serving() as server, linked(server) as (address, link), s3_environment(address):
        file_system("s3://").put(f"{shapes}/", f"{BUCKET}/shapes/", recursive=True)
        yield link


def test_an_index_in_a_bucket_equals_one_in_a_folder_and_is_downloaded_once(link, trained, shapes, tmp_path):
    settings = EmbedConfig(batch_size=8, regions=True)
    local = embed(trained / "best", shapes, tmp_path / "index", settings, ALONE)
    cache, events = CacheConfig(str(tmp_path / "cache")), []
    out = Bucket(f"{ROOT}/index/{tmp_path.name}", cache)
    shards = Bucket(f"{ROOT}/shapes", cache)
    assert embed(trained / "best", shards, out, settings, ALONE, share=Share(1, 2), report=events.append) is None
    assert any(isinstance(event, Noted) and "parts are missing" in event.message for event in events)
    with pytest.raises(SearchIndexError, match=r"index\.json does not exist"):
        SearchIndex(Bucket(out.url, cache))
    events.clear()
    made = embed(trained / "best", shards, out, settings, ALONE, report=events.append)
    assert next(event for event in events if isinstance(event, Started)).done == 32
    assert events[-1] == Saved(out.url)
    assert np.array_equal(made.vectors, local.vectors)
    assert json.loads(out.read("index.json"))["checkpoint"] == str(trained / "best")

    ask = ("a red circle", QueryConfig(top=5, rerank=8), RankConfig())
    wanted = Searcher.open(local.folder, ALONE).ask(*ask)
    other = CacheConfig(str(tmp_path / "another machine"))
    first = Searcher.open(Bucket(out.url, other), ALONE)
    assert first.ask(*ask) == wanted
    asked = link.gets("/index/")
    assert asked > 0
    again = Searcher.open(Bucket(out.url, other), ALONE)
    assert again.ask(*ask) == wanted
    assert link.gets("/index/") == asked
    assert [again.index.image(hit.row) for hit in wanted] == [local.image(hit.row) for hit in wanted]
    assert not list(tmp_path.glob("another machine/*/*.tar")), "images are read by range"
    file_system(ROOT).rm(f"{BUCKET}/shapes/{wanted[0].row.shard}")
    with pytest.raises(SearchIndexError, match="cannot be read"):
        again.index.image(wanted[0].row)
    file_system("s3://").put(f"{shapes}/", f"{BUCKET}/shapes/", recursive=True)


def test_re_ranking_reads_images_from_the_bucket_and_processes_share_parts(link, trained, shapes, tmp_path):
    cache = CacheConfig(str(tmp_path / "cache"))
    out, shards = Bucket(f"{ROOT}/index/{tmp_path.name}", cache), Bucket(f"{ROOT}/shapes/train", cache)
    index = embed(trained / "best", shards, out, EmbedConfig(batch_size=8, gpus=2), ALONE)
    local = embed(trained / "best", shapes / "train", tmp_path / "index", EmbedConfig(batch_size=8), ALONE)
    ask = ("a red circle", QueryConfig(top=5, rerank=8), RankConfig())
    assert Searcher(index, ALONE).ask(*ask) == Searcher(local, ALONE).ask(*ask)


def test_hits_of_a_parquet_file_are_read_from_a_bucket_by_range(link, trained, shapes, tmp_path):
    shards = Shards(shapes / "test")
    noise = np.random.default_rng(0)
    rows = [{"image": shards.read(k).image + noise.bytes(100_000), "filename": f"{k}.jpg"} for k in range(12)]
    path = write_rows(tmp_path / "set" / "a.parquet", rows, row_group_size=2, use_dictionary=False)
    index = embed(trained / "best", path, tmp_path / "index", EmbedConfig(), ALONE)
    file_system("s3://").put(str(path), f"{BUCKET}/set/a.parquet")
    far = SearchIndex(tmp_path / "index", shards=Bucket(f"{ROOT}/set", CacheConfig(str(tmp_path / "cache"))))
    found = index.rows([1, 9])
    assert far.images(found) == index.images(found) == [rows[1]["image"], rows[9]["image"]]
    assert not list(tmp_path.glob("cache/**/*.parquet")), "the file is not copied"
    with pytest.raises(SearchIndexError, match=r"b\.parquet cannot be read"):
        far.image(dataclasses.replace(found[0], shard="b.parquet#row=1"))


def test_paths_from_an_index_to_its_shards_are_relative_within_a_bucket_or_machine():
    index, near, far = Bucket("s3://a/index/x"), Bucket("s3://a/shards/y/test"), Bucket("s3://b/shards/y")
    assert path_between(index, near) == "../../shards/y/test"
    assert path_between(index, far) == "s3://b/shards/y"
    assert path_between(index, Folder(Path("/data/y"))) == "/data/y"
    assert path_between(Folder(Path("/i/x")), far) == "s3://b/shards/y"
    assert path_between(Folder(Path("/i/x")), Folder(Path("/data/y"))) == "../../data/y"
    for other in (near, far, Folder(Path("/data/y"))):
        assert follow_path(index, path_between(index, other)) == other


def test_options_that_need_a_path_of_this_machine_are_errors_for_buckets(link, trained, tmp_path):
    with pytest.raises(UsageError, match=r"--layout clip-retrieval: --out s3://.* is not a path of this machine"):
        settings = EmbedConfig(layout="clip-retrieval")
        embed(trained / "best", Bucket(f"{ROOT}/shapes/train"), Bucket(f"{ROOT}/x"), settings, ALONE)
    with pytest.raises(UsageError, match="in a bucket, where only shards can be embedded"):
        embed(trained / "best", Bucket(f"{ROOT}/shapes/train"), tmp_path, EmbedConfig(tile=32), ALONE)
    code, _, err = dove("query", "a", "--index", f"{ROOT}/x", "--sheet", "s3://a/b.png")
    assert code == 2
    assert "--sheet s3://a/b.png is not a path of this machine" in err


def test_file_addresses_are_folders(trained, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--checkpoint", f"file://{trained}/best", "--device", "cpu"]
    index, shards = f"file://{tmp_path}/index/a", f"file://{shapes}/test"
    code, _, err = dove("embed", "--shards", shards, "--out", index, *words, "--workers", "0")
    assert code == 0, err
    assert (tmp_path / "index/a/index.json").exists()
    code, out, err = dove("query", "a red circle", "--index", index, "--sheet", f"file://{tmp_path}/a.png", "--json")
    assert code == 0, err
    assert len(out.splitlines()) == 10
    assert (tmp_path / "a.png").exists()
    assert not (tmp_path / "file:").exists()
