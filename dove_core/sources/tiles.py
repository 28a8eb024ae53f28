"""GeoTIFF scenes, cut into tiles, as an input of `dove embed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from dove_core.config import EmbedConfig
from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.data.samples import Unusable
from dove_core.errors import DataError
from dove_core.events import Noted, Report, Skipped
from dove_core.places import Folder
from dove_core.processes import OwnFile
from dove_core.sources.geotiff import (
    CACHE_BYTES,
    Scene,
    Tile,
    describe_scene,
    footprint,
    gdal,
    metres_per_pixel,
    open_scene,
    read_tile,
    stretch_of,
)
from dove_core.sources.source import Input, Source, digest_of

ENDINGS = (".tif", ".tiff")
EMPTY, DAMAGED = "empty tile", "damaged scene"


@dataclass(frozen=True)
class _File:
    """A scene: its name below the root, its digest, and the first pixels of its columns and rows of tiles."""

    name: str
    digest: str
    scene: Scene
    columns: tuple[int, ...]
    rows: tuple[int, ...]


class Scenes(Source):
    """Several scenes; a part has `part_size` tiles of one scene, row by row."""

    def __init__(self, root: Path, files: Sequence[Path], settings: EmbedConfig, field: str, report: Report) -> None:
        """Read the properties of every scene; those that cannot be read are skipped.

        Args:
            root: a folder that contains all files.
            files: the GeoTIFFs, in the order of the parts.
            settings: tile size, stride, bands and part size.
            field: the caption field of the model; tiles have no captions.
            report: receives skipped scenes, and notes on scenes without a position.

        Raises:
            UsageError: rasterio is not installed, or a wanted band does not exist.
            DataError: no scene can be read.
        """
        self.root, self._folder, self._settings, self._field = Folder(root), root, settings, field
        self._files = _readable_scenes(root, files, settings, report)
        self._parts = [
            (number, start)
            for number, file in enumerate(self._files)
            for start in range(0, len(file.columns) * len(file.rows), settings.part_size)
        ]
        self._stretches: dict[int, tuple[float, float] | None] = {}

    def inputs(self) -> Sequence[Input]:
        """Return the input of each part."""
        return [self._input(number, start) for number, start in self._parts]

    def open(self, part: int) -> SceneSamples:
        """Return the tiles of a part; the stretch of values is computed once for each scene.

        Raises:
            DataError: the scene cannot be read.
        """
        number, start = self._parts[part]
        file = self._files[number]
        if number not in self._stretches:
            self._stretches[number] = stretch_of(self._folder / file.name, file.scene)
        stop = start + (self._input(number, start).count or 0)
        tiles = [self._tile(file, k, self._stretches[number]) for k in range(start, stop)]
        return SceneSamples(self._folder, file.name, file.scene, tiles)

    def field(self, part: int) -> str:
        """Return the caption field of the model; tiles have no captions."""
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
    """The tiles of one part."""

    strict = False

    def __init__(self, root: Path, name: str, scene: Scene, tiles: Sequence[Tile]) -> None:
        self._path, self._name, self._scene, self._tiles = root / name, name, scene, tiles
        self._dataset = OwnFile[Any](partial(open_scene, self._path))

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self._tiles)

    def read(self, number: int) -> Record | Unusable:
        """Read a tile as an uncompressed PPM, which needs little time to encode."""
        tile = self._tiles[number]
        address = tile.address(self._name)
        try:
            dataset = self._dataset.get()
            with gdal():
                pixels = read_tile(dataset, tile)
                box = footprint(dataset, tile) if self._scene.placed else None
                gsd = metres_per_pixel(dataset, tile) if self._scene.placed else None
        except DataError as error:
            return Unusable(DAMAGED, error.message)
        except OSError as error:  # raised by rasterio for a damaged block
            return Unusable(DAMAGED, f"{address}: {error}")
        if pixels is None:
            return Unusable(EMPTY, address)
        data = b"P6 %d %d 255\n" % (tile.width, tile.height) + pixels.tobytes()
        stem = PurePosixPath(self._name).with_suffix("").as_posix()
        sample = Sample(f"{stem}_{tile.x}_{tile.y}", self._name, {}, box=box, time=self._scene.time, gsd=gsd)
        return Record(number, address, 0, 0, data, sample)


def tile_starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """Return the first pixel of each tile along a side of `length` pixels.

    Tiles begin every `stride` pixels; the last one ends at the end of the side, so every pixel is in a tile. A side
    shorter than a tile has one tile, as long as the side.
    """
    if length <= tile:
        return (0,)
    regular = range(0, length - tile + 1, stride)
    return (*regular, length - tile) if regular[-1] < length - tile else tuple(regular)


def _readable_scenes(root: Path, files: Sequence[Path], settings: EmbedConfig, report: Report) -> list[_File]:
    readable: list[_File] = []
    errors: list[DataError] = []
    stride = settings.stride or settings.tile
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            status = path.stat()
            scene = describe_scene(path, settings.band_numbers)
        except OSError as error:
            errors.append(DataError(f"{path} cannot be read: {error.strerror}", hint="check its permissions"))
            continue
        except DataError as error:
            errors.append(error)
            continue
        digest = digest_of(name, status.st_size, status.st_mtime_ns, settings.tile, stride, scene.bands)
        sides = (tile_starts(length, settings.tile, stride) for length in (scene.width, scene.height))
        readable.append(_File(name, digest, scene, *sides))
    if errors and not readable:
        raise errors[0]
    if errors:
        report(Skipped("embedding", DAMAGED, len(errors), errors[0].message))
    _note_problems(readable, report)
    return readable


def _note_problems(files: Sequence[_File], report: Report) -> None:
    """Report scenes without a position, and scenes with large blocks."""
    if unplaced := [file.name for file in files if not file.scene.placed]:
        more = f" and {len(unplaced) - 1} more" if len(unplaced) > 1 else ""
        report(Noted(f"{unplaced[0]}{more}: no CRS that can be converted to degrees, so tiles have no footprint"))
    for file in files:
        if file.scene.block_bytes > CACHE_BYTES:
            size = file.scene.block_bytes // 2**20
            report(Noted(
                f"{file.name} has blocks of {size} MiB, and each process needs memory for some; "
                "`gdal_translate -co TILED=YES` makes a copy with small blocks"
            ))  # fmt: skip
