"""Comparison of two evaluations: differences, and whether they exceed chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dove_core.errors import DataError
from dove_core.files import LocalPath, read_json

_SAME = (
    "task", "dataset", "split", "data", "protocol", "caption_prefix", "rerank", "rank_by", "classes", "templates"
)  # fmt: skip
"""Facts in which two comparable evaluations agree."""

_METRICS = {"retrieval": "mean_recall", "zeroshot_classification": "acc1"}
"""The metric to compare, by task."""


@dataclass(frozen=True)
class Difference:
    """One row of two evaluations, in percent.

    `beyond` is true if the difference exceeds both intervals together, None if an evaluation has no interval.

    >>> dove.Difference("global", 20.0, 22.5, beyond=True).difference
    2.5
    """

    row: str
    first: float
    second: float
    beyond: bool | None

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """The differences in `metric`, row by row; `unlike` names what differs besides the model.

    >>> dove.compare("before.json", "after.json").metric
    'mean_recall'
    """

    metric: str
    differences: Sequence[Difference]
    unlike: Sequence[str]


def compare(first: LocalPath, second: LocalPath) -> Comparison:
    """Compare two files of `dove eval --json`: retrieval by mean recall, classification by top-1 accuracy.

    The half widths of the two 95 % intervals are added in squares, which is right for independent samples. Two models
    on the same images are not independent, so the test is conservative.

    Raises:
        DataError: a file is missing or not an evaluation, or the tasks differ, or there is no common row.

    >>> [one.row for one in dove.compare("before.json", "after.json").differences]
    ['global', 'reranked', 'pairwise']
    """
    one, other = _read(Path(first)), _read(Path(second))
    hint = "compare evaluations of the same task"
    if one["task"] != other["task"]:
        raise DataError(f"{first} has the task {one['task']}, {second} the task {other['task']}", hint=hint)
    rows = [row for row in one["metrics"] if row in other["metrics"]]
    if not rows:
        raise DataError(f"{first} and {second} have no row in common", hint=hint)
    unlike = [name for name in _SAME if one.get(name) != other.get(name)]
    metric = _METRICS[one["task"]]
    return Comparison(metric, [_difference(row, metric, one, other) for row in rows], unlike)


def _difference(row: str, metric: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Difference:
    widths = [_half_width(row, content) for content in (one, other)]
    first, second = (content["metrics"][row][metric] for content in (one, other))
    known = [width for width in widths if width is not None]
    beyond = abs(second - first) > math.hypot(*known) if len(known) == 2 else None
    return Difference(row, first, second, beyond)


def _half_width(row: str, content: Mapping[str, Any]) -> float | None:
    """Return half the 95 % interval: of mean recall from the bootstrap, of accuracy by the normal approximation."""
    metrics = content["metrics"][row]
    if content["task"] == "zeroshot_classification":
        share, count = metrics["acc1"] / 100, content.get("pictures", 0)
        return 196 * math.sqrt(share * (1 - share) / count) if count else None
    if "mean_recall_low" not in metrics:
        return None
    width: float = (metrics["mean_recall_high"] - metrics["mean_recall_low"]) / 2
    return width


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, not a number")


def _read(path: Path) -> dict[str, Any]:
    hint = "expected the output of `dove eval --json`"
    content = read_json(path, DataError, hint=hint)
    try:
        metric = _METRICS[content["task"]]
        for metrics in content["metrics"].values():
            for name in (metric, f"{metric}_low", f"{metric}_high"):
                if name == metric or name in metrics:
                    _check_number(name, metrics[name])
        _check_number("pictures", content.get("pictures", 0))
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is not an evaluation: {error}", hint=hint) from error
    found: dict[str, Any] = content
    return found
