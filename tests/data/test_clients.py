"""Proxies and certificates of the environment, and what of an address is shown."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import httpx
import pytest

from dove_core.config import FetchConfig
from dove_core.data.fetching.clients import is_excepted, shown, web_client
from dove_core.data.fetching.download import download
from dove_core.data.fetching.fetch import fetch
from dove_core.data.fetching.origins import opened
from dove_core.data.fetching.transfers import Retry, Transfers
from dove_core.errors import DownloadError, UsageError
from dove_core.events import Event, Noted
from tests.data.mirror import QUICK, Mirror, jpeg, rows_of, stem
from tests.http_server import Served, serving

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    "exceptions",
    ["*", "127.0.0.1", "localhost,[::1], 127.0.0.1", "::1/128,127.0.0.0/8", "[127.0.0.1]:80", "http://127.0.0.1"],
)
def test_a_host_that_no_proxy_names_is_asked_directly(monkeypatch, exceptions):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", exceptions)
    with serving() as server, web_client(1) as client:
        server.files["x"] = Served(b"here")
        assert client.get(server.url("x")).content == b"here"


def test_another_host_is_asked_through_the_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.com, 10.0.0.0/8, *.local, [::1]")
    with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        proxy.files["http://nowhere.invalid/x"] = Served(b"by the proxy")
        with web_client(1) as client:
            assert client.get("http://nowhere.invalid/x").content == b"by the proxy"


def test_no_proxy_names_hosts_domains_and_networks():
    assert is_excepted("a.example.com", ".example.com")
    assert is_excepted("example.com", "*.example.com")
    assert is_excepted("10.1.2.3", "localhost, 10.0.0.0/8")
    assert is_excepted("::1", "[::1]")
    assert not is_excepted("myexample.com", "example.com")
    assert not is_excepted("11.1.2.3", "10.0.0.0/8")
    assert not is_excepted("example.com", "")


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_that_does_not_answer_is_named(monkeypatch, variable):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with (
        web_client(1) as client,
        pytest.raises(httpx.ProxyError, match=f"the proxy of {variable} does not work: .*refused"),
    ):
        client.get("http://example.org")


@pytest.mark.parametrize("base", ["http:///x", "http://127.0.0.1:99999/x", "http://127.0.0.1:port/x", "http://[::1/x"])
def test_an_address_without_a_host_or_with_a_wrong_port_is_no_web_address(base):
    with pytest.raises(UsageError, match="is not a web address"), opened(base, 1):
        pass


def test_a_server_that_wants_a_login_is_answered_with_the_option_that_takes_it(tmp_path):
    with serving() as server, opened(server.url(), 1) as origin_of:
        server.files["x.bin"] = Served(b"", refusals=[(401, {"WWW-Authenticate": "Basic realm=x"})])
        with pytest.raises(DownloadError, match="needs a login") as caught:
            download(origin_of("x.bin"), tmp_path / "x.bin", Transfers(1, QUICK))
        assert "--mirror https://NAME:PASSWORD@" in caught.value.hint


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "http://me:pa#ss@127.0.0.1:9"),
        ("HTTPS_PROXY", "http://127.0.0.1:port"),
        ("HTTP_PROXY", "http://me:pa ss@host:port"),
        ("ALL_PROXY", "socks4://127.0.0.1:9"),
        ("all_proxy", "ftp://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/nowhere/cacert.pem"),
        ("SSL_CERT_FILE", os.devnull),
        ("SSL_CERT_DIR", "/nowhere"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_without_its_password(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError) as caught, web_client(1):
        pass
    assert variable in caught.value.message
    assert f"unset {variable}" in caught.value.hint
    assert "pa" not in caught.value.message.replace("path", "")


@pytest.mark.parametrize("kind", ["socks", "socks5", "socks5h"])
def test_a_socks_proxy_is_used_or_its_package_is_named(monkeypatch, kind):
    monkeypatch.setenv("ALL_PROXY", f"{kind}://127.0.0.1:9")
    try:
        import socksio  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="socksio"), web_client(1):
            pass
    else:
        with web_client(1) as client, pytest.raises(httpx.ConnectError):
            client.get("http://example.org")


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("https://me:secret@example.org/a.zip?sig=abc", "https://***@example.org/a.zip?***"),
        ("http://me:s/e#c?r@t@example.org/x", "http://***@example.org/x"),
        ("http://token@example.org:80/x", "http://***@example.org:80/x"),
        ("http://example.org:80/@a/b", "http://example.org:80/@a/b"),
        ("/data/me@home?x", "/data/me@home?x"),
        ("s3://bucket/folder", "s3://bucket/folder"),
    ],
)
def test_an_address_is_shown_without_password_and_signature(address, seen):
    assert shown(address) == seen


def _fetch(server, mirror, tmp_path, *words):
    command = [sys.executable, "-m", "dove_cli", "fetch", "rsicd", "--mirror", mirror, "--out", str(tmp_path / "out")]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "there"),
    [(("--dry-run", "--json"), True), (("--check",), False), (("--yes",), False), (("--yes",), True)],
)
def test_a_password_and_a_signature_are_sent_and_never_printed(tmp_path, words, there):
    with serving() as server:
        path = "S/benchmark/RSICD.zip?sig=geheim"
        server.files[path] = Served(b"PK\x05\x06" + bytes(18), status=200 if there else 403)
        mirror = server.url("S?sig=geheim").replace("http://", "http://me:s3cret@")
        done = _fetch(server, mirror, tmp_path, *words)
        assert all(one.path.startswith("/S/") and one.path.endswith("?sig=geheim") for one in server.asked)
        assert server.asked[0].headers["Authorization"].startswith("Basic ")
    assert "s3cret" not in done.stdout + done.stderr
    assert "geheim" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if "--json" in words:
        assert json.loads(done.stdout)["files"][0]["url"].endswith("?***")


@pytest.mark.parametrize("status", [206, 200])
def test_a_range_that_is_answered_with_200_is_appended_like_any_other(tmp_path, status):
    body = os.urandom(300_000)
    with serving() as server:
        server.files["x.bin"] = Served(body, range_status=status, drops=[100_000])
        with opened(server.url(), 1) as origin_of:
            origin = origin_of("x.bin")
            assert origin.examine().version.size == len(body)
            assert origin.examine().has_ranges
            download(origin, tmp_path / "x.bin", Transfers(1, QUICK))
    assert (tmp_path / "x.bin").read_bytes() == body


def restless(body: bytes, **how: Any) -> Served:
    """Return a file whose ETag is another one with each answer."""
    return Served(body, tags=(f'"{number}"' for number in itertools.count()), **how)


@pytest.mark.parametrize("if_range", [True, False], ids=["honours If-Range", "ignores If-Range"])
def test_a_server_with_a_new_etag_for_each_answer_gives_the_whole_file_and_it_is_said_why_nothing_resumes(
    tmp_path, if_range
):
    body, events = os.urandom(300_000), list[Event]()
    with serving() as server:
        server.files["x.bin"] = restless(body, drops=[100_000, 50_000], if_range=if_range)
        with opened(server.url(), 1) as origin_of:
            download(origin_of("x.bin"), tmp_path / "x.bin", Transfers(1, QUICK, events.append))
    assert (tmp_path / "x.bin").read_bytes() == body
    notes = [event.message for event in events if isinstance(event, Noted) and "another ETag" in event.message]
    assert len(notes) == 1  # after that the bytes have no mark, and nothing is asked again
    assert "cannot resume: starting over" in notes[0]


@pytest.mark.parametrize("if_range", [True, False], ids=["honours If-Range", "ignores If-Range"])
def test_with_a_new_etag_for_each_answer_the_date_of_the_last_change_guards_the_resume(tmp_path, if_range):
    body, date = os.urandom(300_000), "Wed, 01 May 2024 10:00:00 GMT"
    with serving() as server:
        server.files["x.bin"] = restless(body, modified=date, drops=[100_000, 50_000, 60_000], if_range=if_range)
        for _ in range(2):  # the second call finds what the first has left
            with opened(server.url(), 1) as origin_of, suppress(DownloadError):
                download(origin_of("x.bin"), tmp_path / "x.bin", Transfers(1, Retry(retries=1, first_wait=0.01)))
        asked = [one.headers.get("Range") for one in server.gets("x.bin")]
    assert (tmp_path / "x.bin").read_bytes() == body
    assert asked[-2:] == ["bytes=50000-", "bytes=110000-"]


@pytest.mark.parametrize("if_range", [True, False], ids=["honours If-Range", "ignores If-Range"])
def test_members_are_fetched_from_a_server_with_a_new_etag_for_each_answer(tmp_path, if_range):
    events = list[Event]()
    with serving() as server:
        mirror = Mirror(server)
        for path in ("images2.zip", "images3.zip"):
            mirror.server.files[path] = restless(mirror.bodies[path], if_range=if_range)
        config = FetchConfig(split="test", meta=False, connections=1)
        fetch(mirror.release(), tmp_path, config, retry=QUICK, report=events.append)
    found = {path.stem: path.read_bytes() for path in tmp_path.glob("images*/*.jpg")}
    assert found == {stem(part, number): jpeg(part, number) for part, number in rows_of("test")}
    assert sum(isinstance(event, Noted) and "another ETag" in event.message for event in events) <= 4
    assert not list(tmp_path.glob("*.zip"))
