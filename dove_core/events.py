"""Events that long-running functions report.

Such a function takes `report`, a callable that receives these events, as its last keyword argument. The library never
prints. The command line shows events as progress bars or JSON lines; `silent` ignores them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """A task begins: `total` units of `unit` (None if unknown), of which `done` were finished earlier."""

    task: str
    total: int | None
    unit: str
    done: int = 0


@dataclass(frozen=True)
class Advanced:
    """`amount` more units of a task are finished."""

    task: str
    amount: int = 1


@dataclass(frozen=True)
class Measured:
    """Measurements of a task such as a loss; `final` for those of a finished section such as an epoch."""

    task: str
    values: Mapping[str, float]
    final: bool = False


@dataclass(frozen=True)
class Skipped:
    """`count` inputs were skipped for one reason; `example` names one of them."""

    task: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class Saved:
    """A file or folder is complete at `path`, which may be an address in a bucket."""

    path: str


@dataclass(frozen=True)
class Noted:
    """Information for the user, such as an automatic choice."""

    message: str


@dataclass(frozen=True)
class Updated:
    """The index at `path` was brought up to date: numbers of images; moved ones have the same bytes and another key."""

    path: str
    added: int
    changed: int
    removed: int
    moved: int
    kept: int


Event = Started | Advanced | Measured | Skipped | Saved | Noted | Updated
Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignore an event."""
