"""The kind of input that a path is: shards, tar or Parquet files, a folder of images, or GeoTIFF scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dove_core.addresses import path_of
from dove_core.config import EmbedConfig
from dove_core.data.manifest import IN_PROGRESS, MANIFEST
from dove_core.data.parquet_images import ENDING, describe_parquet
from dove_core.data.sharding.archives import JUNK, files_below
from dove_core.errors import DataError, UsageError
from dove_core.events import Report
from dove_core.places import Folder, Place
from dove_core.sources.folder import ImageFolder
from dove_core.sources.parquet import ParquetFiles
from dove_core.sources.shards import ReleaseShards
from dove_core.sources.source import Source
from dove_core.sources.tar import Tars
from dove_core.sources.tiles import ENDINGS as SCENES, Scenes

TARS, TABLES = (".tar",), (ENDING,)
_HINT = "give shards, .tar files, .parquet files with images, a folder of images, or GeoTIFFs with --tile 256"


def open_source(places: Sequence[Place], settings: EmbedConfig, field: str, report: Report) -> Source:
    """Open the input of `dove embed`.

    Args:
        places: one folder, or several files of one kind; or shards in a bucket.
        settings: with `tile`, only GeoTIFFs are read, and cut into tiles.
        field: the caption field of the model.
        report: receives skipped scenes.

    Raises:
        UsageError: the files are of several kinds, of an unknown kind, or not GeoTIFFs with `--tile`.
        DataError: the input is missing, empty or damaged.
    """
    if any(place.is_remote for place in places):
        if settings.tile or len(places) > 1:
            hint = "give one folder with a manifest.json, without --tile"
            message = f"{places[0]} is in a bucket, where only shards can be embedded"
            raise UsageError(message, hint=hint)
        return ReleaseShards(places[0], field)
    paths = [path_of(place, needed_by="SOURCE") for place in places]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist", hint=_HINT)
    if len(paths) == 1 and paths[0].is_dir():
        return _open_folder(paths[0], settings, field, report)
    root, files = _below_one_root(paths)
    others = [file for file in files if file.suffix.lower() not in SCENES]
    if not others and not settings.tile:
        message = f"{files[0]} is a GeoTIFF; choose a tile size with --tile"
        raise UsageError(message, hint="use --tile 256, or give a folder of small GeoTIFFs")
    if not others:
        return Scenes(root, files, settings, field, report)
    if settings.tile:
        raise UsageError(f"--tile: {others[0]} is not a GeoTIFF", hint="remove --tile, or give .tif files")
    if unknown := [file for file in others if file.suffix.lower() not in (*TARS, *TABLES)]:
        raise UsageError(f"{unknown[0]} is not a valid input of `dove embed`", hint=_HINT)
    if len({file.suffix.lower() in TARS for file in files}) > 1 or len(others) < len(files):
        hint = "embed files of each kind separately"
        different = next(file for file in files if file.suffix.lower() != files[0].suffix.lower())
        raise UsageError(f"{files[0]} and {different} are of different kinds", hint=hint)
    if others[0].suffix.lower() in TABLES:
        return ParquetFiles(root, files, settings.part_size, field, report)
    return Tars(root, files, field)


def _open_folder(folder: Path, settings: EmbedConfig, field: str, report: Report) -> Source:
    has_manifest = (folder / MANIFEST).exists() or any(folder.glob(f"*/{MANIFEST}"))
    if settings.tile and has_manifest:
        raise UsageError(f"--tile: {folder} has shards, not GeoTIFFs", hint="remove --tile")
    if settings.tile:
        if scenes := _files_with(folder, SCENES):
            return Scenes(folder, scenes, settings, field, report)
        raise DataError(f"--tile: {folder} has no .tif files", hint=_HINT)
    if has_manifest:
        return ReleaseShards(Folder(folder), field)
    if any((place / IN_PROGRESS).exists() for place in (folder, *folder.glob("*/"))):
        message = f"{folder} has unfinished shards"
        raise DataError(message, hint="run `dove shard` again to finish them")
    if tars := sorted(path for path in folder.glob("*.tar") if not path.name.startswith(".")):
        return Tars(folder, tars, field)
    images, tables = ImageFolder(folder, settings.part_size, field), _files_with(folder, TABLES)
    if len(images) and not any(map(_has_images, tables)):
        return images
    if len(images):
        message = f"{folder} has both image files and Parquet files with images"
        raise UsageError(message, hint=f"give the Parquet files, such as {tables[0]}, or a folder of the images alone")
    if tars := _files_with(folder, TARS):
        return Tars(folder, tars, field)
    if tables:
        return ParquetFiles(folder, tables, settings.part_size, field, report)
    raise DataError(f"{folder} has no shards, .tar files or images, and no .parquet files", hint=_HINT)


def _has_images(table: Path) -> bool:
    try:
        describe_parquet(table)
    except DataError:
        return False
    return True


def has_files_with(folder: Path, endings: tuple[str, ...]) -> bool:
    """Tell whether a folder, or one below it, has a file with one of these endings."""
    return bool(_files_with(folder, endings))


def _files_with(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    names = (name for name, _, _ in files_below(folder) if name.lower().endswith(endings) and not JUNK.search(name))
    return sorted(folder / name for name in names)


def _below_one_root(paths: Sequence[Path]) -> tuple[Path, list[Path]]:
    """Return the common folder of all files, and the files in order."""
    if len(paths) == 1:
        return paths[0].parent, list(paths)
    files = sorted({Path(os.path.abspath(path)) for path in paths})  # noqa: PTH100  # resolve() would follow links
    return Path(os.path.commonpath([file.parent for file in files])), files
