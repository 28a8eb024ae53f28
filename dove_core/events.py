"""What a long job reports while it works.

Every long function takes `report`, a callable that receives these events, as its last keyword. The library itself never
prints: the command line turns events into bars or JSON lines, a notebook may ignore them with `silent`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """A task begins: `total` units of `unit`, None when nobody knows; `done` of them were finished before."""

    task: str
    total: int | None
    unit: str
    done: int = 0


@dataclass(frozen=True)
class Advanced:
    """`amount` more units of a task are done."""

    task: str
    amount: int = 1


@dataclass(frozen=True)
class Measured:
    """Figures of a task, such as a loss: passing ones, or `final` ones of a finished stretch such as an epoch."""

    task: str
    values: Mapping[str, float]
    final: bool = False


@dataclass(frozen=True)
class Skipped:
    """`count` inputs were left out for one reason; `example` names one of them."""

    task: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class Saved:
    """A finished file or folder lies at `path`; a string is the address of one in a bucket."""

    path: str


@dataclass(frozen=True)
class Noted:
    """A choice the user may want to know about."""

    message: str


Event = Started | Advanced | Measured | Skipped | Saved | Noted
Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignore every event."""
