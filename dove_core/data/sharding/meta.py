"""SkyScript's pickled metadata of an image: bounding box, time and OpenStreetMap tags.

A pickle is a program for Python's unpickler, and these come from a public bucket: no global is ever looked up here, so
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
"""Limit of the tags of one object, and of the objects around it: a small pickle can expand to very many."""

_MAX_MEMO = 2**16
_MEMO_WRITES = "pqr"  # the opcodes PUT, BINPUT and LONG_BINPUT
_TUPLES = "t\x85\x86\x87"
_MAX_TUPLES = 10_000
_MAX_TEXT = 4096


@dataclass(frozen=True)
class Meta:
    """Metadata of an image; `problems` are the reasons why some of it is missing."""

    box: tuple[float, float, float, float] | None = None
    time: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    surrounding_tags: tuple[Mapping[str, str], ...] = ()
    problems: tuple[str, ...] = ()


class _RefusedError(Exception):
    """The pickle asks for more than plain values."""


class _PlainUnpickler(pickle.Unpickler):
    """Refuse every global, and so every call."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _RefusedError

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _RefusedError


def read_meta(data: bytes) -> Meta:
    """Read a pickle of plain values; values that are refused, damaged or out of range are named in `problems`."""
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
    """Return west, south, east and north in degrees, or None if `value` is not such a box.

    West may be greater than east only across the 180th meridian.
    """
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(_is_number, value)):
        return None
    west, south, east, north = (float(number) for number in value)
    if not (abs(west) <= 180 and abs(east) <= 180 and -90 <= south < north <= 90):
        return None
    return (west, south, east, north) if west < east or west - east > 180 else None


def time_of(value: Any) -> str | None:
    """Return a year or (year, month[, day[, hour, minute]]) as ISO 8601, None if it is invalid."""
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
    _check_opcodes(data)
    return _PlainUnpickler(io.BytesIO(data)).load()


def _check_opcodes(data: bytes) -> None:
    """Refuse opcodes that would harm the unpickler itself.

    A memo write to a large number makes it allocate a table of that size. A million nested tuples, as the key of a
    dict, overflow the stack of the hash function.
    """
    tuples = 0
    argument: Any
    for code, argument, _ in pickletools.genops(data):
        if code.code in _MEMO_WRITES:
            if not 0 <= argument <= _MAX_MEMO:
                raise _RefusedError
        elif code.code in _TUPLES:
            tuples += 1
    if tuples > _MAX_TUPLES:
        raise _RefusedError


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6 and math.isfinite(value)


def _tags_of(value: Any) -> dict[str, str]:
    """Return the tags with plain values as strings; nested ones are left out, since they could expand without end."""
    if not isinstance(value, dict):
        return {}
    pairs = list(value.items())[:MAX_TAGS]
    return {_text(key): _text(tag) for key, tag in pairs if _is_plain(key) and _is_plain(tag)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or (type(value) in (int, float, bool) and abs(value) < 1e18)


def _text(value: Any) -> str:
    return str(value)[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
