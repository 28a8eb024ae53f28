"""A real web server on this machine that serves bytes and ranges, with the faults that a test sets for each path."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar


@dataclass
class Served:
    """What lies at a path, and what goes wrong with it.

    Lists hold one fault for each coming GET and are used up from the front; the other fields stay as they are.
    """

    body: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    content_type: str = "application/octet-stream"
    status: int = 200
    ranges: bool = True  # False: every GET is answered by the whole file
    range_status: int = 206  # of an answer with a range: some servers answer 200, with Content-Range
    tags: Iterator[str] | None = None  # a new ETag for each answer
    if_range: bool = True  # False: a range is served even if the file has changed
    head: bool = True  # False: HEAD is answered with 405
    announced: bool = True  # False: no Content-Length, the end of the connection is the end of the file
    total: int | None = None  # announced in the place of the body's true length
    stall_after: int | None = None  # send so many bytes, then nothing until the server closes
    drops: list[int] = field(default_factory=list)  # hang up after so many bytes, unless one byte was requested
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answer with this status and headers
    successor: Served | None = None  # takes this one's place after so many drops:
    drops_before_successor: int = 1
    redirect: str | None = None
    headers: dict[str, str] = field(default_factory=dict)  # sent besides, with every answer
    coding: str | None = None  # claimed as Content-Encoding
    shifted: int = 0  # ranges begin so many bytes late
    hang_up_on_head: bool = False
    excess: int = 0  # so many bytes more than a range asks for
    trickle: float = 0.0  # seconds before each 16 KiB
    latency: float = 0.0  # seconds before each answer


@dataclass
class Asked:
    """A request that came in, and how many bytes of body went out for it."""

    method: str
    path: str
    headers: Message
    sent: int = 0

    @property
    def is_probe(self) -> bool:
        """Return whether one byte was requested, as a plan does."""
        return self.headers.get("Range") == "bytes=0-0"


class Server(ThreadingHTTPServer):
    """Serves `files` by path and records every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self.at_work = self.most_at_work = 0
        self._lock = threading.Lock()

    def count(self, change: int) -> None:
        """Count a GET that begins or ends."""
        with self._lock:
            self.at_work += change
            self.most_at_work = max(self.most_at_work, self.at_work)

    def find(self, path: str, headers: Message) -> Served | None:
        """Return what a request for a path is answered with; None if nothing is there."""
        return self.files.get(path)

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"

    def gets(self, path: str) -> list[Asked]:
        """Return the requests for a file, or for more than one byte of it."""
        return [asked for asked in self.asked if asked.path == f"/{path}" and not asked.is_probe]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up on purpose here."""


Kind = TypeVar("Kind", bound=Server)


@contextmanager
def serving(kind: type[Kind] = Server) -> Iterator[Kind]:  # type: ignore[assignment]
    """Run a server in a thread for as long as the block runs."""
    with kind() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the body waits 40 ms behind its headers
    server: Server

    def do_HEAD(self) -> None:
        file = self._found()
        if file is not None and file.hang_up_on_head:
            self.close_connection = True
        elif file is None or not file.head:
            self._refuse(404 if file is None else 405, {})
        elif file.redirect is not None:
            self._refuse(302, {"Location": file.redirect, **file.headers})
        elif file.status != 200:
            self._refuse(file.status, file.headers)
        else:
            self._start(file, 200, len(file.body))

    def do_GET(self) -> None:
        self.server.count(1)
        try:
            self._get(self._found())
        finally:
            self.server.count(-1)

    def _get(self, file: Served | None) -> None:
        if file is None:
            self._refuse(404, {})
        elif file.redirect is not None:
            self._refuse(302, {"Location": file.redirect, **file.headers})
        elif file.refusals:
            self._refuse(*file.refusals.pop(0))
        elif file.status != 200:
            self._refuse(file.status, file.headers)
        else:
            self._serve(file)

    def _found(self) -> Served | None:
        self.asked = Asked(self.command, self.path, self.headers)
        self.server.asked.append(self.asked)
        file = self.server.find(self.path.lstrip("/"), self.headers)
        time.sleep(file.latency if file is not None else 0)
        return file

    def _serve(self, file: Served) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        current = condition is None or not file.if_range or condition in (file.etag, file.modified)
        if match is None or not file.ranges or not current:
            self._start(file, 200, len(file.body) if file.total is None else file.total)
            self._send(file, file.body)
            return
        first, last = int(match[1]) + file.shifted, int(match[2] or len(file.body) - 1)
        if first >= len(file.body):
            self._refuse(416, {"Content-Range": f"bytes */{len(file.body)}"})
            return
        body = file.body[first : last + 1 + file.excess]
        total = len(file.body) if file.total is None else file.total
        where = f"bytes {first}-{first + len(body) - 1}/{total}"
        self._start(file, file.range_status, len(body), {"Content-Range": where})
        self._send(file, body)

    def _start(self, file: Served, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        known = {"ETag": file.etag, "Last-Modified": file.modified, "Content-Type": file.content_type}
        known["Content-Encoding"] = file.coding
        if file.tags is not None:
            known["ETag"] = next(file.tags)
        for name, value in {**known, **file.headers, **(headers or {})}.items():
            if value is not None:
                self.send_header(name, value)
        if file.announced:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, file: Served, body: bytes) -> None:
        drop = file.drops.pop(0) if file.drops and not self.asked.is_probe else None
        end = min(part for part in (drop, file.stall_after, len(body)) if part is not None)
        for start in range(0, end, 1 << 14):
            piece = body[start : min(start + (1 << 14), end)]
            time.sleep(file.trickle)
            self.wfile.write(piece)
            self.asked.sent += len(piece)
        self.wfile.flush()
        if drop is not None:
            file.drops_before_successor -= 1
            if file.successor is not None and file.drops_before_successor == 0:
                self.server.files[self.path.lstrip("/")] = file.successor
            self.close_connection = True
        elif file.stall_after is not None:
            self.server.closing.wait(20)
            self.close_connection = True

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
