"""Hosts for tests: network namespaces that a bridge connects, which is in a namespace too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Host:
    """One host: a namespace with an address, connected to the switch."""

    name: str
    address: str
    switch: str
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *words: str, log: Path, **variables: str) -> subprocess.Popen[bytes]:
        """Start a Python process on this host; its output goes to a file."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
        with log.open("ab") as stream:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, sys.executable, *words], stdout=stream, stderr=stream,
                env=environment, start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def cut(self) -> None:
        """Disconnect this host from the switch."""
        _ip("-n", self.switch, "link", "set", self.name, "down")

    def kill(self) -> None:
        """Kill all processes of this host at once."""
        for pid in _ip("netns", "pids", self.name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for process in self.started:
            process.wait()


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """Make hosts that can reach each other; at the end, remove them and kill their processes.

    Raises:
        PermissionError: this machine does not allow it.
    """
    own = f"dove{uuid.uuid4().hex[:5]}"
    switch, hosts = f"{own}s", [Host(f"{own}{k}", f"10.77.0.{k + 1}", f"{own}s") for k in range(count)]
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        for host in hosts:
            _ip("netns", "add", host.name)
            _ip("link", "add", "wire", "netns", host.name, "type", "veth", "peer", "name", host.name, "netns", switch)
            _ip("-n", switch, "link", "set", host.name, "master", "switch", "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "wire")
            _ip("-n", host.name, "link", "set", "wire", "address", _card(host))
            for link in ("lo", "wire"):
                _ip("-n", host.name, "link", "set", link, "up")
            for other in hosts:  # fixed, so that no error tells that a host is gone
                if other is not host:
                    _ip("-n", host.name, "neighbour", "add", other.address, "lladdr", _card(other), "dev", "wire")
        yield hosts
    finally:
        for host in hosts:
            with suppress(PermissionError):
                host.kill()
        for name in (*(host.name for host in hosts), switch):
            with suppress(PermissionError):
                _ip("netns", "delete", name)


def _card(host: Host) -> str:
    return f"02:00:00:00:00:{int(host.address.rpartition('.')[2]):02x}"


def _ip(*words: str) -> str:
    try:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise PermissionError(f"ip {' '.join(words)}: {getattr(error, 'stderr', error)}") from error
