"""Write docs/commands.md from the commands' own options; `--check` says whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from dove_cli.main import app

TARGET = Path(__file__).with_name("commands.md")


def reference() -> str:
    """Return the page: a section for each command, a row for each option."""
    lines = ["# Commands", "", "Written by `make docs` from the code; every option says its default.", ""]
    for name, command in _commands(get_command(app), "dove"):
        lines += [
            f"## {name}",
            "",
            (command.help or "").strip(),
            "",
            "| option | meaning | default |",
            "| --- | --- | --- |",
        ]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
            flags = flags if parameter.param_type_name == "option" else f"`{parameter.name.upper()}`"
            text, _, derived = (getattr(parameter, "help", "") or "").partition(" [default: ")
            default = derived.rstrip("]") or ("" if parameter.default is None else f"`{parameter.default}`")
            lines.append(f"| {flags} | {text.replace('|', '&#124;')} | {default} |")
        lines.append("")
    return "\n".join(lines)


def _commands(group: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Yield every command with its whole name, those of groups in the groups' places."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == reference() else "docs/commands.md is out of date: run `make docs`")
    TARGET.write_text(reference())
