"""Which kind of input a path is: our shards, anybody's tars, a folder of images, or GeoTIFF scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dove_core.config import EmbedConfig
from dove_core.data.manifest import IN_PROGRESS
from dove_core.data.reader import Record, Shards, split_folders
from dove_core.data.sharding.archives import JUNK, files_below
from dove_core.errors import DataError, UsageError
from dove_core.events import Report
from dove_core.places import Location
from dove_core.sources.folder import ImageFolder
from dove_core.sources.source import Input, Source
from dove_core.sources.tar import Tars
from dove_core.sources.tiles import ENDINGS as SCENES, Scenes

TARS = (".tar",)
_HINT = "give shards, .tar files, a folder of images, or GeoTIFFs with --tile 256"


def open_source(locations: Sequence[Location], settings: EmbedConfig, field: str, report: Report) -> Source:
    """Open what is to be embedded.

    Args:
        locations: one folder, or several files of one kind; or shards in a bucket.
        settings: with `tile`, GeoTIFFs are cut into tiles, and nothing else is read.
        field: the caption field that the model reads.
        report: hears what is left out of scenes.

    Raises:
        UsageError: the files are of several kinds, of none that can be embedded, or do not go with `--tile`.
        DataError: there is nothing, or it is damaged.
    """
    places = [location for location in locations if isinstance(location, Path)]
    if len(places) < len(locations):
        if settings.tile or len(locations) > 1:
            raise UsageError(
                "only shards can be embedded straight from a bucket", hint="one place with a manifest.json"
            )
        return ReleaseShards(locations[0], field)
    for place in places:
        if not place.exists():
            raise DataError(f"{place} does not exist", hint=_HINT)
    if len(places) == 1 and places[0].is_dir():
        return _open_folder(places[0], settings, field, report)
    root, files = _below_one_root(places)
    endings = {file.suffix.lower() for file in files}
    if settings.tile and not endings <= set(SCENES):
        raise UsageError(f"--tile cuts GeoTIFFs, and {files[0]} is none", hint="leave --tile out, or give .tif files")
    if endings <= set(SCENES) and not settings.tile:
        message = f"{files[0]} is a scene, and how to cut it is not said"
        raise UsageError(message, hint="--tile 256, perhaps with --stride 128; a folder of small ones needs no --tile")
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
        return ReleaseShards(folder, field)
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


class ReleaseShards:
    """Splits that `dove shard` made; a part is a shard."""

    def __init__(self, folder: Location, field: str) -> None:
        """Open a split, or a release with all its splits, here or in a bucket.

        Raises:
            DataError: shards are missing or damaged, or have several caption fields and not the wanted one.
        """
        self.root = folder
        self._splits = [Shards(split) for split in split_folders(folder)]
        self._fields = [split.choose_field(field) for split in self._splits]
        self._parts = [(k, shard) for k, split in enumerate(self._splits) for shard in range(len(split.counts))]

    def inputs(self) -> Sequence[Input]:
        """Return name, SHA-256 and number of images of each tar."""
        return [Input(self._name(part), *self._facts(part)) for part in range(len(self._parts))]

    def open(self, part: int) -> ShardSamples:
        """Return the samples of a shard."""
        split, shard = self._parts[part]
        return ShardSamples(self._splits[split], shard, self._name(part))

    def bring(self, part: int) -> None:
        """Bring here the shard of a part, if it lies in a bucket."""
        split, shard = self._parts[part]
        self._splits[split].bring(shard)

    def field(self, part: int) -> str:
        """Return the model's caption field, or the only one that the split has."""
        return self._fields[self._parts[part][0]]

    def _name(self, part: int) -> str:
        split, shard = self._parts[part]
        own = self._splits[split]
        return own.names[shard] if own.folder == self.root else f"{own.folder.name}/{own.names[shard]}"

    def _facts(self, part: int) -> tuple[str, int]:
        split, shard = self._parts[part]
        entry = self._splits[split].manifest.shards[shard]
        return entry.sha256, entry.samples


class ShardSamples:
    """The samples of one of our shards: whole, or an error."""

    strict = True

    def __init__(self, split: Shards, shard: int, name: str) -> None:
        self._split, self._name = split, name
        self._start, self._stop = split.bounds(shard)

    def __len__(self) -> int:
        """Count the samples."""
        return self._stop - self._start

    def read(self, number: int) -> Record:
        """Read a sample.

        Raises:
            DataError: the tar is missing or damaged.
        """
        return replace(self._split.read(self._start + number), shard=self._name)
