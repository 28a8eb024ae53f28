"""Some images of a release, without the archives that they are in: each a file in a folder of the archive's name."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.config import FetchConfig, ShardConfig
from dove_core.data.fetching.fetch import fetch, plan_fetch
from dove_core.data.sharding.shards import shard_release
from dove_core.errors import DownloadError, UsageError
from dove_core.events import Event, Noted, Skipped, Started
from tests.data.mirror import QUICK, SPLITS, Mirror, jpeg, rows_of, stem, table
from tests.http_server import Served, serving


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a proxy of this machine out of the way: the server is here."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as server:
        yield Mirror(server)


TEST = FetchConfig(split="test")


def bring(tiny: Mirror, folder: Path, config: FetchConfig = TEST, **settings) -> list[Event]:
    events: list[Event] = []
    fetch(tiny.release(), folder, config, retry=QUICK, report=events.append, **settings)
    return events


def images(folder: Path) -> dict[tuple[int, int], bytes]:
    """Return the images of both archives by archive and number."""
    paths = [path for part in (2, 3) for path in folder.glob(f"images{part}/*")]
    return {(int(path.parent.name[-1]), int(path.name[2:6])): path.read_bytes() for path in paths}


def rows(path: Path) -> list[str]:
    with path.open(newline="") as stream:
        return [row["filepath"] for row in csv.DictReader(stream)]


def test_one_split_brings_its_members_and_no_others(mirror, tmp_path):
    bring(mirror, tmp_path)
    assert images(tmp_path) == {(part, number): jpeg(part, number) for part, number in rows_of("test")}
    metas = {path.name for part in (2, 3) for path in tmp_path.glob(f"meta{part}/*")}
    assert metas == {f"{stem(part, number)}.pickle" for part, number in rows_of("test")}
    assert (tmp_path / "dataframe/Tiny_test.csv").read_bytes() == table(rows_of("test"))
    assert [path.name for path in (tmp_path / "dataframe").glob("*.csv")] == ["Tiny_test.csv"]


def test_a_folder_inside_an_archive_that_repeats_its_name_is_left_out(mirror, tmp_path):
    bring(mirror, tmp_path)
    assert (tmp_path / "images3" / f"{stem(3, 10)}.jpg").read_bytes() == jpeg(3, 10)
    assert not (tmp_path / "images3" / "images3").exists()


def test_far_fewer_bytes_than_the_archives_are_fetched(mirror, tmp_path):
    bring(mirror, tmp_path)
    wanted = sum(len(jpeg(part, number)) for part, number in rows_of("test"))
    assert wanted < mirror.sent("images") < 1.2 * wanted + 2 * 67_000  # and the ends with the directories


def test_the_shards_are_those_of_a_whole_fetch(mirror, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "some").mkdir()
    bring(mirror, tmp_path / "whole", FetchConfig())
    bring(mirror, tmp_path / "some", TEST)
    shard_release(tmp_path / "whole", tmp_path / "a", ShardConfig(shard_size=16))
    shard_release(tmp_path / "some", tmp_path / "b", ShardConfig(shard_size=16))
    tars = {path.name: path.read_bytes() for path in (tmp_path / "b/test").glob("*.tar")}
    assert len(tars) == 3
    assert tars == {path.name: path.read_bytes() for path in (tmp_path / "a/test").glob("*.tar")}


def test_a_limit_takes_so_many_images_of_each_split_and_cuts_the_tables_to_them(mirror, tmp_path):
    bring(mirror, tmp_path, FetchConfig(limit=6))
    named = [name for split in SPLITS for name in rows(tmp_path / f"dataframe/Tiny_{split}.csv")]
    assert len(named) == 18
    assert {f"images{part}/{stem(part, number)}.jpg" for part, number in images(tmp_path)} == set(named)
    shard_release(tmp_path, tmp_path / "shards", ShardConfig(max_bad=0))
    note = json.loads((tmp_path / "dataframe/Tiny_train.csv.subset.json").read_text())
    assert note == {"format": 1, "rows": 6, "total": 60}


def test_a_cut_table_has_the_published_columns_and_texts(mirror, tmp_path):
    bring(mirror, tmp_path, FetchConfig(split="val", limit=5))
    published = mirror.bodies["dataframe/Tiny_val.csv"].decode().splitlines()
    cut = (tmp_path / "dataframe/Tiny_val.csv").read_text()
    every = {tuple(row) for row in csv.reader(published)}
    assert {tuple(row) for row in csv.reader(cut.splitlines())} <= every
    assert next(csv.reader(cut.splitlines())) == ["filepath", "title", "title_multi_objects"]


def test_a_larger_limit_has_all_of_a_smaller_one_and_fetches_the_rest_only(mirror, tmp_path):
    bring(mirror, tmp_path, FetchConfig(split="test", limit=10))
    few, before = images(tmp_path), mirror.sent("images")
    bring(mirror, tmp_path, FetchConfig(split="test", limit=20))
    more = images(tmp_path)
    assert few.items() <= more.items() and len(more) == 20
    rest = sum(len(more[key]) for key in more.keys() - few.keys())
    assert mirror.sent("images") - before <= 1.2 * rest + 2


def test_the_same_again_fetches_nothing_and_the_plan_says_so(mirror, tmp_path):
    bring(mirror, tmp_path)
    mirror.server.asked.clear()
    assert plan_fetch(mirror.release(), tmp_path, TEST, retry=QUICK).to_come == 0
    bring(mirror, tmp_path)
    assert mirror.sent() == 0


def test_a_second_split_joins_the_first(mirror, tmp_path):
    bring(mirror, tmp_path)
    bring(mirror, tmp_path, FetchConfig(split="val"))
    both = rows_of("test") + rows_of("val")
    assert images(tmp_path) == {(part, number): jpeg(part, number) for part, number in both}
    shard_release(tmp_path, tmp_path / "shards", ShardConfig(max_bad=0))


def test_a_whole_fetch_replaces_a_subset(mirror, tmp_path):
    bring(mirror, tmp_path, FetchConfig(limit=6))
    events = bring(mirror, tmp_path, FetchConfig())
    for name, body in mirror.bodies.items():
        if "laion" not in name:
            assert (tmp_path / name).read_bytes() == body
    assert not list(tmp_path.rglob("*.zip.subset*")) + list(tmp_path.rglob("*.csv.subset*"))
    assert any(isinstance(event, Noted) and "the whole of it is fetched" in event.message for event in events)


def test_from_whole_archives_a_limit_takes_rows_without_fetching(mirror, tmp_path):
    bring(mirror, tmp_path, FetchConfig())
    mirror.server.asked.clear()
    bring(mirror, tmp_path, FetchConfig(limit=6))
    assert mirror.sent() == 0
    assert len(rows(tmp_path / "dataframe/Tiny_train.csv")) == 6
    assert (tmp_path / "images2.zip").read_bytes() == mirror.bodies["images2.zip"]


def test_chosen_parts_bring_their_images_and_cut_the_tables(mirror, tmp_path):
    bring(mirror, tmp_path, FetchConfig(parts="3"))
    assert not (tmp_path / "images2.zip").exists() and not (tmp_path / "meta2.zip").exists()
    assert (tmp_path / "images3.zip").read_bytes() == mirror.bodies["images3.zip"]
    assert {name.split("/")[0] for name in rows(tmp_path / "dataframe/Tiny_train.csv")} == {"images3"}
    shard_release(tmp_path, tmp_path / "shards", ShardConfig(max_bad=0))


def test_without_metadata_no_meta_archive_is_asked_for(mirror, tmp_path):
    bring(mirror, tmp_path, FetchConfig(split="test", meta=False))
    assert not any("meta" in asked.path for asked in mirror.server.asked)
    assert len(images(tmp_path)) == 40


def test_other_captions_take_the_place_of_the_first_ones(mirror, tmp_path):
    bring(mirror, tmp_path, FetchConfig(split="train", limit=5))
    bring(mirror, tmp_path, FetchConfig(split="train", captions="laion-top50"))
    assert [path.name for path in (tmp_path / "dataframe").glob("*.csv")] == ["Tiny_train_laion.csv"]
    bring(mirror, tmp_path, FetchConfig(split="train", limit=5))
    assert [path.name for path in (tmp_path / "dataframe").glob("*.csv")] == ["Tiny_train.csv"]


def test_rows_that_no_archive_has_are_counted_and_left_out(mirror, tmp_path):
    mirror.server.files["dataframe/Tiny_test.csv"] = Served(table([*rows_of("test"), (2, 9999), (3, 9998)]))
    events = bring(mirror, tmp_path)
    skipped = [event for event in events if isinstance(event, Skipped)]
    assert [(event.reason, event.count) for event in skipped] == [("no archive has the image", 2)]
    assert len(rows(tmp_path / "dataframe/Tiny_test.csv")) == 40


def test_a_member_that_is_damaged_on_the_server_is_counted_and_left_out(mirror, tmp_path):
    body = bytearray(mirror.bodies["images2.zip"])
    body[body.index(jpeg(2, 15)) + 99] ^= 0xFF
    mirror.server.files["images2.zip"] = Served(bytes(body))
    events = bring(mirror, tmp_path)
    skipped = [event for event in events if isinstance(event, Skipped)]
    assert [(event.reason, event.count) for event in skipped] == [("damaged on the server", 1)]
    assert images(tmp_path).keys() == set(rows_of("test")) - {(2, 15)}
    assert len(rows(tmp_path / "dataframe/Tiny_test.csv")) == 39


def test_a_server_without_ranges_still_delivers(mirror, tmp_path):
    for served in mirror.server.files.values():
        served.ranges = False
    events = bring(mirror, tmp_path)
    assert (tmp_path / "images2.zip").read_bytes() == mirror.bodies["images2.zip"]
    assert any(isinstance(event, Noted) and "does not serve ranges" in event.message for event in events)
    shard_release(tmp_path, tmp_path / "shards", ShardConfig(max_bad=0))


def test_dropped_connections_and_a_busy_server_are_asked_again(mirror, tmp_path):
    mirror.server.files["images2.zip"].drops = [1, 30_000, 500, 0]
    mirror.server.files["images3.zip"].refusals = [(503, {"Retry-After": "0"})] * 2
    bring(mirror, tmp_path)
    assert images(tmp_path) == {(part, number): jpeg(part, number) for part, number in rows_of("test")}


def test_an_archive_that_changes_meanwhile_is_an_error_and_what_fits_is_kept(mirror, tmp_path):
    body = mirror.bodies["images2.zip"]
    new = Served(body, etag='"two"')
    mirror.server.files["images2.zip"] = Served(
        body, drops=[1, 1, 66_000, 9_000], successor=new, drops_before_successor=4
    )
    with pytest.raises(DownloadError, match=r"images2\.zip has changed") as caught:
        bring(mirror, tmp_path, FetchConfig(split="test", connections=1))
    assert "run the same command again" in caught.value.hint
    before = images(tmp_path)
    bring(mirror, tmp_path)
    assert images(tmp_path) == {(part, number): jpeg(part, number) for part, number in rows_of("test")}
    assert before.items() <= images(tmp_path).items()


def test_what_came_before_the_retries_were_exhausted_is_not_fetched_again(mirror, tmp_path):
    some = [(2, number) for number in range(0, 60, 6)]
    mirror.server.files["dataframe/Tiny_test.csv"] = Served(table(some))
    mirror.server.files["images2.zip"].drops = [10**9] * 6 + [0] * 99
    config = FetchConfig(split="test", connections=1)
    with pytest.raises(DownloadError, match=r"images2\.zip"):
        bring(mirror, tmp_path, config)
    before = mirror.sent("images2")
    mirror.server.files["images2.zip"].drops = []
    bring(mirror, tmp_path, config)
    wanted = sum(len(jpeg(part, number)) for part, number in some)
    assert images(tmp_path) == {(part, number): jpeg(part, number) for part, number in some}
    assert 67_000 < before < mirror.sent("images2") <= 1.2 * wanted + 67_000


@pytest.mark.parametrize("kind", ["text/html", "application/zip"])
def test_a_web_page_in_the_place_of_an_archive_is_an_error_and_never_a_zip(mirror, tmp_path, kind):
    page = b"<!doctype html><title>Please log in</title>" * 3000
    mirror.server.files["images2.zip"] = Served(page, content_type=kind)
    with pytest.raises(DownloadError, match=r"images2\.zip") as caught:
        bring(mirror, tmp_path)
    assert "open the address in a browser" in caught.value.hint
    assert not list(tmp_path.glob("images2*"))


def test_a_second_call_in_the_same_folder_is_refused_while_the_first_is_at_work(mirror, tmp_path):
    refused = []

    def again(event: Event) -> None:
        if isinstance(event, Started) and not refused:
            with pytest.raises(UsageError, match="another dove fetch is running") as caught:
                fetch(mirror.release(), tmp_path, TEST, retry=QUICK)
            refused.append(caught.value.hint)

    fetch(mirror.release(), tmp_path, TEST, retry=QUICK, report=again)
    assert refused
    bring(mirror, tmp_path)


def test_a_mirror_in_a_folder_serves_members_too(mirror, tmp_path):
    for name, body in mirror.bodies.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(body)
    bring(mirror, tmp_path / "out", mirror=str(tmp_path / "copy"))
    assert images(tmp_path / "out") == {(part, number): jpeg(part, number) for part, number in rows_of("test")}
    assert mirror.server.asked == []
