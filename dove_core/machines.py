"""Settings of machines: where work is done, by how many, and what is kept there. No model depends on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dove_core.bounds import Settings, setting as _setting
from dove_core.errors import UsageError

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class ComputeConfig(Settings):
    """Where to compute, and how precisely.

    >>> dove.ComputeConfig(device="cpu", amp=False).workers
    -1
    """

    device: Device = _setting("auto", "Where to compute; auto takes a GPU if there is one.")  # noqa: RUF009
    amp: bool = _setting(True, "Mixed precision, where the device gains from it.")
    decode: Literal["auto", "cpu", "gpu"] = _setting(
        "auto", "Where training decodes JPEGs; auto: on the GPU, if it can and there are few cores beside it."
    )
    compile: Literal["auto", "on", "off"] = _setting(
        "auto", "Compile the image side: a slow start, then faster; auto: to embed many images."
    )
    workers: int = _setting(
        -1, "Processes that read and decode images; 0: none besides the main one; -1: as the cores allow.", low=-1
    )


@dataclass(frozen=True)
class LaunchConfig(Settings):
    """How many processes train, and where.

    >>> dove.LaunchConfig(gpus=4).gpus
    4
    """

    gpus: int = _setting(1, "Processes on this machine; with --device cpu, CPU processes.", low=1)
    nodes: str = _setting("1", "Machines: a number, or 1:4 for any number from 1 to 4.")
    rendezvous: str = _setting(
        "", "With several machines: HOST:PORT of one of them, where they meet; the same on each."
    )
    restarts: int = _setting(3, "Times that processes are started again, from last/, after one of them died.", low=0)
    lost_after: int = _setting(60, "Seconds of silence after which a process or machine counts as lost.", low=4)
    meet_within: int = _setting(600, "Seconds for machines to meet, at the start and after one is lost.", low=8)

    def __post_init__(self) -> None:
        """Check each field, and that several machines have a meeting point and the time to reach it."""
        super().__post_init__()
        if self.node_range and self.rendezvous:
            self.meeting_point  # noqa: B018  # it raises
        if self.meet_within < 2 * self.lost_after:
            message = f"--meet-within {self.meet_within} is too short to miss a machine --lost-after {self.lost_after}"
            raise UsageError(message, hint=f"use at least --meet-within {2 * self.lost_after}")

    @property
    def node_range(self) -> tuple[int, int]:
        """Return the least and the largest number of machines.

        Raises:
            UsageError: `nodes` is neither a number nor a range, or there is no meeting point for several machines.
        """
        match = re.fullmatch(r"([1-9]\d*)(?::([1-9]\d*))?", self.nodes)
        least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 0 < least <= most:
            raise UsageError(f"--nodes {self.nodes!r} is no number of machines", hint="such as 2, or 1:4")
        if most > 1 and not self.rendezvous:
            hint = "give --rendezvous HOST:PORT, one of the machines, the same on each"
            raise UsageError(f"--nodes {self.nodes}: several machines need a place to meet", hint=hint)
        return least, most

    @property
    def meeting_point(self) -> tuple[str, int]:
        """Return host and port of `rendezvous`.

        Raises:
            UsageError: it is no HOST:PORT.
        """
        host, _, port = self.rendezvous.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError(f"--rendezvous {self.rendezvous!r} is no HOST:PORT", hint="such as node1:29400")
        return host, int(port)


@dataclass(frozen=True)
class ExecutorConfig(Settings):
    """Who shares the work.

    >>> dove.ExecutorConfig(executor="ray").executor
    'ray'
    """

    executor: Literal["local", "ray"] = _setting("local", "Processes of this machine, or tasks on a Ray cluster.")
    ray_address: str = _setting(
        "", "HOST:PORT of the cluster, or local; none: RAY_ADDRESS, or the one that runs here, or one for this call."
    )

    def __post_init__(self) -> None:
        """Check each field, and that an address goes with Ray."""
        super().__post_init__()
        if self.ray_address and self.executor != "ray":
            raise UsageError("--ray-address goes with --executor ray", hint="give both, or leave it out")


@dataclass(frozen=True)
class CacheConfig(Settings):
    """Copies of what lies in buckets.

    >>> dove.CacheConfig(cache_size=10).cache_size
    10
    """

    cache_folder: str = _setting("", "Folder for them; none: $DOVE_CACHE, or dove in the user's cache folder.")
    cache_size: float = _setting(50.0, "Gigabytes of it; what was used longest ago goes first.", above=0)
