"""One mark: what somebody said of an image as an answer to a query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from dove_core.errors import UsageError

Verdict = Literal["confirm", "reject", "withdraw"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Mark:
    """What somebody said of an image as an answer to a query.

    Args:
        key: the image, by its key in the index.
        query: the question in one line, as `Question.title` has it.
        verdict: `confirm`: the image is right; `reject`: it is wrong; `withdraw`: the analyst's
            earlier mark does not count any more.
        note: any remark.
        who: the analyst's name, or empty.
        when: ISO 8601 time, converted to UTC; a time without a zone is in UTC. Empty: when the mark is stored.
        model: fingerprint of the model that found the image, or empty.

    Raises:
        UsageError: key or query is empty, or the verdict or time is not valid.

    >>> mark = dove.Mark("test_1", "a red circle", "confirm", when="2026-11-28T12:00+01:00")
    >>> mark.when
    '2026-11-28T11:00:00.000000Z'
    """

    key: str
    query: str
    verdict: Verdict
    note: str = ""
    who: str = ""
    when: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        if not self.key or not self.query.strip():
            raise UsageError("a mark has no key or no query", hint="a mark needs a key, a query and a verdict")
        if self.verdict not in VERDICTS:
            hint = f"choose from {', '.join(VERDICTS)}"
            raise UsageError(f"the verdict {self.verdict!r} of {self.key} is not valid", hint=hint)
        if self.when:
            object.__setattr__(self, "when", utc(self.when))


def utc(time: str) -> str:
    """Return an ISO 8601 time in UTC, in microseconds, so that equal times are equal texts and texts sort by time.

    Raises:
        UsageError: the time is not valid.
    """
    try:
        found = datetime.fromisoformat(time)
        found = found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        hint = "write it as 2026-11-28T11:00:00Z"
        raise UsageError(f"the time {time!r} of a mark is not valid", hint=hint) from None
    return found.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def now() -> str:
    """Return the present time as a mark has it."""
    return utc(datetime.now(UTC).isoformat())


def folded(query: str) -> str:
    """Return a query in lower case with single spaces; queries that differ in these only are one query.

    >>> folded("Airport  runway")
    'airport runway'
    """
    return " ".join(query.casefold().split())


def current_marks(marks: Iterable[Mark]) -> list[Mark]:
    """Return the latest mark of each image, query and analyst, the earliest first; of equal times, the last given.

    What an analyst has withdrawn is left out.
    """
    latest: dict[tuple[str, str, str], Mark] = {}
    for mark in sorted(marks, key=lambda mark: mark.when):
        place = (mark.key, folded(mark.query), mark.who)
        latest.pop(place, None)
        latest[place] = mark
    return [mark for mark in latest.values() if mark.verdict != "withdraw"]


def decided(marks: Iterable[Mark]) -> dict[str, bool]:
    """Return the keys that more analysts confirm than reject (True) or reject than confirm (False)."""
    balance = Counter[str]()
    for mark in marks:
        balance[mark.key] += 1 if mark.verdict == "confirm" else -1
    return {key: votes > 0 for key, votes in balance.items() if votes}
