"""SkyScript's pickled metadata of an image: where, when, and what OpenStreetMap says of it.

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
_ARGUMENTS = {ord(op.code): op.arg.n if op.arg else 0 for op in pickletools.opcodes}
"""Bytes behind each opcode; negative ones are pickletools' names for lengths that the data tells."""

_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4, pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}  # fmt: skip
_CODES = {op.name: ord(op.code) for op in pickletools.opcodes}
_MEMO_WRITES = frozenset(_CODES[name] for name in ("PUT", "BINPUT", "LONG_BINPUT"))
_TUPLES = frozenset(code for name, code in _CODES.items() if name.startswith("TUPLE"))
_GLOBALS = frozenset(_CODES[name] for name in ("GLOBAL", "INST"))
_STOP = _CODES["STOP"]
_MAX_TUPLES = 10_000
_MAX_TEXT = 4096


@dataclass(frozen=True)
class Meta:
    """What is known of an image; `problems` are the reasons why a part of it is not."""

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
    _check_opcodes(data)
    return _PlainUnpickler(io.BytesIO(data)).load()


def _check_opcodes(data: bytes) -> None:
    """Refuse what would hurt the unpickler itself. `pickletools.genops` would do, at ten times the cost.

    A memo write to a large number makes it allocate a table of that size; a million tuples in each other, as the key of
    a dict, overflow the stack of the hash function.
    """
    at = tuples = 0
    while at < len(data):
        code = data[at]
        length = _ARGUMENTS[code]
        if code in _GLOBALS:
            raise _RefusedError
        if code in _MEMO_WRITES and not 0 <= _memo_number(data, at, length) <= _MAX_MEMO:
            raise _RefusedError
        tuples += code in _TUPLES
        if tuples > _MAX_TUPLES:
            raise _RefusedError
        at += 1
        if length >= 0:
            at += length
        elif length == pickletools.UP_TO_NEWLINE:
            at = data.index(b"\n", at) + 1
        else:
            width = _LENGTHS[length]
            at += width + int.from_bytes(data[at : at + width], "little")
        if code == _STOP:
            return


def _memo_number(data: bytes, at: int, length: int) -> int:
    if length == pickletools.UP_TO_NEWLINE:
        return int(data[at + 1 : data.index(b"\n", at)])
    return int.from_bytes(data[at + 1 : at + 1 + length], "little")


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
