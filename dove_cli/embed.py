"""`dove embed`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dove_cli.defaults import INDEX, find_checkpoint, name_of_checkpoint, named, only_split, say_doubt
from dove_cli.options import JsonOption
from dove_cli.render import print_json, reporting
from dove_cli.tasks import TASKS, share_of
from dove_core.config import CacheConfig, ComputeConfig, EmbedConfig, ExecutorConfig
from dove_core.errors import UsageError
from dove_core.events import Event, Updated
from dove_core.places import Folder, Place


def embed(
    embedding: EmbedConfig,
    compute: ComputeConfig,
    execution: ExecutorConfig,
    cache: CacheConfig,
    source: Annotated[
        list[Place] | None,
        typer.Argument(
            help="Images to embed: shards, .tar files, .parquet files with images inside, GeoTIFFs and other scenes "
            "(with --tile), or a folder of images, tars, Parquet files or scenes. [default: the split of --shards]"
        ),
    ] = None,
    checkpoint: Annotated[
        Place | None,
        typer.Option(
            help="Checkpoint of the encoder: a run, a model in models/, or a path. [default: the only run or model]"
        ),
    ] = None,
    shards: Annotated[
        Place | None,
        typer.Option(help="Shards to embed: a split, or a release with all its splits. [default: the only test split]"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The index: a name below index/, a folder, or s3://bucket/folder. [default: the name of the "
            "checkpoint or of SOURCE]"
        ),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add these inputs to those that the index has.")] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Make the index of these inputs only; images that it has keep their vectors."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an index that another model made, whatever its inputs.")
    ] = False,
    task_id: Annotated[
        int | None,
        typer.Option(min=0, help="Number of this task, from 0: embed only its share.", rich_help_panel=TASKS),
    ] = None,
    num_tasks: Annotated[
        int | None, typer.Option(min=1, help="Number of tasks. [default: from the SLURM array]", rich_help_panel=TASKS)
    ] = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="Embed nothing; only make the index when all tasks are done.", rich_help_panel=TASKS
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Embed images and make the index that `dove query` searches, or bring it up to date.

    It writes one Parquet file for each shard or tar, or for each --part-size images or tiles, and then the index.
    After an interruption, run the same command again: finished files are kept. Images that cannot be decoded are
    left out and counted, except those of shards, where they are an error.

    When files have been added, changed, moved or removed, run the same command again: only images that the index does
    not have are encoded. Queries use the index as it was until the new one is complete.

    - `dove embed`
    - `dove embed --shards shards/skyscript --out everything`
    - `dove embed photos/`
    - `dove embed photos/ --checkpoint remoteclip-vit-b32`
    - `dove embed photos/ more/ laion/*.tar --out everything`
    - `dove embed new/ --out everything --add`
    - `dove embed laion/*.tar --gpus 8`
    - `dove embed test-00000-of-00001.parquet`
    - `dove embed scene.tif --tile 256 --stride 128`
    - `dove embed S2A_MSIL2A_20190703T102031.SAFE --tile 256`
    - `dove embed tars/ --out all --task-id 3 --num-tasks 16`
    - `dove embed laion/*.tar --gpus 16 --executor ray`
    - `dove embed --shards s3://bucket/shards/sky --out s3://bucket/index/sky`
    """
    if source and shards:
        raise UsageError("both SOURCE and --shards are given", hint="leave one of them out")
    share = share_of(task_id, num_tasks, finish, makes="embedding part")
    checkpoint = find_checkpoint(checkpoint)
    say_doubt(checkpoint)
    if source:
        folder: Place = Folder(INDEX / _name_of(source))
    else:
        from dove_core.data.reader import split_folders

        shards = shards or only_split("test")
        split_folders(shards)  # raises where there are none
        source, folder = [shards], Folder(INDEX / name_of_checkpoint(checkpoint))
    folder = named(INDEX, out, cache) if out else folder
    from dove_core.index.embed import embed as make

    updates = list[Updated]()

    def listen(event: Event) -> None:
        updates.extend([event] if isinstance(event, Updated) else [])
        report(event)

    with reporting() as report:
        index = make(
            checkpoint, source, folder, embedding, compute,
            share=share, add=add, replace=replace, overwrite=overwrite, execution=execution, report=listen,
        )  # fmt: skip
    if as_json and index is not None:
        done = updates[-1] if updates else Updated(str(folder), len(index), 0, 0, 0, 0)
        changes = {name: value for name, value in asdict(done).items() if name != "path"}
        found = {"index": str(folder), "pictures": len(index), "model": index.manifest.fingerprint}
        print_json({**found, **changes})


def _name_of(source: list[Place]) -> str:
    """Return the name of an index: that of the folder, tar or GeoTIFF that is embedded."""
    place = source[0].resolved
    if len(source) > 1:
        place = place.parent
    name = place.name if place.is_remote or place.exists() else Path(place.name).stem
    if not name:
        raise UsageError(f"cannot derive an index name from {source[0]}", hint="give one with --out")
    return name
