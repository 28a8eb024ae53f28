"""`dove export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dove_cli.defaults import find_checkpoint, name_of_checkpoint
from dove_cli.options import JsonOption
from dove_cli.render import note, print_json
from dove_core.config import CacheConfig
from dove_core.places import Place


def export(
    cache: CacheConfig,
    checkpoint: Annotated[
        Place | None,
        typer.Argument(
            help="Checkpoint of a CLIP: a run, a model in models/, or a path. [default: the only run or model]"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. [default: export/NAME]")] = None,
    format: Annotated[Literal["open_clip"], typer.Option(help="Whose files to write.")] = "open_clip",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a CLIP checkpoint for other programs: `open_clip` loads the folder as `local-dir:FOLDER`.

    - `dove export remoteclip-vit-b32`
    - `dove export runs/rsicd/best --format open_clip --out exported/rsicd`
    """
    from dove_core.encoding.clip_export import export_open_clip

    chosen = find_checkpoint(checkpoint, "dove export NAME")
    folder = export_open_clip(chosen, out or Path("export") / name_of_checkpoint(chosen), overwrite=overwrite)
    note(f"saved {folder}")
    if as_json:
        print_json({"format": format, "folder": str(folder)})
