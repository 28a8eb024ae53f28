"""Two evaluations side by side: what differs, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dove_core.errors import DataError
from dove_core.files import read_json

_SAME = ("task", "dataset", "split", "data", "protocol", "caption_prefix")


@dataclass(frozen=True)
class Difference:
    """Mean recall of one row in two evaluations; `beyond` tells whether the difference exceeds both intervals together.

    None where an evaluation has no interval.
    """

    row: str
    first: float
    second: float
    beyond: bool | None

    @property
    def difference(self) -> float:
        """Return how much higher the second one is."""
        return self.second - self.first


def compare(first: Path, second: Path) -> tuple[list[Difference], list[str]]:
    """Return the differences of two files of `dove eval --json`, row by row, and in what the evaluations are unlike.

    The half widths of two independent 95 % intervals add up in squares. Two models on the same pictures are not
    independent, so this errs on the side of calling a difference chance.

    Raises:
        DataError: a file is missing or no evaluation, or they have no row in common.
    """
    one, other = _read(first), _read(second)
    rows = [row for row in one["metrics"] if row in other["metrics"]]
    if not rows:
        raise DataError(f"{first} and {second} have no row in common", hint="compare evaluations of the same task")
    unlike = [name for name in _SAME if one.get(name) != other.get(name)]
    return [_difference(row, one["metrics"][row], other["metrics"][row]) for row in rows], unlike


def _difference(row: str, one: Mapping[str, float], other: Mapping[str, float]) -> Difference:
    widths = [_half_width(metrics) for metrics in (one, other)]
    first, second = one["mean_recall"], other["mean_recall"]
    known = [width for width in widths if width is not None]
    beyond = abs(second - first) > math.hypot(*known) if len(known) == 2 else None
    return Difference(row, first, second, beyond)


def _half_width(metrics: Mapping[str, float]) -> float | None:
    if "mean_recall_low" not in metrics:
        return None
    return (metrics["mean_recall_high"] - metrics["mean_recall_low"]) / 2


def _read(path: Path) -> dict[str, Any]:
    hint = "it is to be what `dove eval --json` wrote"
    content = read_json(path, DataError, hint=hint)
    try:
        if not all("mean_recall" in metrics for metrics in content["metrics"].values()):
            raise KeyError("mean_recall")
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} holds no evaluation: {error}", hint=hint) from error
    found: dict[str, Any] = content
    return found
