"""Write docs/commands.md from the commands and their options; `--check` checks that it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from dove_cli.main import app

TARGET = Path(__file__).with_name("commands.md")


def reference() -> str:
    """Return the page: a section for each command, a row for each option."""
    lines = ["# Commands", "", "All commands and options, written from the code by `make docs`.", ""]
    for name, command in _commands(get_command(app), "dove"):
        lines += [
            f"## {name}",
            "",
            (command.help or "").strip(),
            "",
            "| option | meaning | default |",
            "| --- | --- | --- |",
        ]
        kinds = signature(command.callback).parameters
        for parameter in command.params:
            if parameter.name != "help":
                lines.append(_row(parameter, _choices(kinds[parameter.name].annotation)))
        lines.append("")
    return "\n".join(lines)


def _row(parameter: Any, choices: Sequence[str]) -> str:
    """Return the table row of an option or argument: its flags, its help and choices, its default."""
    flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
    flags = flags if parameter.param_type_name == "option" else f"`{parameter.name.upper()}`"
    text, _, derived = (getattr(parameter, "help", "") or "").partition(" [default: ")
    if choices:
        text += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    default = derived.rstrip("]") or _default(parameter)
    return f"| {flags} | {_escaped(text)} | {_escaped(default)} |"


def _choices(annotation: Any) -> Sequence[str]:
    """Return the values that `Annotated[Literal[...], option]` allows; none for other types."""
    kind = get_args(annotation)[0]
    return get_args(kind) if get_origin(kind) is Literal else ()


def _default(parameter: Any) -> str:
    if parameter.default is None or parameter.default == "":
        return ""
    if isinstance(parameter.default, bool):
        off = parameter.secondary_opts
        return f"`{parameter.opts[0]}`" if parameter.default else f"`{off[0]}`" if off else ""
    return f"`{parameter.default}`"


def _escaped(text: str) -> str:
    """Return text for a cell of a Markdown table."""
    return text.replace("|", "&#124;")


def _commands(group: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Yield each command and its full name, with the commands of groups in the place of their group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == reference() else "docs/commands.md is out of date: run `make docs`")
    TARGET.write_text(reference())
