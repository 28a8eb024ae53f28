"""SkyScript's pickled metadata of a picture: where, when, and what OpenStreetMap says of it.

A pickle is a program for Python's unpickler, and these come from a public bucket: here no global is ever looked up, so
none can be called, and only plain containers and scalars come out.
"""

from __future__ import annotations

import datetime
import io
import math
import pickle
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

MAX_META_BYTES = 2**20
MAX_TAGS = 1000
"""Most tags that are kept of one object, and most objects around it: a small pickle can unfold to very many."""

_MAX_MEMO = 2**16
_MEMO_WRITES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_MAX_TUPLES = 10_000
_MAX_TEXT = 4096


@dataclass(frozen=True)
class Meta:
    """What is known of a picture; `problems` are the reasons why a part of it is not."""

    box: tuple[float, float, float, float] | None = None
    time: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    surrounding_tags: tuple[Mapping[str, str], ...] = ()
    problems: tuple[str, ...] = ()


class _RefusedError(Exception):
    """The pickle wants more than plain values."""


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every global, and with it every call."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _RefusedError

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _RefusedError


def read_meta(data: bytes) -> Meta:
    """Read a pickle of plain values; what is refused, damaged or out of range is left out and named in `problems`."""
    try:
        values = _unpickle(data)
    except _RefusedError:
        return Meta(problems=("refused meta",))
    except Exception:  # the unpickler raises nearly every kind for damaged input
        return Meta(problems=("damaged meta",))
    if not isinstance(values, dict):
        return Meta(problems=("damaged meta",))
    problems: list[str] = []
    box, time = values.get("box", values.get("bbox")), values.get("time")
    read_box, read_time = box_of(box), time_of(time)
    if box is not None and read_box is None:
        problems.append("bad box")
    if time is not None and read_time is None:
        problems.append("bad time")
    around = values.get("surrounding_tags")
    around = around[:MAX_TAGS] if isinstance(around, list | tuple) else ()
    surrounding = tuple(tags for tags in map(_tags_of, around) if tags)
    return Meta(read_box, read_time, _tags_of(values.get("center_tags")), surrounding, tuple(problems))


def box_of(value: Any) -> tuple[float, float, float, float] | None:
    """Return west, south, east and north in degrees, or None if `value` is no such box.

    West may lie east of east only across the 180th meridian.
    """
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(_is_number, value)):
        return None
    west, south, east, north = (float(number) for number in value)
    if not (abs(west) <= 180 and abs(east) <= 180 and -90 <= south < north <= 90):
        return None
    return (west, south, east, north) if west < east or west - east > 180 else None


def time_of(value: Any) -> str | None:
    """Return ISO 8601 as far as the time is known, from a year or (year, month, day[, hour, minute]); else None."""
    numbers = value if isinstance(value, list | tuple) else (value,)
    if len(numbers) not in (1, 2, 3, 5) or not all(type(number) is int for number in numbers):
        return None
    whole = [*numbers, *(1, 1, 0, 0)[len(numbers) - 1 :]]
    try:
        moment = datetime.datetime(*whole)
    except (ValueError, OverflowError):
        return None
    if not 1900 <= moment.year <= 2100:
        return None
    return moment.isoformat(timespec="minutes")[: {1: 4, 2: 7, 3: 10, 5: 16}[len(numbers)]]


def _unpickle(data: bytes) -> Any:
    if len(data) > MAX_META_BYTES:
        raise _RefusedError
    tuples = 0
    for operation, argument, _ in pickletools.genops(data):
        # One such number alone makes the unpickler allocate a table of that size.
        if operation.name in _MEMO_WRITES and not (isinstance(argument, int) and 0 <= argument <= _MAX_MEMO):
            raise _RefusedError
        # A million tuples in each other, as the key of a dict, overflow the stack of the hash function.
        tuples += operation.name.startswith("TUPLE")
        if tuples > _MAX_TUPLES:
            raise _RefusedError
    return _PlainUnpickler(io.BytesIO(data)).load()


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6 and math.isfinite(value)


def _tags_of(value: Any) -> dict[str, str]:
    """Return the tags with plain values as strings; nested ones are left out, since they could unfold without end."""
    if not isinstance(value, dict):
        return {}
    pairs = list(value.items())[:MAX_TAGS]
    return {_text(name): _text(what) for name, what in pairs if _is_plain(name) and _is_plain(what)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or (type(value) in (int, float, bool) and abs(value) < 1e18)


def _text(value: Any) -> str:
    return str(value)[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
