"""Settings classes: fields with a default, a help text and bounds, checked when an object is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dove_core.errors import UsageError

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def setting(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """Return a dataclass field; values may equal `low` and `high` but not `above`."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "above": above})


def option_name(name: str) -> str:
    """Return the command-line option of a setting, such as `--batch-size` for `batch_size`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Settings:
    """Base of all settings classes; it checks every value when an object is made.

    Raises:
        UsageError: a value has the wrong type, is not one of the choices, or is out of bounds.

    >>> dove.QueryConfig(top=0)
    Traceback (most recent call last):
    dove_core.errors.UsageError: --top 0 is out of range
    """

    def __post_init__(self) -> None:
        """Check each field; classes with fields that depend on each other extend this."""
        settings_class: Any = type(self)
        for name, kind, metadata in _fields(settings_class):
            check_value(option_name(name), getattr(self, name), kind, metadata)


@cache
def _fields(settings_class: Any) -> list[tuple[str, Any, Mapping[str, Any]]]:
    types = get_type_hints(settings_class)
    return [(item.name, types[item.name], item.metadata) for item in dataclasses.fields(settings_class)]


def check_value(option: str, value: Any, kind: Any, bounds: Mapping[str, Any]) -> None:
    """Check a value against a type, the choices of a `Literal`, and the bounds in a field's metadata.

    Raises:
        UsageError: the check fails; the message names the option and the value, the hint what is valid.
    """
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(
                f"{option} {value!r} is not a valid choice", hint=f"choose from {', '.join(get_args(kind))}"
            )
        return
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{option} {value!r} is not of type {kind.__name__}", hint=f"it takes {_NAMES[kind]}")
    low, high, above = bounds.get("low"), bounds.get("high"), bounds.get("above")
    for words, bound, holds in (
        ("at least", low, low is None or value >= low),
        ("at most", high, high is None or value <= high),
        ("more than", above, above is None or value > above),
    ):
        if not holds:
            raise UsageError(f"{option} {value} is out of range", hint=f"it must be {words} {bound}")
