"""What a setting may be: a field's default with its help and bounds, and a value held to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, get_args, get_origin

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


def hold_value(option: str, value: Any, kind: Any, bounds: Mapping[str, Any]) -> None:
    """Hold a value to a type, a `Literal`'s choices, and the bounds in a field's metadata.

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
