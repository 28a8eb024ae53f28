"""A release arrives in a folder, one file after another, and nothing is fetched twice."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import SKYSCRIPT, Release, RemoteFile
from dove_core.data.fetching.fetch import fetch
from dove_core.data.fetching.servers import Version
from dove_core.data.fetching.transfers import Retry
from dove_core.errors import DownloadError, SpaceError, UsageError
from dove_core.events import Event, Noted, Saved, Started
from dove_core.files import atomic_file, write_record
from tests.http_server import Served, Server, serving

IMAGES = b"PK\x03\x04" + bytes(range(256)) * 400
META = b"PK\x03\x04" + bytes(range(256)) * 20
TABLE = b"filepath,title\nimages2/a1_CH_19.jpg,a pool\n"
BODIES = {"images2.zip": IMAGES, "meta2.zip": META, "dataframe/val.csv": TABLE}
QUICK = Retry(retries=2, first_wait=0.01, longest_wait=0.02)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a proxy of this machine out of the way: the server is here."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.files.update({path: Served(body) for path, body in BODIES.items()})
        yield running


def release_on(server: Server, **sums: str) -> Release:
    """Return a release of three files; the images' MD5 is the right one unless another is given."""
    images = RemoteFile("images2.zip", sums.get("images", hashlib.md5(IMAGES).hexdigest()))
    files = (RemoteFile("dataframe/val.csv"), images, RemoteFile("meta2.zip"))
    return Release("tiny", server.url(), files, "none", "https://example.org", "nobody", "a third party")


def test_every_file_arrives_in_the_releases_own_layout(server, tmp_path):
    paths = fetch(release_on(server), tmp_path / "new" / "tiny", retry=QUICK)
    assert paths == [tmp_path / "new" / "tiny" / name for name in ("dataframe/val.csv", "images2.zip", "meta2.zip")]
    assert [path.read_bytes() for path in paths] == [TABLE, IMAGES, META]
    rest = {path for path in (tmp_path / "new" / "tiny").glob("[!.]*") if path.is_file()} - set(paths)
    assert not rest


def test_every_file_is_asked_for_before_the_first_is_fetched(server, tmp_path):
    fetch(release_on(server), tmp_path, retry=QUICK)
    assert [asked.is_probe for asked in server.asked] == [True] * 3 + [False] * 3


def test_files_are_fetched_at_once(server, tmp_path):
    server.files["images2.zip"].trickle = 0.2  # seven pieces
    events: list[Event] = []
    fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    saved = [Path(event.path).name for event in events if isinstance(event, Saved)]
    assert saved.index("meta2.zip") < saved.index("images2.zip")


def test_one_connection_fetches_one_file_after_another(server, tmp_path):
    server.files["images2.zip"].trickle = 0.05
    events: list[Event] = []
    fetch(release_on(server), tmp_path, FetchConfig(connections=1), retry=QUICK, report=events.append)
    assert [Path(event.path).name for event in events if isinstance(event, Saved)] == [
        "val.csv",
        "images2.zip",
        "meta2.zip",
    ]


def test_the_plan_is_reported_first_and_each_file_when_it_is_here(server, tmp_path):
    events: list[Event] = []
    paths = fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    assert isinstance(events[0], Noted) and "3 of 3 files" in events[0].message
    assert {event.path for event in events if isinstance(event, Saved)} == set(map(str, paths))


def test_a_second_call_fetches_nothing_and_reads_no_sum_again(server, tmp_path):
    fetch(release_on(server), tmp_path, retry=QUICK)
    server.asked.clear()
    events: list[Event] = []
    paths = fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    assert [asked.is_probe for asked in server.asked] == [True] * 3
    assert [path.read_bytes() for path in paths] == [TABLE, IMAGES, META]
    assert not any(isinstance(event, Started) for event in events)


def test_an_interrupted_fetch_resumes_in_the_middle_of_a_file(server, tmp_path):
    server.files["images2.zip"].drops = [50_000] + [0] * QUICK.retries
    with pytest.raises(DownloadError):
        fetch(release_on(server), tmp_path, retry=QUICK)
    assert (tmp_path / "dataframe" / "val.csv").read_bytes() == TABLE
    fetch(release_on(server), tmp_path, retry=QUICK)
    assert (tmp_path / "images2.zip").read_bytes() == IMAGES
    assert sum(asked.sent for asked in server.gets("images2.zip")) == len(IMAGES)
    assert len(server.gets("dataframe/val.csv")) == 1


