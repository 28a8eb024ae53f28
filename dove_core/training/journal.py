"""Metrics of a run: one JSON line for each epoch, TensorBoard events, and curves at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dove_core.files import atomic_file, space_checked

METRICS, EVENTS, CURVES, COMMANDS = "metrics.jsonl", "events", "curves.png", "commands.txt"
_LOSSES = ("loss", "pair_loss", "global_loss")
"""Losses in the order of their curves; a family may have only the first."""


class Journal:
    """Writes metrics to a run folder; only the first process of a training has one."""

    def __init__(self, run: Path, upload: Callable[[str], None] = lambda name: None) -> None:
        """Start; `upload` is called with the name of a file after lines were added."""
        self._run, self._upload = run, upload
        self._events: Any = None

    def step(self, number: int, figures: Mapping[str, float]) -> None:
        """Write the metrics of a step to the events."""
        self._write_events(number, figures)

    def epoch(self, figures: Mapping[str, float]) -> None:
        """Write the metrics of an epoch to `metrics.jsonl` and the events.

        Raises:
            SpaceError: the disk is full.
        """
        path = self._run / METRICS
        with space_checked(path), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(figures) + "\n")
        self._upload(METRICS)
        self._write_events(int(figures["steps"]), {f"epoch/{name}": value for name, value in figures.items()})

    def close(self) -> None:
        """Flush the events and draw the curves.

        Raises:
            SpaceError: the disk is full.
        """
        if self._events is not None:
            self._events.close()
        draw_curves(self._run)

    def _write_events(self, step: int, figures: Mapping[str, float]) -> None:
        if self._events is None:
            from tensorboardX import SummaryWriter  # noqa: PLC0415  # not needed to read a run

            with space_checked(self._run / EVENTS):
                self._events = SummaryWriter(str(self._run / EVENTS))
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl`, without incomplete ones; the last line of an epoch counts."""
    path, found = run / METRICS, {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(ValueError, KeyError):
            row = json.loads(line)
            found[row["epoch"]] = row
    return [found[epoch] for epoch in sorted(found)]


def best_recall(run: Path) -> float:
    """Return the highest mean recall in `metrics.jsonl`; -1 without any."""
    return max((row.get("mean_recall", -1.0) for row in read_metrics(run)), default=-1.0)


def note_command(run: Path, command: str) -> None:
    """Add a command line that started or resumed the run."""
    if command:
        with space_checked(run / COMMANDS), (run / COMMANDS).open("a", encoding="utf-8") as stream:
            stream.write(command + "\n")


def draw_curves(run: Path) -> None:
    """Plot losses, and validation recall if there is any, over the epochs to `curves.png`.

    Raises:
        SpaceError: the disk is full.
    """
    rows = read_metrics(run)
    if not rows:
        return
    from matplotlib.figure import Figure  # noqa: PLC0415  # takes half a second

    validated = [row for row in rows if "mean_recall" in row]
    figure = Figure(figsize=(9 if validated else 4.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    losses = panels[0]
    epochs = [row["epoch"] for row in rows]
    for name in (name for name in _LOSSES if name in rows[0]):
        losses.plot(epochs, [row[name] for row in rows], marker=".", label=name.replace("_", " "))
    losses.set(xlabel="epoch", title="training loss")
    losses.set_ylim(bottom=0)
    losses.legend()
    if validated:
        epochs, values = ([row[name] for row in validated] for name in ("epoch", "mean_recall"))
        panels[1].plot(epochs, values, marker=".", color="C3")
        panels[1].set(xlabel="epoch", title="validation mean recall of global scores, %")
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    with atomic_file(run / CURVES) as stream:
        figure.savefig(stream, format="png", dpi=110)
