"""Two evaluations side by side: what differs, and whether that is more than chance."""

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
_METRICS = {"retrieval": "mean_recall", "zeroshot_classification": "acc1"}
"""What is compared, by task."""


@dataclass(frozen=True)
class Difference:
    """One row in two evaluations, in percent; `beyond` tells whether the difference exceeds both intervals together.

    None where an evaluation has no interval.

    >>> dove.Difference("global", 20.0, 22.5, beyond=True).difference
    2.5
    """

    row: str
    first: float
    second: float
    beyond: bool | None

    @property
    def difference(self) -> float:
        """Return how much higher the second one is."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """The differences in `metric`, row by row, and in what the evaluations are unlike besides the model.

    >>> dove.compare("before.json", "after.json").metric
    'mean_recall'
    """

    metric: str
    differences: Sequence[Difference]
    unlike: Sequence[str]


def compare(first: LocalPath, second: LocalPath) -> Comparison:
    """Compare two files of `dove eval --json`: retrieval by mean recall, classification by top-1 accuracy.

    The half widths of two independent 95 % intervals add up in squares. Two models on the same images are not
    independent, so this errs on the side of calling a difference chance.

    Raises:
        DataError: a file is missing or no evaluation, or they are of different tasks or have no row in common.

    >>> [one.row for one in dove.compare("before.json", "after.json").differences]
    ['global', 'reranked', 'pairwise']
    """
    one, other = _read(Path(first)), _read(Path(second))
    hint = "compare evaluations of the same task"
    if one["task"] != other["task"]:
        raise DataError(f"{first} is of {one['task']}, {second} of {other['task']}", hint=hint)
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
    """Return half of the interval of mean recall, as it was drawn; of accuracy, by the normal approximation."""
    metrics = content["metrics"][row]
    if content["task"] == "zeroshot_classification":
        share, count = metrics["acc1"] / 100, content.get("pictures", 0)
        return 196 * math.sqrt(share * (1 - share) / count) if count else None
    if "mean_recall_low" not in metrics:
        return None
    width: float = (metrics["mean_recall_high"] - metrics["mean_recall_low"]) / 2
    return width


def _hold_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number")


def _read(path: Path) -> dict[str, Any]:
    hint = "it is to be what `dove eval --json` wrote"
    content = read_json(path, DataError, hint=hint)
    try:
        metric = _METRICS[content["task"]]
        for metrics in content["metrics"].values():
            for name in (metric, f"{metric}_low", f"{metric}_high"):
                if name == metric or name in metrics:
                    _hold_number(name, metrics[name])
        _hold_number("pictures", content.get("pictures", 0))
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} holds no evaluation: {error}", hint=hint) from error
    found: dict[str, Any] = content
    return found
