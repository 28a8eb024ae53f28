"""`dove query`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.defaults import INDEX, named, only_index
from dove_cli.render import note, output, print_json, reporting
from dove_core.config import ComputeConfig, QueryConfig, RankConfig
from dove_core.errors import UsageError

if TYPE_CHECKING:
    from dove_core.search.query import Hit


def query(
    settings: QueryConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[Path | None, typer.Option(help="Ask with a picture instead of words.")] = None,
    index: Annotated[str | None, typer.Option(help="Name below index/, or a folder. [default: the only index]")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The model that made the index, if it was moved. [default: where it was]")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the pictures found into this PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object a hit to standard output.")] = False,
) -> None:
    """Find the pictures that fit a text, or that look like a picture.

    - `dove query "airport runway" --top 10`
    - `dove query "harbour with ships" --rerank 50 --sheet harbour.png`
    - `dove query --image field.jpg --json`
    """
    if (text is None) == (image is None):
        raise UsageError("ask with words or with --image FILE", hint='for example: dove query "airport runway"')
    folder = named(INDEX, index) if index else only_index()
    picture = None if image is None else _read(image)
    from dove_core.search.query import Searcher
    from dove_core.search.sheet import write_sheet

    with reporting() as report:
        searcher = Searcher.open(folder, compute, checkpoint=checkpoint)
        if picture is not None:
            hits = searcher.ask_picture(picture, str(image), settings)
        else:
            hits = searcher.ask(text or "", settings, rank, report=report)
    _show(hits, as_json)
    if sheet:
        write_sheet(sheet, text or f"like {image}", hits, searcher.index)
        note(f"saved {sheet}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--image {path} cannot be read: {error.strerror}", hint="give a JPEG, PNG or WebP file"
        ) from error


def _show(hits: list[Hit], as_json: bool) -> None:
    if as_json:
        for hit in hits:
            print_json(hit.to_json())
        return
    from rich.table import Table

    table = Table("", "score", "caption", "key", "place", "time", box=None)
    for hit in hits:
        row = hit.row
        place = f"{row.place[1]:.4f}, {row.place[0]:.4f}" if row.place else ""
        table.add_row(str(hit.rank), f"{hit.score:.3f}", row.caption or "", row.key, place, row.time or "")
    output().print(table)
