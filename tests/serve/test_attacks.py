"""What strangers try: slow clients, large bodies, decompression bombs, paths, hosts, scripts, missing tokens."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
import time
import zlib
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from tests.serve.conftest import fetch, send, served

LIMIT = 2.0
"""Seconds that the server of these tests gives its clients."""


def connected(server):
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def spoken(server, text, *, every=0.2):
    """Send a request byte by byte; return the answer and the seconds until the server ended the connection."""
    began = time.monotonic()
    with connected(server) as line:
        try:
            for byte in text:
                line.sendall(bytes([byte]))
                time.sleep(every)
                if time.monotonic() - began > 10 * LIMIT:
                    break
        except OSError:
            pass
        try:
            return line.recv(10_000), time.monotonic() - began
        except OSError:
            return b"", time.monotonic() - began


def test_a_client_that_trickles_headers_is_cut_off(server):
    answer, seconds = spoken(server, b"GET /search?q=red HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 100)
    assert answer == b""
    assert seconds < 3 * LIMIT


def test_a_client_that_trickles_its_body_is_told_so(server):
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    with connected(server) as line:
        line.sendall(head)
        began, answer = time.monotonic(), b""
        line.settimeout(0.2)
        while not answer and time.monotonic() - began < 5 * LIMIT:
            line.sendall(b" ")
            try:
                answer = line.recv(10_000)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 3 * LIMIT


def test_many_silent_connections_do_not_stop_the_others(server):
    silent = [connected(server) for _ in range(100)]
    try:
        assert fetch(f"{server.url}/search", params={"q": "a red circle"}, timeout=30).status_code == 200
    finally:
        for line in silent:
            line.close()


@pytest.mark.parametrize(
    ("path", "size"), [("search", 2 * 2**20), ("search/image", 3 * 2**20), ("knn-service", 3 * 2**20)]
)
def test_a_large_body_is_refused(server, path, size):
    answer = send(f"{server.url}/{path}", content=b"x" * size, headers={"content-type": "application/json"})
    assert answer.status_code == 413

    def parts():
        for _ in range(size // 2**16):
            yield b"x" * 2**16

    with suppress(httpx.WriteError):  # without a length before it; it is refused before all of it was sent
        assert send(f"{server.url}/{path}", content=parts()).status_code == 413


def bomb(side):
    """Return a PNG of side x side black pixels in a few kilobytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (side + 1) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (bomb(8000), "8000 x 8000 pixels"),
        (b"x" * 600_000, "600,000 bytes"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"", "not an image"),
    ],
    ids=["bomb", "large", "svg", "postscript", "empty"],
)
def test_an_upload_that_is_no_small_image_is_refused(server, data, detail):
    answer = send(f"{server.url}/search/image", files={"image": data}, timeout=60)
    assert answer.status_code == 400, answer.text
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "collections/places/images/..%2f..%2f..%2fetc%2fpasswd", "collections/places/images/%2fetc%2fpasswd",
        "collections/..%2f..%2fetc/images/passwd", "collections/places/thumbnails/00000.tar",
        "collections/places/images/..%5c..%5cindex.json", "%2e%2e/%2e%2e/etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(server, path):
    answer = fetch(f"{server.url}/{path}")
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_every_answer_has_headers_against_scripts(server):
    for path in ("", "search?q=red", "nowhere", "api.html", "collections/places/images/plain", "search?bbox=x"):
        headers = fetch(f"{server.url}/{path}").headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_scripts_in_captions_keys_tags_and_questions_stay_text(server):
    for path in (
        "search?q=red+<script>alert(1)</script>",
        "search?limit=24",
        "collections/<script>x",
        "search?token=<b>",
    ):
        answer = fetch(f"{server.url}/{path}")
        assert answer.headers["content-type"].partition(";")[0].endswith("json")
        json.loads(answer.text)


