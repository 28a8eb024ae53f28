"""Output: progress bars and notes on standard error, tables and JSON on standard output."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
from dove_core.events import Advanced, Event, Measured, Noted, Report, Saved, Skipped, Started, Updated

if TYPE_CHECKING:
    from dove_core.data.fetching.plan import FetchPlan, PlannedFile
    from dove_core.pretrained.plan import ModelPlan

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
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str, *, kept: str = "\n\t") -> str:
    """Return a text whose control characters, which could steer a terminal, are written as \\x1b and the like.

    File names, keys and captions come from elsewhere. Characters that change the direction of text are replaced too.
    """
    return _CONTROLS.sub(lambda match: match[0] if match[0] in kept else ascii(match[0])[1:-1], text)


def cell(text: str) -> str:
    """Return a text for a table or a bar: without markup, and without characters that steer a terminal."""
    return escape(printable(text, kept=""))


def note(message: str) -> None:
    """Print a line on standard error."""
    print(printable(message), file=sys.stderr, flush=True)


def fail(error: DoveError) -> int:
    """Print an error and its hint; return its exit code."""
    note(f"error: {error.message}")
    if error.hint:
        note(f"hint: {error.hint}")
    return EXIT_CODES[type(error)]


def interrupted() -> int:
    """Print that Ctrl-C stopped the command; return its exit code."""
    note("interrupted; finished files are kept")
    return INTERRUPTED


def print_json(value: Any) -> None:
    """Print a value as one line of JSON on standard output."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not is_unicode)
    print(_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text), flush=True)


def confirm(question: str) -> bool:
    """Ask a yes-or-no question on a terminal; without a terminal, return True."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print(f"{question} [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def fetch_plan(plan: FetchPlan) -> str:
    """Return a plan as text: one line for each file, then the total size and the free space."""
    rows = [(_size(file.remote.version.size), _to_come(file), str(file.path)) for file in plan.files]
    width = max((len(state) for _, state, _ in rows), default=0)
    lines = [f"{size:>9}  {state:<{width}}  {path}" for size, state, path in rows]
    return "\n".join([f"from {plan.source}", *lines, plan.summary()])


def model_plan(plan: ModelPlan) -> str:
    """Return the plan of a model as text: the file, if it is downloaded, and the disk that is needed."""
    if plan.is_here:
        return plan.summary()
    if plan.download is not None:
        [file] = plan.download.files
        return f"{_size(file.remote.version.size):>9}  {_to_come(file)}  {file.address}\n{plan.summary()}"
    return f"{_size(plan.size):>9}  here  {plan.weights}\n{plan.summary()}"


def _to_come(file: PlannedFile) -> str:
    if file.state in ("here", "adoptable"):
        return {"here": "here", "adoptable": f"from {file.found}"}[file.state]
    if file.remote.presence != "present":
        return file.remote.presence
    if file.is_by_member and file.to_come == 0:
        return "selected members are here"
    if file.is_by_member:
        return f"{'about ' if file.is_estimate else ''}{_size(file.to_come)} of selected members"
    return "to fetch" if file.state == "absent" else f"{_size(file.to_come)} still to fetch"


def _size(size: int | None) -> str:
    if size is None:
        return "?"
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def output() -> Console:
    """Return a console on standard output, as wide as the terminal, or 120 columns in a file or pipe."""
    return Console() if sys.stdout.isatty() else Console(width=120)


@contextmanager
def reporting() -> Iterator[Report]:
    """Give a receiver of events that draws progress bars on a terminal, and prints plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _plain
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
               TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))  # fmt: skip
    with Progress(*columns, console=console) as progress:
        yield _Bars(progress)


class _Bars:
    """Draws one progress bar for each task."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Started(task, total, unit, done):
                self._tasks[task] = self._progress.add_task(
                    cell(task), total=total, completed=done, unit=unit, figures=""
                )
            case Advanced(task, amount):
                self._progress.advance(self._tasks[task], amount)
            case Measured(task, values, final=False):
                self._progress.update(self._tasks[task], figures=_figures(values))
            case _:
                self._progress.console.print(escape(printable(_line(event))), highlight=False, soft_wrap=True)


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
        case Updated(path, added, changed, removed, moved, kept):
            return f"{path}: {added} added, {changed} changed, {removed} removed, {moved} moved, {kept} kept"
        case _:
            raise ValueError(f"no line for {event}")


def _figures(values: Any) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
