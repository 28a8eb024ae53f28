"""A link to a server on this machine that counts what is asked for and can be cut, as a network can."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_ASKED = re.compile(rb"^(GET|PUT|HEAD|DELETE|POST) (\S+) HTTP", re.MULTILINE)


class Link:
    """What went over the link. `left` bytes of answers may still pass before it is cut, None for any number.

    With `cuts`, it is cut so often, and then whole again.
    """

    def __init__(self, host: str, port: int) -> None:
        self.server, self.asked = (host, port), list[tuple[str, str]]()
        self.left: int | None = None
        self.cuts = -1
        self._lock = threading.Lock()

    def gets(self, words: str) -> int:
        """Count the objects asked for whose address has some words in it; listings and HEADs are none."""
        return sum(method == "GET" and words in path and "list-type" not in path for method, path in self.asked)

    def pass_on(self, count: int) -> bool:
        """Tell whether so many bytes of an answer may pass."""
        with self._lock:
            if self.left is None:
                return True
            self.left -= count
            if self.left >= 0:
                return True
            self.cuts -= 1
            self.left = None if self.cuts == 0 else self.left
            return False

    def serve(self, own: socket.socket) -> None:
        """Pass one connection on until it ends or is cut."""
        with own, socket.create_connection(self.server) as other:
            back = threading.Thread(target=self._answers, args=(other, own), daemon=True)
            back.start()
            with suppress(OSError):
                while data := own.recv(65536):
                    self.asked += [(m[1].decode(), m[2].decode()) for m in _ASKED.finditer(data)]
                    other.sendall(data)
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)
            back.join()

    def _answers(self, other: socket.socket, own: socket.socket) -> None:
        with suppress(OSError):
            while (data := other.recv(65536)) and self.pass_on(len(data)):
                own.sendall(data)
        with suppress(OSError):
            own.shutdown(socket.SHUT_RDWR)


@contextmanager
def linked(address: str) -> Iterator[tuple[str, Link]]:
    """Give the address of a link to a server, and what it counts."""
    parts = urlsplit(address)
    assert parts.hostname and parts.port
    link = Link(parts.hostname, parts.port)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=link.serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", link
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
