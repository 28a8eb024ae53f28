"""This machine on the network: its address as others see it, and its connections."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ASK_ADDRESS = 0x8915  # SIOCGIFADDR of <linux/sockios.h>
_ELSEWHERE = ("192.0.2.1", 9)
"""An address that is kept for documentation: packets to it would leave by the way to everywhere."""


def address_towards(host: str, port: int) -> str:
    """Return the address by which this machine is seen from a host, which may be itself.

    Many machines know themselves by their name as 127.0.1.1; others could not reach that, so the address that leads
    outside stands for it. It sends nothing.

    Raises:
        OSError: the name is not known, or no way leads there.
    """
    own = _source(host, port)
    if own.startswith("127.") and host != "localhost" and not host.startswith("127."):
        with suppress(OSError):
            return _source(*_ELSEWHERE)
    return own


def is_own(host: str, own: str) -> bool:
    """Tell whether a host is this machine, whose address is `own`.

    Raises:
        OSError: the name is not known.
    """
    address = socket.gethostbyname(host)
    return address == own or address.startswith("127.")


def interface_of(address: str) -> str | None:
    """Return the name of the network interface that has an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                answer = fcntl.ioctl(probe, _ASK_ADDRESS, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


def choose_interface(host: str, port: int) -> None:
    """Have gloo talk over the interface that leads to a host, unless GLOO_SOCKET_IFNAME says which.

    By itself it takes the address that this machine's name stands for, often one of its own alone.
    """
    if "GLOO_SOCKET_IFNAME" not in os.environ:
        with suppress(OSError):
            name = interface_of(address_towards(host, port))
            os.environ.update({"GLOO_SOCKET_IFNAME": name} if name else {})


@contextmanager
def giving_up_after(seconds: int, port: int) -> Iterator[None]:
    """While this context lasts, break connections of this process to a port whose other end is silent for so long.

    By itself the system waits two hours, or a quarter of an hour where something was sent. Port 0 stands for none.
    """
    over = threading.Event()

    def hold() -> None:
        while not over.wait(1):
            _give_up_after(seconds, port)

    if port:
        threading.Thread(target=hold, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _give_up_after(seconds: int, port: int) -> None:
    for connection in _connections():
        with connection, suppress(OSError):
            if (peer := _peer(connection)) is None or peer[1] != port:
                continue
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
                connection.setsockopt(socket.IPPROTO_TCP, option, max(1, seconds // 4))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)


def break_connections() -> None:
    """Break all connections of this process: whatever waits for an answer fails at once."""
    for connection in _connections():
        with connection, suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _source(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        address: str = probe.getsockname()[0]
        return address


def _connections() -> Iterator[socket.socket]:
    """Yield a second handle to each TCP connection of this process, whoever opened it; close it."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if not str(entry.readlink()).startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(entry.name)))
            if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM and _peer(found):
                yield found
            else:
                found.close()


def _peer(connection: socket.socket) -> tuple[str, int] | None:
    """Return the other end, None for a socket that only listens."""
    try:
        host, port, *_ = connection.getpeername()
        return host, port
    except OSError:
        return None
