"""Write docs/commands.md and docs/reference/settings.md from the code; `--check` checks that they are up to date."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from inspect import getdoc, signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer.main import get_command

import dove_core
from dove_cli.main import app
from dove_core.bounds import option_name

DOCS = Path(__file__).parent
OUTPUTS = DOCS / "outputs"
"""What each command printed: `dove-fetch.txt` and so on, from the demo."""

COMMON = {
    "dove fetch": "release out split limit adopt mirror dry_run",
    "dove shard": "release captions images name split out image_size workers",
    "dove train": "shards run recipe start resume gpus backbone weights image_size epochs batch_size learning_rate",
    "dove eval": "checkpoint shards images captions split rerank pairwise protocol suite compare report gpus",
    "dove embed": "source checkpoint out tile stride bands regions gpus",
    "dove query": "text image like unlike index top rerank bbox near within datetime tag sheet html geojson geoparquet "
    "copy_to explain",
    "dove serve": "indexes host port token_file workers basemap",
    "dove export": "checkpoint out",
    "dove index push": "name to vector_index",
    "dove index verify": "name sample against",
}
"""Parameters that are shown first; a command that is not here has one table."""


def reference() -> str:
    """Return the page of commands: a section for each, with its common options apart from the others."""
    lines = ["# Commands", "", "All commands and options, written from the code by `make docs`."]
    lines += [
        "Options of settings are also the fields of classes in Python: see [Settings](reference/settings.md).",
        "",
    ]
    for name, command in _commands(get_command(app), "dove"):
        lines += [f"## {name}", "", (command.help or "").strip(), ""]
        output = OUTPUTS / f"{name.replace(' ', '-')}.txt"
        if output.exists():
            lines += [
                "For example, in the demo, on a machine that did other work too:",
                "",
                "```text",
                output.read_text().strip(),
                "```",
                "",
            ]
        kinds = signature(command.callback).parameters
        parameters = [one for one in command.params if one.name != "help"]
        common = COMMON.get(name, "").split() or [one.name for one in parameters]
        shown = sorted((one for one in parameters if one.name in common), key=lambda one: common.index(one.name))
        lines += [*_table(shown, kinds), ""]
        if rest := [one for one in parameters if one.name not in common]:
            lines += [f'??? note "More options of {name}"', "", *(f"    {line}" for line in _table(rest, kinds)), ""]
    return "\n".join(lines)


def settings() -> str:
    """Return the page of settings: a section for each public class, a row for each field."""
    lines = [
        "# Settings",
        "",
        "All settings classes of `dove_core`, written from the code by `make docs`. Each field is",
    ]
    lines += ["also an option of a command. Values are checked when an object is made.", ""]
    for name in dove_core.__all__:
        if not name.endswith("Config"):  # others would load torch
            continue
        kind = getattr(dove_core, name)
        hints = get_type_hints(kind)
        lines += [f"## {name}", "", (getdoc(kind) or "").split("\n")[0], ""]
        lines += ["| field | option | meaning | default |", "| --- | --- | --- | --- |"]
        for field in dataclasses.fields(kind):
            text = _with_choices(field.metadata["help"], _literals(hints[field.name]))
            cells = f"`{field.name}`", f"`{option_name(field.name)}`", text, f"`{field.default!r}`"
            lines.append(f"| {' | '.join(map(_escaped, cells))} |")
        lines.append("")
    return "\n".join(lines)


def _table(parameters: Sequence[Any], kinds: Any) -> list[str]:
    """Return a table with a row for each option or argument."""
    rows = [_row(one, _choices(kinds[one.name].annotation)) for one in parameters]
    return ["| option | meaning | default |", "| --- | --- | --- |", *rows]


def _row(parameter: Any, choices: Sequence[str]) -> str:
    """Return the table row of an option or argument: its flags, its help and choices, its default."""
    flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
    flags = flags if parameter.param_type_name == "option" else f"`{parameter.name.upper()}`"
    text, _, derived = (getattr(parameter, "help", "") or "").partition(" [default: ")
    text = _with_choices(text, choices)
    default = derived.rstrip("]") or _default(parameter)
    return f"| {flags} | {_escaped(text)} | {_escaped(default)} |"


def _with_choices(text: str, choices: Sequence[str]) -> str:
    return f"{text} One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else text


def _choices(annotation: Any) -> Sequence[str]:
    """Return the values that `Annotated[Literal[...], option]` allows; none for other types."""
    return _literals(get_args(annotation)[0])


def _literals(kind: Any) -> Sequence[str]:
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


PAGES = {DOCS / "commands.md": reference, DOCS / "reference" / "settings.md": settings}


if __name__ == "__main__":
    for page, write in PAGES.items():
        if "--check" not in sys.argv:
            page.write_text(write())
        elif not page.exists() or page.read_text() != write():
            sys.exit(f"{page.relative_to(DOCS.parent)} is out of date: run `make docs`")
