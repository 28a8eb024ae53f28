"""Which kind of input a path is: our shards, anybody's tars, a folder of images, or GeoTIFF scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dove_core.addresses import path_of
from dove_core.config import EmbedConfig
from dove_core.data.manifest import IN_PROGRESS
from dove_core.data.sharding.archives import JUNK, files_below
from dove_core.errors import DataError, UsageError
from dove_core.events import Report
from dove_core.places import Folder, Place
from dove_core.sources.folder import ImageFolder
from dove_core.sources.shards import ReleaseShards
from dove_core.sources.source import Source
from dove_core.sources.tar import Tars
from dove_core.sources.tiles import ENDINGS as SCENES, Scenes

TARS = (".tar",)
_HINT = "give shards, .tar files, a folder of images, or GeoTIFFs with --tile 256"


def open_source(places: Sequence[Place], settings: EmbedConfig, field: str, report: Report) -> Source:
    """Open what is to be embedded.

    Args:
        places: one folder, or several files of one kind; or shards in a bucket.
        settings: with `tile`, GeoTIFFs are cut into tiles, and nothing else is read.
        field: the caption field that the model reads.
        report: receives what is left out of scenes.

    Raises:
        UsageError: the files are of several kinds, of none that can be embedded, or do not go with `--tile`.
        DataError: there is nothing, or it is damaged.
    """
    if any(place.is_remote for place in places):
        if settings.tile or len(places) > 1:
            hint = "give one folder with a manifest.json"
            raise UsageError("from a bucket, only shards can be embedded", hint=hint)
        return ReleaseShards(places[0], field)
    paths = [path_of(place, needed_by="SOURCE") for place in places]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist", hint=_HINT)
    if len(paths) == 1 and paths[0].is_dir():
        return _open_folder(paths[0], settings, field, report)
    root, files = _below_one_root(paths)
    endings = {file.suffix.lower() for file in files}
    if settings.tile and not endings <= set(SCENES):
        raise UsageError(f"--tile cuts GeoTIFFs, and {files[0]} is none", hint="leave --tile out, or give .tif files")
    if endings <= set(SCENES) and not settings.tile:
        message = f"{files[0]} is a GeoTIFF; choose a tile size with --tile"
        raise UsageError(message, hint="such as --tile 256; a folder of small GeoTIFFs needs no --tile")
    if endings <= set(SCENES):
        return Scenes(root, files, settings, field, report)
    if endings <= set(TARS):
        return Tars(root, files, field)
    odd = next((file for file in files if file.suffix.lower() not in (*SCENES, *TARS)), files[-1])
    raise UsageError(f"{odd} is no input for `dove embed`, or not together with {files[0]}", hint=_HINT)


def _open_folder(folder: Path, settings: EmbedConfig, field: str, report: Report) -> Source:
    is_ours = (folder / "manifest.json").exists() or any(folder.glob("*/manifest.json"))
    if settings.tile and not is_ours:
        if scenes := _found(folder, SCENES):
            return Scenes(folder, scenes, settings, field, report)
        raise DataError(f"{folder} holds no .tif file for --tile to cut", hint=_HINT)
    if settings.tile:
        raise UsageError(f"--tile cuts GeoTIFFs, and {folder} holds shards", hint="leave --tile out")
    if is_ours:
        return ReleaseShards(Folder(folder), field)
    if any((place / IN_PROGRESS).exists() for place in (folder, *folder.glob("*/"))):
        message = f"{folder} holds shards that are not finished"
        raise DataError(message, hint="run `dove shard` again: it goes on, and finishes them")
    if tars := sorted(path for path in folder.glob("*.tar") if not path.name.startswith(".")):
        return Tars(folder, tars, field)
    images = ImageFolder(folder, settings.part_size, field)
    if images.inputs():
        return images
    if tars := _found(folder, TARS):
        return Tars(folder, tars, field)
    raise DataError(f"{folder} holds neither shards nor tars nor images", hint=_HINT)


def _found(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    names = (name for name, _, _ in files_below(folder) if name.lower().endswith(endings) and not JUNK.search(name))
    return sorted(folder / name for name in names)


def _below_one_root(places: Sequence[Path]) -> tuple[Path, list[Path]]:
    """Return the folder above all files, and the files in order."""
    if len(places) == 1:
        return places[0].parent, list(places)
    files = sorted({Path(os.path.abspath(place)) for place in places})  # noqa: PTH100  # resolve() would follow links
    return Path(os.path.commonpath([file.parent for file in files])), files
