"""`dove embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dove_cli.defaults import INDEX, name_above, named, only_checkpoint, only_split
from dove_cli.options import JsonOption
from dove_cli.render import print_json, reporting
from dove_cli.tasks import TASKS, share_of
from dove_core.config import CacheConfig, ComputeConfig, EmbedConfig, ExecutorConfig
from dove_core.errors import UsageError
from dove_core.places import Folder, Place


def embed(
    embedding: EmbedConfig,
    compute: ComputeConfig,
    execution: ExecutorConfig,
    cache: CacheConfig,
    source: Annotated[
        list[Place] | None,
        typer.Argument(help="Shards, .tar files, GeoTIFFs, or a folder of images, tars or GeoTIFFs. "
                       "[default: as --shards]"),
    ] = None,
    checkpoint: Annotated[Place | None, typer.Option(help="Checkpoint. [default: best/ of the only run]")] = None,
    shards: Annotated[
        Place | None,
        typer.Option(help="A split, or a release's folder for all its splits. [default: the only test split]"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Name below index/, a folder, or s3://bucket/folder. [default: the run's name, or SOURCE's]"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index of another model.")] = False,
    task_id: Annotated[
        int | None, typer.Option(min=0, help="Make only this task's embedding parts, from 0.", rich_help_panel=TASKS)
    ] = None,
    num_tasks: Annotated[
        int | None, typer.Option(min=1, help="Number of tasks. [default: the SLURM array's]", rich_help_panel=TASKS)
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Make no part; make the index of those there.", rich_help_panel=TASKS)
    ] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Embed images and make the index that `dove query` searches.

    One parquet part for each shard or tar, or for so many images or tiles; finished or absent: run it again and it
    goes on. A foreign image that cannot be decoded is left out and counted.

    - `dove embed`
    - `dove embed --shards shards/skyscript --out everything`
    - `dove embed photos/`
    - `dove embed laion/*.tar --gpus 8`
    - `dove embed scene.tif --tile 256 --stride 128`
    - `dove embed tars/ --out all --task-id 3 --num-tasks 16`
    - `dove embed laion/*.tar --gpus 16 --executor ray`
    - `dove embed --shards s3://bucket/shards/sky --out s3://bucket/index/sky`
    """
    if source and shards:
        raise UsageError("both SOURCE and --shards are given", hint="leave one of them out")
    share = share_of(task_id, num_tasks, finish, makes="part")
    checkpoint = checkpoint or only_checkpoint()
    if source:
        folder: Place = Folder(INDEX / _name_of(source))
    else:
        from dove_core.data.reader import split_folders

        shards = shards or only_split("test")
        split_folders(shards)  # raises where there are none
        source, folder = [shards], Folder(INDEX / name_above(checkpoint))
    folder = named(INDEX, out, cache) if out else folder
    from dove_core.index.embed import embed as make

    with reporting() as report:
        index = make(
            checkpoint, source, folder, embedding, compute,
            share=share, overwrite=overwrite, execution=execution, report=report,
        )  # fmt: skip
    if as_json and index is not None:
        print_json({"index": str(folder), "pictures": len(index), "model": index.manifest.fingerprint})


def _name_of(source: list[Place]) -> str:
    """Return a name for the index of an input: that of its folder, tar or scene."""
    place = source[0].resolved
    if len(source) > 1:
        place = place.parent
    name = place.name if place.is_remote or place.exists() else Path(place.name).stem
    if not name:
        raise UsageError(f"cannot derive an index name from {source[0]}", hint="give one with --out")
    return name
