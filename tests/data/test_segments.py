"""A large file comes in segments at once, and each goes on where it stopped."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dove_core.data.fetching.answers import Pace, Patience, Version
from dove_core.data.fetching.download import download
from dove_core.data.fetching.origins import WebFile
from dove_core.data.fetching.part import Part, partial_length
from dove_core.errors import DownloadError
from dove_core.events import Advanced, Event, Noted, Saved, Started
from tests.http_server import Served, Server, serving

ZIP = b"PK\x03\x04" + random.Random(1).randbytes(1_000_000)
RENEWED = b"PK\x03\x04" + random.Random(2).randbytes(1_000_000)
KNOWN = Version('"one"', len(ZIP))
SEGMENT = 100_000
PACE = Pace(4, SEGMENT, Patience(retries=3, first_wait=0.01, longest_wait=0.05))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as open_client:
        yield open_client


def bring(server: Server, client: httpx.Client, target: Path, **settings) -> list[Event]:
    """Fetch `target` in segments; return the events."""
    events: list[Event] = []
    settings = {"version": KNOWN, "pace": PACE, **settings}
    download(WebFile(server.url(target.name), client), target, report=events.append, **settings)
    return events


def ranges(server: Server, name: str) -> list[tuple[int, int]]:
    """Return the ranges that were asked for, without the look whether ranges are honoured."""
    asked = [re.fullmatch(r"bytes=(\d+)-(\d+)", get.headers.get("Range", "")) for get in server.gets(name)]
    found = [(int(match[1]), int(match[2]) + 1) for match in asked if match]
    return [pair for pair in found if pair != (1, 2)]


def test_a_large_file_arrives_whole_in_its_segments_and_nothing_else_is_left(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    starts = range(0, len(ZIP), SEGMENT)
    assert sorted(ranges(server, "a.zip")) == [(at, min(at + SEGMENT, len(ZIP))) for at in starts]


def test_segments_are_under_way_at_once(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    gate = threading.Barrier(4)  # breaks, and fails the test, unless four requests wait at it together
    reached = []

    class Gated(WebFile):
        def answer(self, start=0, end=None, kept=None):
            if end != 2 and len(reached) < 4:
                reached.append(start)
                gate.wait(5)
            return super().answer(start, end, kept)

    download(Gated(server.url("a.zip"), client), tmp_path / "a.zip", version=KNOWN, pace=PACE)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert not gate.broken


def test_all_segments_of_a_file_feed_one_task(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[0, 40_000, 30_000])
    events = bring(server, client, tmp_path / "a.zip")
    assert [event for event in events if isinstance(event, Started)] == [Started("fetch a.zip", len(ZIP), "B", 0)]
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == len(ZIP)
    assert events[-1] == Saved(str(tmp_path / "a.zip"))


def test_a_short_file_takes_one_stream(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP[:SEGMENT])
    bring(server, client, tmp_path / "a.zip", version=Version('"one"', SEGMENT))
    assert [get.headers.get("Range") for get in server.gets("a.zip")] == [None]


def test_a_dropped_segment_asks_for_its_missing_bytes_only(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[1, 40_000, 30_000, 20_000])
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert sum(get.sent for get in server.gets("a.zip")) == len(ZIP) + 1  # and the one byte of the look


def test_a_server_that_trickles_is_waited_for(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, trickle=0.002)
    events = bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert not any(isinstance(event, Noted) for event in events)


def test_a_server_that_sends_too_little_of_each_segment_is_asked_for_the_rest(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[1, *[99_000] * 11])
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_busy_server_is_asked_again_segment_by_segment(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    server.files["a.zip"].refusals = [(503, {"Retry-After": "0"})] * 3
    events = bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert any(isinstance(event, Noted) and "503" in event.message for event in events)


def stopped(server: Server, client: httpx.Client, target: Path, drops: list[int]) -> None:
    """Fetch until the server has dropped so often that patience is at its end."""
    server.files[target.name].drops = [1, *drops, *[0] * 40]
    with pytest.raises(DownloadError) as caught:
        bring(server, client, target)
    assert str(target) in caught.value.hint
    server.files[target.name].drops = []
    server.asked.clear()


def test_a_later_call_goes_on_inside_each_segment(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    stopped(server, client, tmp_path / "a.zip", [60_000, 50_000, 100_000, 30_000])
    kept = partial_length(tmp_path / "a.zip")
    assert 0 < kept < len(ZIP)
    events = bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert events[0] == Started("fetch a.zip", len(ZIP), "B", kept)
    assert sum(end - start for start, end in ranges(server, "a.zip")) == len(ZIP) - kept


def test_segments_keep_their_length_when_a_later_call_is_told_another(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    stopped(server, client, tmp_path / "a.zip", [60_000, 50_000])
    kept = partial_length(tmp_path / "a.zip")
    bring(server, client, tmp_path / "a.zip", pace=Pace(2, 7_777, PACE.patience))
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert sum(end - start for start, end in ranges(server, "a.zip")) == len(ZIP) - kept


def test_what_one_stream_has_brought_is_kept_when_segments_go_on(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, drops=[250_000])
    with pytest.raises(DownloadError):
        bring(server, client, tmp_path / "a.zip", pace=Pace(1, SEGMENT, Patience(retries=0)))
    server.asked.clear()
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert min(ranges(server, "a.zip")) == (250_000, 300_000)


def test_a_server_without_ranges_still_delivers_in_one_stream(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, ranges=False)
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_server_that_gave_up_ranges_gets_no_trust_for_a_sparse_part(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    stopped(server, client, tmp_path / "a.zip", [60_000])
    server.files["a.zip"].ranges = False
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


@pytest.mark.parametrize("mark", [None, 'W/"weak"'])
def test_without_a_strong_mark_there_are_no_segments(server, client, tmp_path, mark):
    server.files["a.zip"] = Served(ZIP, etag=mark)
    bring(server, client, tmp_path / "a.zip", version=Version(None, len(ZIP)))
    assert [get.headers.get("Range") for get in server.gets("a.zip")] == [None]


@pytest.mark.parametrize("if_range", [True, False], ids=["honours If-Range", "passes over If-Range"])
def test_a_file_that_changes_between_segments_starts_over_and_says_so(server, client, tmp_path, if_range):
    new = Served(RENEWED, etag='"two"', if_range=if_range)
    server.files["a.zip"] = Served(ZIP, drops=[1, 50_000, 60_000], successor=new, drops_before_successor=3)
    events = bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == RENEWED
    assert any(isinstance(event, Noted) and "has changed" in event.message for event in events)


def test_a_file_that_changed_between_two_calls_starts_over_and_says_so(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    stopped(server, client, tmp_path / "a.zip", [60_000])
    server.files["a.zip"] = Served(RENEWED, etag='"two"')
    events = bring(server, client, tmp_path / "a.zip", version=Version('"two"', len(RENEWED)))
    assert (tmp_path / "a.zip").read_bytes() == RENEWED
    assert any(isinstance(event, Noted) and "has changed" in event.message for event in events)


def test_more_bytes_than_a_range_asks_for_are_not_believed(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, excess=5)
    with pytest.raises(DownloadError, match="more than was asked for"):
        bring(server, client, tmp_path / "a.zip", pace=Pace(2, SEGMENT, Patience(retries=0)))
    assert not (tmp_path / "a.zip").exists()


def test_a_refusal_in_one_segment_ends_all_and_keeps_what_is_here(server, client, tmp_path):
    forbidden = Served(ZIP, status=403)
    server.files["a.zip"] = Served(ZIP, drops=[1, 50_000], successor=forbidden, drops_before_successor=2)
    with pytest.raises(DownloadError, match="403"):
        bring(server, client, tmp_path / "a.zip")
    server.files["a.zip"] = Served(ZIP)
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


@pytest.mark.parametrize("damage", ["no journal", "short journal", "no note", "lying journal", "short part"])
def test_segments_without_sound_notes_are_not_trusted(server, client, tmp_path, damage):
    server.files["a.zip"] = Served(ZIP)
    stopped(server, client, tmp_path / "a.zip", [60_000, 50_000])
    part = Part(tmp_path / "a.zip")
    if damage == "no journal":
        part.journal.unlink()
    elif damage == "short journal":
        part.journal.write_bytes(part.journal.read_bytes()[:-3])
    elif damage == "no note":
        part.note.unlink()
    elif damage == "lying journal":
        part.journal.write_bytes(b"\xff" * len(part.journal.read_bytes()))
    else:
        part.path.write_bytes(part.path.read_bytes()[:1000])
    assert partial_length(tmp_path / "a.zip") == 0
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_wrong_sum_keeps_the_bytes_for_a_call_without_it(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP)
    with pytest.raises(DownloadError, match="a third party"):
        bring(server, client, tmp_path / "a.zip", md5="0" * 32, md5_source="a third party")
    server.asked.clear()
    bring(server, client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert ranges(server, "a.zip") == []
