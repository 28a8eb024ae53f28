"""`dove embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dove_cli.defaults import INDEX, named, only_checkpoint, only_split
from dove_cli.options import JsonOption
from dove_cli.render import print_json, reporting
from dove_core.config import ComputeConfig, EmbedConfig


def embed(
    embedding: EmbedConfig,
    compute: ComputeConfig,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint. [default: best/ of the only run]")] = None,
    shards: Annotated[
        Path | None,
        typer.Option(help="A split, or a release's folder for all its splits. [default: the only test split]"),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Name below index/, or a folder. [default: the run's name]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index of another model.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Embed pictures and make the index that `dove query` searches.

    One parquet part for each shard, finished or absent: run it again and it goes on.

    - `dove embed`
    - `dove embed --shards shards/skyscript --out everything`
    """
    checkpoint, shards = checkpoint or only_checkpoint(), shards or only_split("test")
    folder = named(INDEX, out) if out else INDEX / checkpoint.resolve().parent.name
    from dove_core.search.embed import embed as make

    with reporting() as report:
        index = make(checkpoint, shards, folder, embedding, compute, overwrite=overwrite, report=report)
    if as_json:
        print_json({"index": str(folder), "pictures": len(index), "model": index.manifest.fingerprint})
