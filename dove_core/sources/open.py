"""The kind of input that a path is: shards, tar or Parquet files, a folder of images, or GeoTIFF scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dove_core.addresses import path_of
from dove_core.config import EmbedConfig
from dove_core.data.file_kinds import kind_of
from dove_core.data.manifest import IN_PROGRESS, MANIFEST
from dove_core.data.parquet_images import ENDING, describe_parquet
from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.data.sharding.archives import JUNK, files_below
from dove_core.errors import DataError, UsageError
from dove_core.events import Report, Skipped
from dove_core.names import real_name
from dove_core.places import Folder, Place
from dove_core.sources.folder import ImageFolder
from dove_core.sources.parquet import ParquetFiles
from dove_core.sources.shards import ReleaseShards
from dove_core.sources.source import Source
from dove_core.sources.tar import Tars
from dove_core.sources.tiles import ENDINGS as SCENES, Scenes

TARS, TABLES = (".tar",), (ENDING,)
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".rar", ".7z")
_HEAD = 512
_WORLD_FILES = {".jpg": (".jgw", ".wld"), ".jpeg": (".jgw", ".wld"), ".png": (".pgw", ".wld")}
"""Endings of files that say where an image of this ending lies, which makes it a scene."""

NO_SCENE = "image without a world file; give it by name to cut it into tiles"
_HINT = "give shards, .tar files, .parquet files with images, a folder of images, or GeoTIFFs with --tile 256"


def open_source(places: Sequence[Place], settings: EmbedConfig, field: str, report: Report) -> Source:
    """Open the input of `dove embed`.

    Args:
        places: one folder, or several files of one kind; or shards in a bucket.
        settings: with `tile`, only GeoTIFFs and other scenes are read, and cut into tiles.
        field: the caption field of the model.
        report: receives skipped scenes.

    Raises:
        UsageError: the files are of an unknown kind, or not GeoTIFFs with `--tile`.
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
        message = f"{files[0]} is a scene, such as a GeoTIFF; choose a tile size with --tile"
        raise UsageError(message, hint="use --tile 256, or give a folder of small GeoTIFFs")
    if settings.tile:
        if packed := [file for file in others if file.is_dir() or file.suffix.lower() in (*TARS, *TABLES)]:
            raise UsageError(f"--tile: {packed[0]} is not a GeoTIFF", hint="remove --tile, or give .tif files")
        return Scenes(root, files, settings, field, report)
    if unknown := [file for file in others if file.suffix.lower() not in (*TARS, *TABLES)]:
        raise _other_kind(unknown[0])
    if others[0].suffix.lower() in TABLES:
        return ParquetFiles(root, files, settings.part_size, field, report)
    return Tars(root, files, field)


def _open_folder(folder: Path, settings: EmbedConfig, field: str, report: Report) -> Source:
    has_manifest = (folder / MANIFEST).exists() or any(folder.glob(f"*/{MANIFEST}"))
    if settings.tile and has_manifest:
        raise UsageError(f"--tile: {folder} has shards, not GeoTIFFs", hint="remove --tile")
    if settings.tile:
        scenes, others = scenes_in(folder)
        if others:
            report(Skipped("embedding", NO_SCENE, len(others), str(others[0].relative_to(folder))))
        if scenes:
            return Scenes(folder, scenes, settings, field, report)
        raise DataError(f"--tile: {folder} has no .tif files or other scenes", hint=_HINT)
    if has_manifest:
        return ReleaseShards(Folder(folder), field)
    if any((place / IN_PROGRESS).exists() for place in (folder, *folder.glob("*/"))):
        message = f"{folder} has unfinished shards"
        raise DataError(message, hint="run `dove shard` again to finish them")
    images, tars = ImageFolder(folder, settings.part_size, field), _files_with(folder, TARS)
    if tars and (not len(images) or any(tar.parent == folder for tar in tars)):
        if len(images):
            report(Skipped("embedding", "image file beside tars", len(images), images.example()))
        return Tars(folder, tars, field)
    if tars:
        report(Skipped("embedding", "tar below a folder of images", len(tars), str(tars[0])))
    tables = _files_with(folder, TABLES)
    if len(images) and not any(map(_has_images, tables)):
        return images
    if len(images):
        message = f"{folder} has both image files and Parquet files with images"
        raise UsageError(message, hint=f"give the Parquet files, such as {tables[0]}, or a folder of the images alone")
    if tables:
        return ParquetFiles(folder, tables, settings.part_size, field, report)
    if packed := _files_with(folder, _PACKED):
        raise _other_kind(packed[0], inside=True)
    raise DataError(f"{folder} has no shards, .tar files or images, and no .parquet files", hint=_HINT)


def _other_kind(file: Path, *, inside: bool = False) -> UsageError:
    """Return the error for a file that cannot be embedded, with what it is; `inside`: in a folder without images."""
    try:
        with file.open("rb") as stream:
            kind, advice = kind_of(stream.read(_HEAD))
    except OSError:
        kind, advice = "", ""
    what = f"{file.parent} has no images, but " if inside else ""
    if not kind:
        return UsageError(f"{what}{file} is not a valid input of `dove embed`", hint=_HINT)
    return UsageError(f"{what}{file} is {kind}", hint=advice.replace("FILE", str(file)))


def scenes_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the scenes of a folder, and the other images."""
    scenes, images = _files_with(folder, SCENES), _files_with(folder, tuple({*IMAGE_ENDINGS} - {*SCENES}))
    others = [image for image in images if not _has_world_file(image)]
    return sorted({*scenes, *images} - {*others}), others


def _has_world_file(image: Path) -> bool:
    return any(image.with_suffix(ending).exists() for ending in _WORLD_FILES.get(image.suffix.lower(), ()))


def _has_images(table: Path) -> bool:
    try:
        describe_parquet(table)
    except DataError:
        return False
    return True


def _files_with(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    names = (name for name, _, _ in files_below(folder) if name.lower().endswith(endings) and not JUNK.search(name))
    return sorted(folder / real_name(name) for name in names)


def _below_one_root(paths: Sequence[Path]) -> tuple[Path, list[Path]]:
    """Return the common folder of all files, and the files in order."""
    if len(paths) == 1:
        return paths[0].parent, list(paths)
    files = sorted({Path(os.path.abspath(path)) for path in paths})  # noqa: PTH100  # resolve() would follow links
    return Path(os.path.commonpath([file.parent for file in files])), files
