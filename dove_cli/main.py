"""The `dove` command with all its subcommands."""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from dove_cli.about import bug_report, version
from dove_cli.embed import embed
from dove_cli.evaluate import evaluate
from dove_cli.export import export
from dove_cli.fetch import fetch
from dove_cli.index import push, verify
from dove_cli.marks import export_marks, import_marks
from dove_cli.options import Command, with_exit_codes, with_settings
from dove_cli.query import query
from dove_cli.render import fail, interrupted, note
from dove_cli.serve import serve
from dove_cli.shard import shard
from dove_cli.streams import protect_streams
from dove_cli.train import train
from dove_core.errors import SpaceError, UsageError

_EPILOG = (
    "Exit codes: 0 done, 1 bug, 2 usage, 3 download, 4 data, 5 checkpoint, 6 index, 7 training, 8 disk full, "
    "130 interrupted."
)

app = typer.Typer(
    name="dove",
    help="Find remote-sensing images with words.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dove {version()}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Find remote-sensing images with words."""


index = typer.Typer(help="Check an index, or copy it to Milvus.", epilog=_EPILOG, no_args_is_help=True)
marks = typer.Typer(help="Write or read marks of analysts.", epilog=_EPILOG, no_args_is_help=True)


def _add(
    name: str,
    command: Command,
    *,
    to: typer.Typer = app,
    without: frozenset[str] = frozenset(),
    takes_extra_words: bool = False,
) -> None:
    context = {"allow_extra_args": takes_extra_words}
    to.command(name, epilog=_EPILOG, context_settings=context)(
        with_exit_codes(with_settings(command, without=without), fail, interrupted)
    )


_add("fetch", fetch)
_add("shard", shard)
_add("train", train)
_add("eval", evaluate, without=frozenset({"decode", "compile"}))
_add("embed", embed, without=frozenset({"decode"}))
_add("query", query, without=frozenset({"workers", "decode", "compile"}), takes_extra_words=True)  # to hint at quotes
_add("serve", serve)
_add("export", export)
_add("push", push, to=index)
_add("verify", verify, to=index, without=frozenset({"decode", "compile", "workers"}))
app.add_typer(index, name="index")
_add("import", import_marks, to=marks)
_add("export", export_marks, to=marks)
app.add_typer(marks, name="marks")


def run() -> None:
    """Run the command line. SIGTERM (`kill`, a scheduler) and SIGHUP (a closed terminal) act like Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    protect_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except SpaceError as error:
        code = fail(error)
    except Exception:
        traceback.print_exc()
        note(bug_report())
        code = 1
    sys.exit(code)


def _run() -> int | str | None:
    """Run a command and return its exit code."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return fail(UsageError("the current folder was removed", hint="change to a folder that exists: cd"))
    try:
        app(prog_name="dove")
    except SystemExit as end:
        return end.code
    return 0
