"""`dove shard`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.defaults import DATA, SHARDS, only_release
from dove_cli.options import JsonOption
from dove_cli.render import note, print_json, reporting
from dove_cli.tasks import TASKS, share_of
from dove_core.config import ExecutorConfig, ShardConfig
from dove_core.errors import DataError, UsageError

if TYPE_CHECKING:
    from dove_core.data.manifest import ShardManifest
    from dove_core.data.sharding.verify_shards import ShardFault


def shard(
    settings: ShardConfig,
    execution: ExecutorConfig,
    release: Annotated[str | None, typer.Argument(help="Name of a release in data/. [default: the only one]")] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Your own captions: a CSV or other table with a header, a JSON such as Karpathy's or COCO's, JSON "
            "lines, or Parquet with images inside, a file or a folder of them."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Images of --captions: a zip or a folder; not needed for Parquet.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the release made from --captions.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of --captions if neither their names nor their rows say one; or the only split to read."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Folder of the shards, or s3://bucket/folder. [default: shards/RELEASE]"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Keep the shards, and try missing and damaged images again.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace shards that were made from other captions.")
    ] = False,
    verify_only: Annotated[
        bool,
        typer.Option("--verify-only", help="Make no shards; check all bytes against the manifest."),
    ] = False,
    task_id: Annotated[
        int | None, typer.Option(min=0, help="Number of this task, from 0: make only its share.", rich_help_panel=TASKS)
    ] = None,
    num_tasks: Annotated[
        int | None, typer.Option(min=1, help="Number of tasks. [default: from the SLURM array]", rich_help_panel=TASKS)
    ] = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish", help="Make no shards; only write the manifest when all tasks are done.", rich_help_panel=TASKS
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a release, or your own captions and images, into tar shards.

    Images go from zip to tar without being unpacked. Each image is checked, so that training meets no damaged one.
    After an interruption, run the same command again: finished shards are kept.

    - `dove shard`
    - `dove shard --captions dataset_rsicd.json --images RSICD_images.zip --name rsicd`
    - `dove shard --captions train.parquet --name mine`
    - `dove shard --image-size 256 --quality 90`
    - `dove shard --task-id 3 --num-tasks 16`
    - `dove shard --executor ray`
    - `dove shard --verify-only`
    """
    from dove_core.data.sharding.shards import is_parquet, shard_captions, shard_release

    own = (captions, name) if captions and is_parquet(captions) else (captions, images, name)
    _check_together(own, name, release, split, verify_only)
    folder = None if any(own) else DATA / release if release else _release_of(verify_only, out)
    target = out or str(SHARDS / (name or (folder.name if folder else "")))
    if verify_only:
        from dove_core.data.sharding.verify_shards import verify_shards

        with reporting() as report:
            faults = verify_shards(target, settings, execution=execution, report=report)
        _show_faults(faults, target, as_json)
        return
    share = share_of(task_id, num_tasks, finish, makes="shard")
    with reporting() as report:
        if captions:
            manifests = shard_captions(
                captions, images, target, settings, split=split, share=share, retry_failed=retry_failed,
                overwrite=overwrite, execution=execution, report=report,
            )  # fmt: skip
        else:
            manifests = shard_release(
                folder or DATA, target, settings, share=share, retry_failed=retry_failed, overwrite=overwrite,
                execution=execution, report=report,
            )  # fmt: skip
    _show(manifests, target.rstrip("/"), as_json)


def _check_together(
    own: tuple[object, ...], name: str | None, release: str | None, split: str | None, verify_only: bool
) -> None:
    if name is not None and not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise UsageError(f"--name {name!r} cannot be the name of a folder", hint="choose another folder with --out")
    if any(own) and not all(own) and not verify_only:
        what = "--captions and --name" if len(own) == 2 else "--captions, --images and --name"
        raise UsageError(
            f"{what} belong together", hint=f"give {'both' if len(own) == 2 else 'all three'}, or none of them"
        )
    if any(own) and release:
        raise UsageError(f"both the release {release!r} and --captions are given", hint="leave one of them out")
    if split and not any(own):
        raise UsageError("--split goes with --captions", hint="the splits of a release are in the names of its tables")


def _release_of(verify_only: bool, out: str | None) -> Path | None:
    """Return the only release; to verify shards, the only release with shards."""
    if not verify_only:
        return only_release()
    if out:
        return None
    found = sorted(path for path in SHARDS.glob("*/") if any(path.glob("*/manifest.json")))
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "none"
        hint = "give the name of a release, or a folder with --out"
        raise UsageError(f"cannot choose which shards to verify, found {listed} below {SHARDS}/", hint=hint)
    note(f"using {found[0]}")
    return found[0]


def _show(manifests: list[ShardManifest], target: str, as_json: bool) -> None:
    for manifest in manifests:
        place = f"{target}/{manifest.split}"
        counts = ", ".join(f"{count} {status}" for status, count in manifest.counts.items() if count)
        if as_json:
            print_json({"shards": place, "samples": manifest.samples, "counts": manifest.counts})
        else:
            note(f"{place}: {manifest.samples} samples in {len(manifest.shards)} shards ({counts})")


def _show_faults(faults: list[ShardFault], target: str, as_json: bool) -> None:
    if as_json:
        print_json({"shards": target, "faults": [{"file": fault.file, "reason": fault.reason} for fault in faults]})
    else:
        for fault in faults:
            note(f"{fault.file}: {fault.reason}")
    if faults:
        hint = "delete changed files and run `dove shard` again, which makes missing ones; move foreign files away"
        raise DataError(f"{len(faults)} files of {target} are missing, changed or foreign", hint=hint)
    note(f"{target}: all bytes checked, no faults found")
