"""One URL becomes one verified file, whatever the server does meanwhile."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dove_core.data.fetching.download import Partial, download
from dove_core.data.fetching.servers import WebFile
from dove_core.data.fetching.transfers import Retry, Transfers
from dove_core.errors import DownloadError
from dove_core.events import Advanced, Event, Noted, Report, Saved, Started, silent
from tests.http_server import Served, Server, serving

ZIP = b"PK\x03\x04" + random.Random(1).randbytes(300_000)
RENEWED = b"PK\x03\x04" + random.Random(2).randbytes(310_000)
TABLE = b"filepath,title,title_multi_objects\nimages2/a1_CH_19.jpg,a pool,a pool near a road\n"
QUICK = Retry(retries=3, first_wait=0.01, longest_wait=0.05)
ONCE = Retry(retries=0)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as open_client:
        yield open_client


def bring(
    server: Server, client: httpx.Client, target: Path, *, retry: Retry = QUICK, report: Report = silent, **settings
) -> None:
    """Fetch the file of the target's name."""
    download(WebFile(server.url(target.name), client), target, Transfers(1, retry, report), **settings)


def refused(server: Server, client: httpx.Client, target: Path, **settings) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        bring(server, client, target, **settings)
    assert not target.exists()
    assert caught.value.hint
    return caught.value


def test_a_file_arrives_whole_and_nothing_else_is_left(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    bring(server, client, tmp_path / "deep" / "a.zip", md5=hashlib.md5(ZIP).hexdigest())
    assert (tmp_path / "deep" / "a.zip").read_bytes() == ZIP
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.zip"]


def test_events_report_the_start_the_bytes_and_the_file(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[100_000])
    events: list[Event] = []
    bring(server, client, tmp_path / "a.zip", report=events.append)
    assert events[0] == Started("fetch a.zip", len(ZIP), "B", 0)
    assert sum(isinstance(event, Started) for event in events) == 1
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == len(ZIP)
    assert events[-1] == Saved(str(tmp_path / "a.zip"))


def test_a_resumed_task_starts_with_the_bytes_that_are_here(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[100_000])
    refused(server, client, tmp_path / "a.zip", retry=ONCE)
    events: list[Event] = []
    bring(server, client, tmp_path / "a.zip", report=events.append)
    assert events[0] == Started("fetch a.zip", len(ZIP), "B", 100_000)
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == len(ZIP) - 100_000


def test_after_a_dropped_connection_only_the_missing_bytes_are_asked_for(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[100_000, 50_000])
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    ranges = [asked.headers.get("Range") for asked in server.gets("a.zip")]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert sum(asked.sent for asked in server.gets("a.zip")) == len(ZIP)


def test_drops_that_each_bring_new_bytes_never_use_up_the_retries(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[20_000] * 10)
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_drops_without_a_new_byte_end_in_an_error_that_keeps_what_is_here(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[100_000] + [0] * 9)
    error = refused(server, client, tmp_path / "a.zip")
    assert "a.zip" in error.message
    assert str(tmp_path / "a.zip.part") in error.hint
    assert (tmp_path / "a.zip.part").read_bytes() == ZIP[:100_000]
    assert len(server.gets("a.zip")) == 1 + QUICK.retries


def test_a_server_that_cannot_resume_and_always_drops_ends_in_an_error(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, ranges=False, drops=[100_000] * 99)
    refused(server, client, tmp_path / "a.zip")
    assert len(server.gets("a.zip")) == 1 + QUICK.retries


def test_a_stalled_server_counts_as_a_dropped_connection(server, tmp_path):
    server.files["a.zip"] = Served(ZIP, stall_after=100_000)
    events: list[Event] = []
    with httpx.Client(timeout=0.2, trust_env=False) as hasty:
        bring(server, hasty, tmp_path / "a.zip", report=events.append)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert any(isinstance(event, Noted) and "timed out" in event.message for event in events)


def test_a_server_that_ignores_ranges_still_delivers(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, ranges=False, drops=[100_000])
    events: list[Event] = []
    bring(server, client, tmp_path / "a.zip", report=events.append)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert any(isinstance(event, Noted) and "cannot resume" in event.message for event in events)
    assert [event.done for event in events if isinstance(event, Started)] == [0, 0]


@pytest.mark.parametrize("if_range", [True, False], ids=["honours If-Range", "ignores If-Range"])
def test_a_file_that_changes_midway_starts_over_and_says_so(server, client, tmp_path, if_range):
    new = Served(RENEWED, etag='"two"', if_range=if_range)
    server.files["a.zip"] = Served(ZIP, drops=[100_000], successor=new)
    events: list[Event] = []
    bring(server, client, tmp_path / "a.zip", report=events.append)
    assert (tmp_path / "a.zip").read_bytes() == RENEWED
    assert any(isinstance(event, Noted) and "has changed" in event.message for event in events)


def test_a_file_of_the_same_length_but_another_etag_is_not_mixed_with_the_old_one(server, client, tmp_path):
    new = Served(RENEWED[: len(ZIP)], etag='"two"', if_range=False)
    server.files["a.zip"] = Served(ZIP, drops=[100_000], successor=new)
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == RENEWED[: len(ZIP)]


def test_a_file_that_became_shorter_than_what_is_here_starts_over(server, client, tmp_path):
    new = Served(RENEWED[:50_000], etag='"two"', if_range=False)
    server.files["a.zip"] = Served(ZIP, drops=[100_000], successor=new)
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == RENEWED[:50_000]


def test_without_an_etag_the_date_of_the_last_change_guards_the_resume(server, client, tmp_path):
    date = "Wed, 01 May 2024 10:00:00 GMT"
    server.files["a.zip"] = Served(ZIP, etag='W/"weak"', modified=date, drops=[100_000])
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    second = server.gets("a.zip")[1].headers
    assert (second["Range"], second["If-Range"]) == ("bytes=100000-", date)


def test_without_etag_and_date_nothing_is_resumed(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, etag=None, drops=[100_000])
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert [asked.headers.get("Range") for asked in server.gets("a.zip")] == [None, None]


@pytest.mark.parametrize("note", [None, "{", '{"format": 9, "mark": "x", "size": 1}'])
def test_a_partial_file_without_a_readable_note_is_not_used(server, client, tmp_path, note):
    server.files["a.zip"] = Served(ZIP)
    (tmp_path / "a.zip.part").write_bytes(b"PK\x03\x04 of something else")
    if note is not None:
        (tmp_path / "a.zip.part.json").write_text(note)
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_whole_partial_file_is_finished_without_fetching_it_again(server, client, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(ZIP)
    note = {"format": 1, "mark": '"one"', "size": len(ZIP)}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(note))
    bring(server, client, tmp_path / "a.zip", size=len(ZIP))
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert server.asked == []


def test_a_whole_partial_file_of_another_length_than_the_servers_starts_over(server, client, tmp_path):
    server.files["a.zip"] = Served(RENEWED)
    (tmp_path / "a.zip.part").write_bytes(ZIP)
    note = {"format": 1, "mark": '"one"', "size": len(ZIP)}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(note))
    bring(server, client, tmp_path / "a.zip", size=len(RENEWED))
    assert (tmp_path / "a.zip").read_bytes() == RENEWED


