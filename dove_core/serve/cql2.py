"""CQL2 filters (OGC 21-065r2) as masks of rows.

The library cql2 parses texts. A condition is a pair of masks: the rows for which it is true, and those for which it is
false; for rows without the property it is neither.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import cql2
import numpy as np
import pyarrow.compute as pc

from dove_core.errors import UsageError
from dove_core.index.filters import parse_interval, tagged
from dove_core.index.rows import UNKNOWN_SECOND, RowTable, as_bools
from dove_core.serve.geometry import rows_intersecting

Truth = tuple[np.ndarray, np.ndarray]
"""`(N,)` bool each: true, false."""

PROPERTIES = ("id", "collection", "caption", "source", "gsd", "datetime", "tags.KEY", "geometry")
_TEXTS = {"id": "key", "caption": "caption", "source": "source"}
_LONGEST, _DEEPEST, _MOST = 4000, 64, 500
"""Characters of a text; levels of brackets, since the parser of a deeper text would overflow its stack; conditions."""

_HINT = f"properties are {', '.join(PROPERTIES)}; for example: gsd < 1 AND source IN ('CH', 'US')"
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_OF_TEXTS = {
    "=": pc.equal, "<>": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
    "like": pc.match_like,
}  # fmt: skip


def rows_passing(table: RowTable, collection: str, expression: str | Mapping[str, Any]) -> np.ndarray:
    """Return which rows `(N,)` bool a CQL2 filter is true for.

    Args:
        table: the rows.
        collection: name of the index.
        expression: CQL2 text, or CQL2 JSON.

    Raises:
        UsageError: the filter is not valid, or has a property or operator that is not known here.
    """
    parsed = _parse(expression) if isinstance(expression, str) else expression
    try:
        return _Filter(table, collection).truth(parsed, 0)[0]
    except (OverflowError, RecursionError) as error:
        raise UsageError("the filter has a number that is too large, or is too deep", hint=_HINT) from error


def _parse(text: str) -> Any:
    if len(text) > _LONGEST or text.count("(") > _DEEPEST:
        raise UsageError("the filter is too long", hint=f"write at most {_LONGEST} characters and {_DEEPEST} brackets")
    try:
        return cql2.parse_text(text).to_json()
    except Exception as error:  # the library raises plain exceptions, too
        reason = str(error).strip().splitlines()[-1].strip(" =")
        raise UsageError(f"the filter is not valid CQL2: {reason}", hint=_HINT) from error


class _Filter:
    """The rows of one index, for conditions."""

    def __init__(self, table: RowTable, collection: str) -> None:
        self._table, self._collection, self._conditions = table, collection, 0

    def truth(self, node: Any, depth: int) -> Truth:
        """Return for which rows a condition is true and false."""
        self._count()
        if isinstance(node, bool):
            return self._all(node)
        if not isinstance(node, Mapping) or not isinstance(node.get("args"), list) or depth > _DEEPEST:
            raise UsageError("the filter is not a CQL2 condition, or too deep", hint=_HINT)
        name, arguments = str(node.get("op"))[:40], node["args"]
        if name in ("and", "or", "not") and arguments:
            return _joined(name, [self.truth(one, depth + 1) for one in arguments])
        subject, values = _subject(name, arguments)
        if name == "s_intersects" and len(values) == 1 and isinstance(values[0], Mapping):
            return _among(rows_intersecting(self._table, values[0]), self._known("geometry"))
        if name == "between" and len(values) == 2:
            pair = [{"op": op, "args": [arguments[0], value]} for op, value in zip((">=", "<="), values, strict=True)]
            return _joined("and", [self.truth(one, depth + 1) for one in pair])
        if name == "in" and len(values) == 1 and isinstance(values[0], list) and values[0]:
            return _joined("or", [self._compared("=", subject, value) for value in values[0]])
        if name == "isNull" and not values:
            known = self._known(subject)
            return ~known, known
        if len(values) != 1:
            raise UsageError(f"the filter has an operator that is not known here: {name}", hint=_HINT)
        return self._compared(name, subject, values[0])

    def _compared(self, name: str, subject: str, value: Any) -> Truth:
        """Return for which rows a property compares with a value."""
        self._count()
        if subject == "datetime":
            return self._at(name, value)
        if name in _ORDER and subject == "gsd" and isinstance(value, int | float):
            gsd = self._table.numbers("gsd")
            with np.errstate(invalid="ignore"):
                return _among(_ORDER[name](gsd, value), ~np.isnan(gsd))
        if isinstance(value, str) and subject.startswith("tags.") and name in ("=", "<>"):
            key = subject.removeprefix("tags.")
            equal, known = tagged(self._table, key, value), tagged(self._table, key)
            return _among(equal if name == "=" else ~equal, known)
        if isinstance(value, str) and subject == "collection" and name in _ORDER:
            return self._all(bool(_ORDER[name](self._collection, value)))
        if isinstance(value, str) and subject in _TEXTS and name in _OF_TEXTS:
            column = self._table.column(_TEXTS[subject])
            found = as_bools(pc.fill_null(_OF_TEXTS[name](column, value), False))
            return _among(found, self._known(subject))
        shown = repr(value) if isinstance(value, str | float | bool | None) else "something else"
        raise UsageError(f"the filter compares {subject} with {shown} by {name}, which is not possible", hint=_HINT)

    def _count(self) -> None:
        """Count a condition: each is a look at all rows."""
        self._conditions += 1
        if self._conditions > _MOST:
            hint = "give many keys by the parameter ids"
            raise UsageError(f"the filter has more than {_MOST} conditions", hint=hint)

    def _at(self, name: str, value: Any) -> Truth:
        """Return for which rows the time compares with a time; one that is not precise may be any within it."""
        first, last = self._table.numbers("first_second"), self._table.numbers("last_second")
        known = first != UNKNOWN_SECOND
        start, stop = _interval(value)
        if name in ("=", "<>", "t_intersects", "anyinteracts"):
            found = (first <= (stop if stop is not None else first)) & (last >= (start if start is not None else last))
            return _among(~found if name == "<>" else found, known)
        if name not in _ORDER or start is None or stop is None:
            raise UsageError(f"the filter compares datetime by {name}, which is not possible", hint=_HINT)
        seconds, end = {"<": (first, start), "<=": (first, stop), ">": (last, stop), ">=": (last, start)}[name]
        return _among(_ORDER[name](seconds, end), known)

    def _known(self, subject: str) -> np.ndarray:
        """Return which rows have a property."""
        table = self._table
        if subject.startswith("tags."):
            return tagged(table, subject.removeprefix("tags."))
        if subject == "collection":
            return np.ones(len(table), bool)
        if subject == "datetime":
            known = table.numbers("first_second") != UNKNOWN_SECOND
        elif subject in ("gsd", "geometry"):
            known = ~np.isnan(table.numbers("gsd" if subject == "gsd" else "xmin"))
        else:
            column = table.column(_TEXTS[subject])
            known = as_bools(pc.is_valid(column))
            if subject == "source":  # an unknown one is an empty text
                known = known & as_bools(pc.not_equal(column, ""))
        return np.asarray(known)

    def _all(self, value: bool) -> Truth:
        return np.full(len(self._table), value), np.full(len(self._table), not value)


def _subject(name: str, arguments: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the property that a condition is about, and the other arguments.

    Raises:
        UsageError: it is not about a property that is known here.
    """
    first = arguments[0] if arguments else None
    subject = first.get("property") if isinstance(first, Mapping) else None
    if not isinstance(subject, str):
        raise UsageError(f"the filter has {name} without a property as first argument", hint=_HINT)
    subject = subject.removeprefix("properties.")
    if subject not in PROPERTIES[:-2] and subject != "geometry" and not (subject.startswith("tags.") and subject[5:]):
        raise UsageError(f"the filter has an unknown property: {subject}", hint=_HINT)
    return subject, list(arguments[1:])


def _interval(value: Any) -> tuple[int | None, int | None]:
    """Return the first and last second of a time or interval of CQL2."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("timestamp", "date", "interval") if name in value), None)
    ends = value if isinstance(value, list) else [value]
    if not (0 < len(ends) < 3) or not all(isinstance(end, str) for end in ends):
        raise UsageError("the filter compares datetime with what is not a time", hint=_HINT)
    return parse_interval("/".join(ends))


def _joined(name: str, found: Sequence[Truth]) -> Truth:
    if name == "not":
        return found[0][1], found[0][0]
    both, either = (operator.and_, operator.or_) if name == "and" else (operator.or_, operator.and_)
    return reduce(both, [one[0] for one in found]), reduce(either, [one[1] for one in found])


def _among(found: np.ndarray, known: np.ndarray) -> Truth:
    return found & known, ~found & known
