"""Refusals, waits and detours: what a server may answer before the file itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from dove_core.data.fetching.download import download
from dove_core.data.fetching.servers import WebFile
from dove_core.data.fetching.transfers import Retry, Transfers
from dove_core.errors import DownloadError
from dove_core.events import Event, Noted, Report, silent
from tests.http_server import Served, Server, serving

ZIP = b"PK\x03\x04" + bytes(range(256)) * 40
QUICK = Retry(retries=3, first_wait=0.01, longest_wait=0.05)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as open_client:
        yield open_client


def bring(url: str, client: httpx.Client, target: Path, report: Report = silent) -> None:
    download(WebFile(url, client), target, Transfers(1, QUICK, report))


def refused(server: Server, client: httpx.Client, target: Path) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        bring(server.url(target.name), client, target)
    assert not target.exists()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server, client, tmp_path, status):
    server.files["a.zip"] = Served(ZIP, refusals=[(status, {})] * 2)
    events: list[Event] = []
    bring(server.url("a.zip"), client, tmp_path / "a.zip", events.append)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert sum(isinstance(event, Noted) and str(status) in event.message for event in events) == 2


def test_retry_after_in_seconds_is_waited_for(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, refusals=[(503, {"Retry-After": "1"})])
    begin = time.monotonic()
    bring(server.url("a.zip"), client, tmp_path / "a.zip")
    assert time.monotonic() - begin >= 1.0


def test_retry_after_as_a_date_is_waited_for(server, client, tmp_path):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)  # full seconds: 1 to 2 from now
    server.files["a.zip"] = Served(ZIP, refusals=[(503, {"Retry-After": date})])
    begin = time.monotonic()
    bring(server.url("a.zip"), client, tmp_path / "a.zip")
    assert time.monotonic() - begin >= 0.8


def test_an_invalid_retry_after_is_ignored(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, refusals=[(503, {"Retry-After": "soon"})])
    bring(server.url("a.zip"), client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_a_wait_of_hours_is_an_error_that_names_it(server, client, tmp_path):
    server.files["a.zip"] = Served(ZIP, refusals=[(429, {"Retry-After": "7200"})])
    assert "7200 s" in refused(server, client, tmp_path / "a.zip").message


def test_waits_grow_up_to_their_bound():
    retry = Retry(first_wait=1, longest_wait=10)
    assert [retry.wait(failures) for failures in (1, 2, 3, 4, 5, 6, 9999)] == [1, 2, 4, 8, 10, 10, 10]


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
    bring(server.url("old/a.zip"), client, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == ZIP


def test_redirects_in_a_circle_end(server, client, tmp_path):
    server.files["a.zip"] = Served(b"", redirect="/a.zip")
    assert "redirects" in refused(server, client, tmp_path / "a.zip").message


def test_a_server_that_is_not_there_is_an_error(client, tmp_path):
    with serving() as gone:
        url = gone.url("a.zip")
    with pytest.raises(DownloadError, match="refused"):
        bring(url, client, tmp_path / "a.zip")


def test_one_byte_shows_length_version_and_whether_ranges_are_served(server, client):
    server.files["a.zip"] = Served(ZIP)
    server.files["whole.zip"] = Served(ZIP, ranges=False)
    server.files["empty.zip"] = Served(b"")
    server.files["unknown.zip"] = Served(ZIP, announced=False, ranges=False)
    found = {name: WebFile(server.url(name), client).examine() for name in server.files}
    assert {name: (remote.version.size, remote.has_ranges) for name, remote in found.items()} == {
        "a.zip": (len(ZIP), True),
        "whole.zip": (len(ZIP), False),
        "empty.zip": (0, False),
        "unknown.zip": (None, False),
    }
    assert found["a.zip"].version.mark == '"one"'
    assert server.asked[0].sent == 1