def test_a_refusal_in_mid_download_keeps_the_partial_file(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[100_000], successor=Served(ZIP, status=403))
    refused(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip.part").read_bytes() == ZIP[:100_000]


@pytest.mark.parametrize("name", ["a.zip", "a.csv"])
@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_never_saved_as_the_file(server, client, tmp_path, name, content_type):
    server.files[name] = Served(b"\n<!doctype html><title>Please log in</title>", content_type=content_type)
    refused(server, client, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04\x00binary", b"\x00\x01"])
def test_what_is_not_a_table_is_not_saved_as_one(server, client, tmp_path, body):
    server.files["a.csv"] = Served(body)
    refused(server, client, tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("body", [TABLE, b"\xef\xbb\xbf" + TABLE])
def test_a_table_passes_with_and_without_a_byte_order_mark(server, client, tmp_path, body):
    server.files["a.csv"] = Served(body, content_type="text/csv")
    bring(server, client, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == body


def test_an_empty_archive_is_an_archive(server, client, tmp_path):
    server.files["a.zip"] = Served(b"PK\x05\x06" + bytes(18))
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").stat().st_size == 22


def test_fewer_bytes_than_the_plan_says_are_an_error_where_the_server_announces_none(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP[:100_000], announced=False, etag=None)
    error = refused(server, client, tmp_path / "a.zip", size=len(ZIP))
    assert f"100000 of {len(ZIP)}" in error.message


def test_fewer_bytes_than_announced_are_asked_for_again(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP[:100_000], total=len(ZIP), drops=[100_000], successor=Served(ZIP))
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_more_bytes_than_announced_are_an_error(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, announced=False)
    error = refused(server, client, tmp_path / "a.zip", size=100_000)
    assert "more than the 100000 bytes" in error.message
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_unknown_length_arrives_whole(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, announced=False)
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_wrong_md5_says_who_published_it_and_keeps_the_bytes_for_a_call_without_it(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    error = refused(server, client, tmp_path / "a.zip", md5="0" * 32, md5_source="a third party")
    assert "a third party" in error.message and hashlib.md5(ZIP).hexdigest() in error.message
    assert "--no-checksum" in error.hint and str(tmp_path / "a.zip.part") in error.hint
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert len(server.asked) == 1


def test_another_range_than_requested_is_an_error(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[100_000], successor=Served(ZIP, shifted=7))
    error = refused(server, client, tmp_path / "a.zip")
    assert "another range of the file" in error.message
    assert (tmp_path / "a.zip.part").read_bytes() == ZIP[:100_000]


def test_a_compressed_answer_is_not_saved_as_the_file(server, client, tmp_path):
    server.files["a.csv"] = Served(TABLE, coding="gzip")
    assert "compressed (gzip)" in refused(server, client, tmp_path / "a.csv").message
    assert list(tmp_path.iterdir()) == []


def test_only_bytes_that_can_be_resumed_from_count_as_here(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[100_000])
    refused(server, client, tmp_path / "a.zip", retry=ONCE)
    assert Partial(tmp_path / "a.zip").resumable() == 100_000
    (tmp_path / "a.zip.part.json").unlink()
    assert Partial(tmp_path / "a.zip").resumable() == 0