def test_what_a_killed_call_was_writing_is_removed(server, tmp_path):
    left = list[Path]()
    for folder in (tmp_path, tmp_path / "dataframe", tmp_path / ".fetch" / "directories"):
        with atomic_file(folder / "images2.zip.part.json"):
            (aside,) = folder.glob(".*.tmp")
            left.append(aside.with_name(aside.name.replace("part", "zip")))
            left[-1].write_bytes(b"{")
    (tmp_path / ".mine.tmp").write_bytes(b"not of dove")
    for path in tmp_path.rglob("images2.zip.part.json"):
        path.unlink()
    fetch(release_on(server), tmp_path, retry=QUICK)
    assert [path for path in left if path.exists()] == []
    assert (tmp_path / ".mine.tmp").exists()


def test_a_mirror_takes_the_place_of_the_releases_server(server, tmp_path):
    with serving() as mirror:
        mirror.files.update({f"copy/of%20it/{path}": Served(body) for path, body in BODIES.items()})
        paths = fetch(release_on(server), tmp_path, mirror=mirror.url("copy/of%20it"), retry=QUICK)
    assert [path.read_bytes() for path in paths] == [TABLE, IMAGES, META]
    assert server.asked == []


def test_proxy_variables_are_honoured(server, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", server.url())
    server.files.update({f"http://far.invalid/{path}": Served(body) for path, body in BODIES.items()})
    fetch(release_on(server), tmp_path, mirror="http://far.invalid", retry=QUICK)
    assert (tmp_path / "images2.zip").read_bytes() == IMAGES
    assert all(asked.path.startswith("http://far.invalid/") for asked in server.asked)


@pytest.mark.parametrize(
    "address", ["nonsense://example.org", "example.org/SkyScript", "http://", "http://a:b", "/data"]
)
def test_a_mirror_that_is_not_an_address_is_refused(server, tmp_path, address):
    with pytest.raises(UsageError, match=r"not a web address|unknown protocol"):
        fetch(release_on(server), tmp_path, mirror=address)


def test_a_folder_that_cannot_be_made_is_a_usage_error(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be written"):
        fetch(release_on(server), tmp_path / "file", retry=QUICK)


@pytest.mark.parametrize("status", [403, 404])
def test_a_missing_file_shows_before_anything_is_fetched(server, tmp_path, status):
    server.files["meta2.zip"].status = status
    with pytest.raises(DownloadError, match=r"meta2\.zip") as caught:
        fetch(release_on(server), tmp_path, retry=QUICK)
    assert "--mirror" in caught.value.hint
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_known_trouble_of_a_releases_server_is_the_hint_when_it_refuses_but_not_that_of_a_mirror(server, tmp_path):
    server.files["meta2.zip"].status = 403
    release = dataclasses.replace(release_on(server), refusal=SKYSCRIPT.refusal)
    with pytest.raises(DownloadError, match=r"refused .*meta2\.zip \(403") as caught:
        fetch(release, tmp_path, retry=QUICK)
    for help in ("4054", "August 2026", "--mirror", "--from", "`dove fetch rsicd`", "`dove fetch sample`"):
        assert help in caught.value.hint
    with pytest.raises(DownloadError) as caught:
        fetch(release, tmp_path, mirror=server.url().rstrip("/"), retry=QUICK)
    assert "4054" not in caught.value.hint
    server.files["meta2.zip"].status = 404
    with pytest.raises(DownloadError) as caught:
        fetch(release, tmp_path, retry=QUICK)
    assert "4054" not in caught.value.hint


def test_a_web_page_in_the_place_of_a_file_shows_before_anything_is_fetched(server, tmp_path):
    server.files["meta2.zip"] = Served(b"<html>moved</html>", content_type="text/html")
    with pytest.raises(DownloadError, match="web page"):
        fetch(release_on(server), tmp_path, retry=QUICK)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_server_that_ignores_ranges_still_delivers_once(server, tmp_path):
    for file in server.files.values():
        file.ranges = False
    paths = fetch(release_on(server), tmp_path, retry=QUICK)
    assert [path.read_bytes() for path in paths] == [TABLE, IMAGES, META]
    assert fetch(release_on(server), tmp_path, retry=QUICK) == paths
    assert len(server.gets("meta2.zip")) == 1


def test_a_server_that_sends_no_lengths_still_delivers(server, tmp_path):
    for file in server.files.values():
        file.announced, file.ranges = False, False
    events: list[Event] = []
    paths = fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    assert [path.read_bytes() for path in paths] == [TABLE, IMAGES, META]
    assert isinstance(events[0], Noted) and "3 of unknown length" in events[0].message
    fetch(release_on(server), tmp_path, retry=QUICK)
    assert len(server.gets("meta2.zip")) == 1


def test_a_server_that_is_busy_when_asked_for_lengths_is_asked_again(server, tmp_path):
    server.files["meta2.zip"].refusals = [(503, {})]
    assert len(fetch(release_on(server), tmp_path, retry=QUICK)) == 3


def test_a_release_larger_than_the_disk_is_refused_before_it_starts(server, tmp_path):
    server.files["meta2.zip"].total = 10**18
    with pytest.raises(SpaceError, match="no room") as caught:
        fetch(release_on(server), tmp_path, retry=QUICK)
    assert "GiB free" in caught.value.message and caught.value.hint
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_the_plan_counts_only_the_bytes_that_are_still_missing(server, tmp_path):
    with (tmp_path / "meta2.zip.part").open("wb") as sparse:
        sparse.truncate(3 * 2**30)
    write_record(tmp_path / "meta2.zip.part.json", Version('"one"', 4 * 2**30), 1)
    server.files["meta2.zip"] = Served(META, total=4 * 2**30, drops=[1, *[10] * 9])
    events: list[Event] = []
    with pytest.raises(DownloadError):
        fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    assert isinstance(events[0], Noted) and "1.00 GiB" in events[0].message


def test_half_a_file_under_the_final_name_is_replaced_by_the_whole_one(server, tmp_path):
    (tmp_path / "meta2.zip").write_bytes(META[:100])
    events: list[Event] = []
    fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    assert (tmp_path / "meta2.zip").read_bytes() == META
    assert any(isinstance(event, Noted) and "has 100 bytes" in event.message for event in events)


def test_a_file_brought_by_other_means_is_checked_against_its_sum_once(server, tmp_path):
    (tmp_path / "images2.zip").write_bytes(IMAGES)
    events: list[Event] = []
    fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    assert Started("verify images2.zip", len(IMAGES), "B", 0) in events
    assert server.gets("images2.zip") == []
    events.clear()
    fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    assert not any(isinstance(event, Started) for event in events)


def test_a_file_of_the_right_length_but_the_wrong_sum_is_an_error_and_stays(server, tmp_path):
    (tmp_path / "images2.zip").write_bytes(bytes(len(IMAGES)))
    with pytest.raises(DownloadError, match="a third party") as caught:
        fetch(release_on(server), tmp_path, retry=QUICK)
    assert str(tmp_path / "images2.zip") in caught.value.hint
    assert (tmp_path / "images2.zip").read_bytes() == bytes(len(IMAGES))


def test_a_file_that_is_changed_after_its_check_is_checked_again(server, tmp_path):
    fetch(release_on(server), tmp_path, retry=QUICK)
    (tmp_path / "images2.zip").write_bytes(bytes(len(IMAGES)))
    os.utime(tmp_path / "images2.zip", (1, 1))
    with pytest.raises(DownloadError, match="MD5"):
        fetch(release_on(server), tmp_path, retry=QUICK)


def test_a_file_that_fails_does_not_stop_the_other_files(server, tmp_path):
    server.files["meta2.zip"].trickle = 0.3
    with pytest.raises(DownloadError, match="a third party"):
        fetch(release_on(server, images="0" * 32), tmp_path, retry=QUICK)
    assert (tmp_path / "meta2.zip").read_bytes() == META


def test_a_wrong_md5_can_be_accepted_without_fetching_the_file_again(server, tmp_path):
    release = release_on(server, images="0" * 32)
    with pytest.raises(DownloadError, match="a third party"):
        fetch(release, tmp_path, retry=QUICK)
    fetch(release, tmp_path, FetchConfig(checksum=False), retry=QUICK)
    assert (tmp_path / "images2.zip").read_bytes() == IMAGES
    assert len(server.gets("images2.zip")) == 1
    with pytest.raises(DownloadError, match="a third party"):
        fetch(release, tmp_path, retry=QUICK)


def test_after_a_damaged_note_of_the_check_the_file_is_checked_again(server, tmp_path):
    fetch(release_on(server), tmp_path, retry=QUICK)
    (tmp_path / ".fetch/verified/images2.zip").write_text("{")
    events: list[Event] = []
    fetch(release_on(server), tmp_path, retry=QUICK, report=events.append)
    assert Started("verify images2.zip", len(IMAGES), "B", 0) in events
