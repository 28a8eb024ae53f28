"""`dove shard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dove_cli.defaults import DATA, SHARDS, only_release
from dove_cli.options import JsonOption
from dove_cli.render import note, print_json, reporting
from dove_core.config import ShardConfig
from dove_core.errors import UsageError


def shard(
    settings: ShardConfig,
    release: Annotated[str | None, typer.Argument(help="A release below data/. [default: the only one]")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="Captions of your own: SkyScript-style CSV, Karpathy JSON.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Their pictures: a zip or a folder.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of your release.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a CSV whose name does not say it; or the only one to take.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the shards. [default: shards/<release>]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a release, or captions and pictures of your own, into tar shards.

    Pictures go from zip to tar without being unpacked; each is decoded once, so that training meets no broken one.

    - `dove shard`
    - `dove shard --captions dataset_rsicd.json --images RSICD_images.zip --name rsicd`
    """
    own = (captions, images, name)
    if any(own) and not all(own):
        raise UsageError("--captions, --images and --name belong together", hint="give all three, or none for data/")
    if any(own) and release:
        raise UsageError(f"both the release {release!r} and --captions are given", hint="leave one of them out")
    if split and not any(own):
        raise UsageError("--split goes with --captions", hint="a release's own tables say their splits")
    folder = None if any(own) else DATA / release if release else only_release()
    target = out or SHARDS / (name or (folder.name if folder else ""))
    from dove_core.data.sharding.shards import shard_captions, shard_release

    with reporting() as report:
        if captions and images:
            manifests = shard_captions(captions, images, target, settings, split=split, report=report)
        else:
            manifests = shard_release(folder or DATA, target, settings, report=report)
    for manifest in manifests:
        place = target / manifest.split
        counts = ", ".join(f"{count} {status}" for status, count in manifest.counts.items() if count)
        if as_json:
            print_json({"shards": str(place), "samples": manifest.samples, "counts": manifest.counts})
        else:
            note(f"{place}: {manifest.samples} samples in {len(manifest.shards)} shards ({counts})")