def test_a_page_with_another_name_for_this_machine_is_refused(server):
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "localhost:1/../", "localhost@a"):
        answer = fetch(f"{server.url}/search?q=red", headers={"host": host})
        assert answer.status_code == 400
        assert "--token" not in answer.json()["hint"] and "token_file" in answer.json()["hint"]
    for host in ("localhost:1234", "127.0.0.1", "[::1]:80"):
        assert fetch(f"{server.url}/search?q=red", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"{" * 1000, b"null", b'{"q": 5}', b'{"bbox": ["a"]}', b'{"limit": 1e400}', b"\xff\xfe",
             b'{"intersects": {"type": "Point", "coordinates": [NaN, 1]}}', b'{"filter": {"op": "=", "args": []}}',
             b'{"filter": ' + b'{"op": "not", "args": [' * 300 + b"true" + b"]}" * 300 + b"}",
             b'{"q": "red \\ud800"}', b'{"ids": ["\\ud800"]}', b'{"like": ["\\ud800"]}',
             b'{"collections": ["\\ud800"]}',
             b'{"intersects": {"type": "Polygon", "coordinates": [[[1e308, 0], [-1e308, 1], [2, 1e308], [1e308, 0]]]}}',
             b'{"filter": {"op": "<", "args": [{"property": "gsd"}, ' + b"9" * 400 + b"]}}",
             b'{"filter": {"op": "and", "args": [' + b"true, " * 100_000 + b"true]}}",
             b'{"filter": {"op": "in", "args": [{"property": "id"}, [' + b'"a", ' * 100_000 + b'"a"]]}}'],
)  # fmt: skip
def test_a_body_that_makes_no_sense_is_a_problem(server, body):
    answer = send(f"{server.url}/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_polygon_that_crosses_itself_costs_no_time(server):
    def asked(count):
        places = [[170 * math.cos(k * k + 1), 80 * math.sin(7.3 * k * k)] for k in range(count)]
        began = time.monotonic()
        body = {"intersects": {"type": "Polygon", "coordinates": [[*places, places[0]]]}}
        return send(f"{server.url}/search", json=body), time.monotonic() - began

    answer, seconds = asked(5000)
    assert answer.status_code == 400 and "cross each other" in answer.json()["detail"]
    assert seconds < 10
    answer, seconds = asked(100)
    assert answer.status_code == 200 and answer.json()["numberMatched"] > 0
    assert seconds < 10


@pytest.mark.parametrize("text", ["gsd<" + "1+" * 1500 + "1", "gsd<" + "1^" * 1500 + "1", "NOT " * 900 + "gsd<1"])
def test_a_filter_that_is_deep_is_a_problem(server, text):
    answer = fetch(f"{server.url}/search", params={"filter": text})
    assert answer.status_code == 400, answer.text
    assert len(answer.text) < 1000


def test_headers_without_an_end_are_cut_off(server):
    with connected(server) as line, suppress(OSError):
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(100):
            line.sendall(b"X-A: " + b"b" * 2**17 + b"\r\n")
        assert line.recv(10_000) == b""
    assert fetch(f"{server.url}/healthz").text == "ok"


def test_without_the_token_there_is_no_answer_and_the_log_never_has_it(indexed, tmp_path):
    token = "a-secret-word-of-some-length"
    (tmp_path / "token").write_text(token + "\n")
    with served(tmp_path, str(indexed / "index/places"), "--token-file", "token", "--host", "0.0.0.0") as process:
        process.url = process.url.replace("0.0.0.0", "127.0.0.1")
        for path in ("", "search?q=red", "collections/places/images/plain", "metrics", "api", "nowhere", "healthz/../"):
            answer = fetch(f"{process.url}/{path}")
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Basic")
            assert answer.json()["hint"]
        for wrong in ("Bearer", "Bearer wrong", f"Bearer {token}x", f"Token {token}", "Basic %%%", "Bearer \u00e9"):
            headers = {"authorization": wrong.encode("latin-1")}
            assert fetch(f"{process.url}/search?q=red", headers=headers).status_code == 401
        right = {"authorization": f"Bearer {token}"}
        assert fetch(f"{process.url}/search?q=red", headers=right).status_code == 200
        assert fetch(f"{process.url}/search?q=red", auth=("anyone", token)).status_code == 200
        assert fetch(f"{process.url}/healthz").text == "ok"
        assert process.end() == 0
    assert token not in process.out.read_text() + process.err.read_text()


def test_another_machine_is_let_in_with_a_token_only(indexed, tmp_path):
    from dove_core.config import ServeConfig
    from dove_core.errors import UsageError

    with pytest.raises(UsageError, match="lets other machines in") as caught:
        ServeConfig(host="0.0.0.0")
    assert "--token-file" in caught.value.hint


def test_clients_that_hang_up_leave_no_traceback(server):
    def ask():
        with connected(server) as line:
            line.sendall(b"GET /search?q=red&limit=24 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetch(f"{server.url}/search?q=red", timeout=30).status_code == 200
    assert "Traceback" not in server.err.read_text()
