"""Refusals, waits and detours: what a server may answer before the file itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from dove_core.data.fetching.answers import Pace, Patience
from dove_core.data.fetching.download import download
from dove_core.data.fetching.origins import WebFile, probe
from dove_core.errors import DownloadError
from dove_core.events import Event, Noted
from tests.http_server import Served, Server, serving

ZIP = b"PK\x03\x04" + bytes(range(256)) * 40
QUICK = Pace(patience=Patience(retries=3, first_wait=0.01, longest_wait=0.05))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as open_client:
        yield open_client


def refused(server: Server, client: httpx.Client, target: Path, **settings) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        download(WebFile(server.url(target.name), client), target, **{"pace": QUICK, **settings})
    assert not target.exists()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server, client, tmp_path, status):
    server.files["a.zip"] = Served(ZIP, refusals=[(status, {})] * 2)
    events: list[Event] = []
    download(WebFile(server.url("a.zip"), client), tmp_path / "a.zip", pace=QUICK, report=events.append)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert sum(isinstance(event, Noted) and str(status) in event.message for event in events) == 2


def test_retry_after_in_seconds_is_waited_for(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, refusals=[(503, {"Retry-After": "1"})])
    begin = time.monotonic()
    download(WebFile(server.url("a.zip"), client), tmp_path / "a.zip", pace=QUICK)
    assert time.monotonic() - begin >= 1.0


def test_retry_after_as_a_date_is_waited_for(server, client, tmp_path):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)  # full seconds: 1 to 2 from now
    server.files["a.zip"] = Served(ZIP, refusals=[(503, {"Retry-After": date})])
    begin = time.monotonic()
    download(WebFile(server.url("a.zip"), client), tmp_path / "a.zip", pace=QUICK)
    assert time.monotonic() - begin >= 0.8


def test_a_retry_after_that_makes_no_sense_is_passed_over(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, refusals=[(503, {"Retry-After": "soon"})])
    download(WebFile(server.url("a.zip"), client), tmp_path / "a.zip", pace=QUICK)
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_wait_of_hours_is_an_error_that_names_it(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, refusals=[(429, {"Retry-After": "7200"})])
    assert "7200 s" in refused(server, client, tmp_path / "a.zip").message


def test_waits_grow_up_to_their_bound():
    patience = Patience(first_wait=1, longest_wait=10)
    assert [patience.wait(failures) for failures in (1, 2, 3, 4, 5, 6, 9999)] == [1, 2, 4, 8, 10, 10, 10]


def test_403_is_final_and_names_both_causes(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, status=403)
    error = refused(server, client, tmp_path / "a.zip")
    assert "403" in error.message and server.url("a.zip") in error.message
    assert "no such file" in error.hint and "access is refused" in error.hint
    assert len(server.asked) == 1


def test_404_is_final(server, client, tmp_path):
    assert "404" in refused(server, client, tmp_path / "a.zip").message
    assert len(server.asked) == 1


def test_redirects_are_followed(server, client, tmp_path):
    server.files["old/a.zip"] = Served(b"", redirect="/a.zip")
    server.files["a.zip"] = Served(ZIP)
    download(WebFile(server.url("old/a.zip"), client), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_redirects_in_a_circle_end(server, client, tmp_path):
    server.files["a.zip"] = Served(b"", redirect="/a.zip")
    assert "redirects" in refused(server, client, tmp_path / "a.zip").message


def test_a_server_that_is_not_there_is_an_error(client, tmp_path):
    with serving() as gone:
        url = gone.url("a.zip")
    with pytest.raises(DownloadError, match="refused"):
        download(WebFile(url, client), tmp_path / "a.zip", pace=QUICK)


def test_a_length_is_told_by_head_or_by_a_range_of_one_byte_or_by_nobody(server, client):
    server.files["head.zip"] = Served(ZIP)
    server.files["range.zip"] = Served(ZIP, head=False)
    server.files["shy.zip"] = Served(ZIP, hang_up_on_head=True)
    server.files["empty.zip"] = Served(b"", head=False)
    server.files["silent.zip"] = Served(ZIP, announced=False, ranges=False)
    lengths = {
        name: probe(WebFile(server.url(name), client), patience=QUICK.patience).version.size for name in server.files
    }
    assert lengths == {
        "head.zip": len(ZIP),
        "range.zip": len(ZIP),
        "shy.zip": len(ZIP),
        "empty.zip": 0,
        "silent.zip": None,
    }
