"""How several machines meet: where, how long they wait, and what went wrong if they do not."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from dove_core.config import LaunchConfig
from dove_core.errors import TrainingError, UsageError
from dove_core.training.network import address_towards, is_own

GO_ON = "start it again with --resume: it goes on from last/, with as many machines and processes as it is given"


@dataclass(frozen=True)
class Meeting:
    """What torch's launcher is told: name of the meeting, its HOST:PORT, this machine's address, and patience."""

    run: str
    endpoint: str
    own: str
    configs: dict[str, Any]


def arrange(launching: LaunchConfig) -> Meeting:
    """Say where and how patiently machines meet; a machine alone meets itself.

    A machine that is cut off ends its processes after `lost_after` seconds. The others go on without it half as long
    after that, so that no two write to the run folder at once.

    Raises:
        UsageError: no way leads to the meeting point.
    """
    beat = max(1, launching.lost_after // 4)
    configs: dict[str, Any] = {
        "join_timeout": launching.meet_within,
        "last_call_timeout": max(1, launching.lost_after // 2),
        "keep_alive_interval": beat,
        "keep_alive_max_attempt": launching.lost_after // beat,
        "read_timeout": launching.lost_after,
    }
    if not launching.rendezvous:
        return Meeting(uuid.uuid4().hex, "localhost:0", "localhost", configs)
    host, port = launching.meeting_point
    try:
        own = address_towards(host, port)
        if not own.startswith("127."):  # there the launcher knows by itself, and two can share a machine
            configs["is_host"] = is_own(host, own)
    except OSError as error:
        message = f"--rendezvous {host}:{port} cannot be reached: {error}"
        raise UsageError(message, hint="give a host name or address of one of the machines that train") from error
    return Meeting("dove", launching.rendezvous, own, configs)


def too_few(launching: LaunchConfig) -> TrainingError:
    """Return the error of machines that waited for others in vain."""
    least = launching.node_range[0]
    message = f"fewer than {least} machine(s) met at {_place(launching)} within {launching.meet_within} seconds"
    return TrainingError(message, hint=f"give the same command on each; after a loss, {GO_ON}")


def ended_elsewhere(launching: LaunchConfig) -> TrainingError:
    """Return the error of a machine that is told that there is nothing to train any more."""
    message = f"another machine ended the run that met at {_place(launching)}"
    return TrainingError(message, hint=f"it says why; then {GO_ON}")


def unreachable(launching: LaunchConfig, error: Exception) -> TrainingError:
    """Return the error of a machine that has no connection to the meeting point, or lost it."""
    message = f"{_place(launching)}, where the machines meet, cannot be reached: {error.__cause__ or error}"
    return TrainingError(message, hint=f"does it run, and does a firewall let that port through? If so, {GO_ON}")


def _place(launching: LaunchConfig) -> str:
    return launching.rendezvous or "localhost"
