"""Settings: fields with a default, a help text and bounds, and classes that check their own values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dove_core.errors import UsageError

_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def setting(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """Return a dataclass field; `low` and `high` are both allowed, `above` itself is not."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "above": above})


def option_name(name: str) -> str:
    """Return the command-line option of a setting's name: `batch_size` -> `--batch-size`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Settings:
    """Base of all settings classes: a value that is out of bounds is refused when the object is made.

    Raises:
        UsageError: a value is not of its field's type, not one of its choices, or out of bounds; the message names the
            option, the value and the bound.

    >>> dove.QueryConfig(top=0)
    Traceback (most recent call last):
    dove_core.errors.UsageError: --top 0 is out of range
    """

    def __post_init__(self) -> None:
        """Check each field; a class whose fields depend on each other extends this."""
        own: Any = type(self)
        for name, kind, metadata in _fields(own):
            check_value(option_name(name), getattr(self, name), kind, metadata)


@cache
def _fields(kind: Any) -> list[tuple[str, Any, Mapping[str, Any]]]:
    hints = get_type_hints(kind)
    return [(item.name, hints[item.name], item.metadata) for item in dataclasses.fields(kind)]


def check_value(option: str, value: Any, kind: Any, bounds: Mapping[str, Any]) -> None:
    """Check a value against a type, the choices of a `Literal`, and the bounds in a field's metadata.

    Raises:
        UsageError: it does not fit; the message names the option, the value and the bound.
    """
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{option} {value!r} is not a choice", hint=f"choose from {', '.join(get_args(kind))}")
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
