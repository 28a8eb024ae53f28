"""What a person sees: bars and notes on standard error, tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dove_core.errors import (
    CheckpointError,
    DataError,
    DoveError,
    DownloadError,
    SearchIndexError,
    SpaceError,
    TrainingError,
    UsageError,
)
from dove_core.events import Advanced, Event, Measured, Noted, Report, Saved, Skipped, Started

EXIT_CODES: dict[type[DoveError], int] = {
    UsageError: 2,
    DownloadError: 3,
    DataError: 4,
    CheckpointError: 5,
    SearchIndexError: 6,
    TrainingError: 7,
    SpaceError: 8,
}
INTERRUPTED = 130


def note(message: str) -> None:
    """Write a line to standard error."""
    print(message, file=sys.stderr, flush=True)


def fail(error: DoveError) -> int:
    """Show an error with its way out; return its exit code."""
    note(f"error: {error.message}")
    if error.hint:
        note(f"hint: {error.hint}")
    return EXIT_CODES[type(error)]


def interrupted() -> int:
    """Say that Ctrl-C stopped the command; return its exit code."""
    note("interrupted; what is finished is kept")
    return INTERRUPTED


def print_json(value: Any) -> None:
    """Write one JSON value on a line of standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def output() -> Console:
    """Return a console on standard output, as wide as the terminal, or 120 columns in a file or pipe."""
    return Console() if sys.stdout.isatty() else Console(width=120)


@contextmanager
def reporting() -> Iterator[Report]:
    """Give a receiver of events: bars on a terminal, plain lines elsewhere; all on standard error."""
    if not sys.stderr.isatty():
        yield _plain
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
               TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))  # fmt: skip
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress)


class _Bars:
    """Draws one bar for each task that has started."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Started(task, total, unit, done):
                self._tasks[task] = self._progress.add_task(
                    escape(task), total=total, completed=done, unit=unit, figures=""
                )
            case Advanced(task, amount):
                self._progress.advance(self._tasks[task], amount)
            case Measured(task, values, final=False):
                self._progress.update(self._tasks[task], figures=_figures(values))
            case _:
                self._progress.console.print(escape(_line(event)), highlight=False, soft_wrap=True)


def _plain(event: Event) -> None:
    match event:
        case Advanced() | Measured(final=False):
            return
        case _:
            note(_line(event))


def _line(event: Event) -> str:
    match event:
        case Started(task, total, unit, done):
            behind = f", {done} done before" if done else ""
            return f"{task}: {total} {unit}{behind}" if total is not None else task
        case Measured(task, values):
            return f"{task}: {_figures(values)}"
        case Skipped(task, reason, count, example):
            return f"{task}: left out {count} ({reason}), such as {example}"
        case Saved(path):
            return f"saved {path}"
        case Noted(message):
            return message
        case _:
            raise ValueError(f"no line for {event}")


def _figures(values: Any) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
