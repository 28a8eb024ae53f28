"""GeoTIFF scenes as an input of `dove embed`: tiles, read block by block, each with its footprint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dove_core.config import EmbedConfig
from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.data.samples import Unusable
from dove_core.errors import DataError
from dove_core.events import Noted, Report, Skipped
from dove_core.places import Folder
from dove_core.sources.geotiff import (
    CACHE_BYTES,
    Scene,
    Tile,
    footprint,
    gdal,
    look_at,
    metres_per_pixel,
    open_scene,
    read_tile,
    stretch_of,
)
from dove_core.sources.source import Input, Source, digest_of

ENDINGS = (".tif", ".tiff")
EMPTY, DAMAGED = "nothing in the tile", "damaged scene"


@dataclass(frozen=True)
class _File:
    """A scene with its name below the root, its digest, and where its columns and rows of tiles begin."""

    name: str
    digest: str
    scene: Scene
    columns: tuple[int, ...]
    rows: tuple[int, ...]


class Scenes(Source):
    """Several scenes; a part is so many tiles of one of them, row by row."""

    def __init__(self, root: Path, files: Sequence[Path], settings: EmbedConfig, field: str, report: Report) -> None:
        """Look at every scene; those that cannot be read are reported and left out.

        Args:
            root: folder above all files.
            files: the GeoTIFFs, in the order of the parts.
            settings: tile, stride and bands.
            field: the model's caption field; tiles have no captions.
            report: hears what is left out, and which scenes do not say where they lie.

        Raises:
            UsageError: rasterio is not installed, or a band is wanted that is not there.
            DataError: none of the scenes can be read.
        """
        self.root, self._folder, self._settings, self._field = Folder(root), root, settings, field
        self._files = _readable(root, files, settings, report)
        self._parts = [
            (number, start)
            for number, file in enumerate(self._files)
            for start in range(0, len(file.columns) * len(file.rows), settings.part_size)
        ]
        self._stretches: dict[int, tuple[float, float] | None] = {}

    def inputs(self) -> Sequence[Input]:
        """Return what each part is made of."""
        return [self._input(number, start) for number, start in self._parts]

    def open(self, part: int) -> SceneSamples:
        """Open the tiles of a part. What becomes black and white is found out once for each scene.

        Raises:
            DataError: the scene cannot be read any more.
        """
        number, start = self._parts[part]
        file = self._files[number]
        if number not in self._stretches:
            self._stretches[number] = stretch_of(self._folder / file.name, file.scene)
        stop = start + (self._input(number, start).count or 0)
        tiles = [self._tile(file, k, self._stretches[number]) for k in range(start, stop)]
        return SceneSamples(self._folder, file.name, file.scene, tiles)

    def field(self, part: int) -> str:
        """Return the model's caption field."""
        return self._field

    def _input(self, number: int, start: int) -> Input:
        file = self._files[number]
        stop = min(start + self._settings.part_size, len(file.columns) * len(file.rows))
        return Input(f"{file.name}#tiles={start}-{stop}", file.digest, stop - start)

    def _tile(self, file: _File, number: int, stretch: tuple[float, float] | None) -> Tile:
        row, column = divmod(number, len(file.columns))
        side, scene = self._settings.tile, file.scene
        x, y = file.columns[column], file.rows[row]
        return Tile(x, y, min(side, scene.width), min(side, scene.height), scene.bands, stretch)


class SceneSamples:
    """Some tiles of one scene. Each process opens the scene for itself."""

    strict = False

    def __init__(self, root: Path, name: str, scene: Scene, tiles: Sequence[Tile]) -> None:
        self._path, self._name, self._scene, self._tiles = root / name, name, scene, tiles
        self._opened: tuple[int, Any] | None = None

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self._tiles)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open scene behind when travelling to another process."""
        return {**self.__dict__, "_opened": None}

    def __del__(self) -> None:
        """Close the scene."""
        if held := self.__dict__.get("_opened"):
            held[1].close()

    def read(self, number: int) -> Record | Unusable:
        """Read a tile, as the bytes of a PPM, which cost no packing."""
        tile = self._tiles[number]
        address = tile.address(self._name)
        try:
            dataset = self._dataset()
            with gdal():
                pixels = read_tile(dataset, tile)
                box = footprint(dataset, tile) if self._scene.placed else None
                gsd = metres_per_pixel(dataset, tile) if self._scene.placed else None
        except DataError as error:
            return Unusable(DAMAGED, error.message)
        except OSError as error:  # what rasterio raises for a damaged block
            return Unusable(DAMAGED, f"{address}: {error}")
        if pixels is None:
            return Unusable(EMPTY, address)
        data = b"P6 %d %d 255\n" % (tile.width, tile.height) + pixels.tobytes()
        stem = PurePosixPath(self._name).with_suffix("").as_posix()
        sample = Sample(f"{stem}_{tile.x}_{tile.y}", self._name, {}, box=box, time=self._scene.time, gsd=gsd)
        return Record(number, address, 0, 0, data, sample)

    def _dataset(self) -> Any:
        """Return the scene, opened by this process: one that was opened before a fork shares its place in the file."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), open_scene(self._path)
        return self._opened[1]


def starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """Return where tiles begin along a side of `length` pixels: every `stride`, and the last one at the very end.

    Every pixel lies in a tile. A side shorter than a tile has one, as long as the side.
    """
    if length <= tile:
        return (0,)
    found = list(range(0, length - tile + 1, stride))
    return (*found, length - tile) if found[-1] < length - tile else tuple(found)


def _readable(root: Path, files: Sequence[Path], settings: EmbedConfig, report: Report) -> list[_File]:
    found: list[_File] = []
    broken: list[DataError] = []
    stride = settings.stride or settings.tile
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            facts = path.stat()
            scene = look_at(path, settings.band_numbers)
        except OSError as error:
            broken.append(DataError(f"{path} cannot be read: {error.strerror}", hint="are its rights right?"))
            continue
        except DataError as error:
            broken.append(error)
            continue
        digest = digest_of(name, facts.st_size, facts.st_mtime_ns, settings.tile, stride, scene.bands)
        sides = (starts(length, settings.tile, stride) for length in (scene.width, scene.height))
        found.append(_File(name, digest, scene, *sides))
    if broken and not found:
        raise broken[0]
    if broken:
        report(Skipped("embedding", DAMAGED, len(broken), broken[0].message))
    _say_what_is_odd(found, report)
    return found


def _say_what_is_odd(files: Sequence[_File], report: Report) -> None:
    if nowhere := [file.name for file in files if not file.scene.placed]:
        more = f" and {len(nowhere) - 1} more" if len(nowhere) > 1 else ""
        report(Noted(f"{nowhere[0]}{more}: no coordinate system that leads to degrees, so tiles have no footprint"))
    for file in files:
        if file.scene.block_bytes > CACHE_BYTES:
            size = file.scene.block_bytes // 2**20
            report(Noted(
                f"{file.name} comes in blocks of {size} MiB, which each process has to hold; "
                "`gdal_translate -co TILED=YES` makes a copy with small ones"
            ))  # fmt: skip
