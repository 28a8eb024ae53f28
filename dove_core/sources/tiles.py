"""Scenes such as GeoTIFFs, cut into tiles, as an input of `dove embed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dove_core.config import EmbedConfig
from dove_core.data.bands import Look
from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.data.samples import Unusable
from dove_core.errors import DataError, UsageError, reason_of
from dove_core.events import Noted, Report, Skipped
from dove_core.places import Folder
from dove_core.processes import OwnFile
from dove_core.sources.band_files import grouped, key_of
from dove_core.sources.geotiff import CACHE_BYTES, OpenScene, Scene, Tile, describe_scene, gdal, look_at, read_tile
from dove_core.sources.source import Input, Source, digest_of

ENDINGS = (".tif", ".tiff", ".jp2", ".vrt", ".img")
EMPTY, DAMAGED, OFF_EARTH = "empty tile", "damaged scene", "tile beyond the Earth"
OTHER_BAND, NO_BAND = (
    "part of a scene of several files, besides red, green and blue",
    "scene without the bands of --bands",
)


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
            files: the scenes, in the order of the parts; those with one band of a product become one scene.
            settings: tile size, stride, bands and part size.
            field: the caption field of the model; tiles have no captions.
            report: receives skipped scenes, and notes on bands and on scenes without a position.

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
        self._looks: dict[int, Look | DataError] = {}

    def inputs(self) -> Sequence[Input]:
        """Return the input of each part."""
        return [self._input(number, start) for number, start in self._parts]

    def open(self, part: int) -> SceneSamples:
        """Return the tiles of a part; those of a damaged scene are unusable."""
        number, start = self._parts[part]
        file, look = self._files[number], self._look(number)
        stop = start + (self._input(number, start).count or 0)
        problem = look if isinstance(look, DataError) else None
        tiles = [self._tile(file, k, Look() if isinstance(look, DataError) else look) for k in range(start, stop)]
        return SceneSamples(self._folder, file.name, file.scene, tiles, problem)

    def notes(self, part: int) -> Sequence[str]:
        """Return what was noticed in a scene, once for the first of its parts."""
        number, start = self._parts[part]
        look = self._look(number)
        if start or isinstance(look, DataError):
            return ()
        return [f"{self._files[number].name}: {note}" for note in look.notes]

    def field(self, part: int) -> str:
        """Return the caption field of the model; tiles have no captions."""
        return self._field

    def _look(self, number: int) -> Look | DataError:
        """Return how the values of a scene become colours, found once for each scene; the error of a damaged one."""
        if number not in self._looks:
            file = self._files[number]
            try:
                self._looks[number] = look_at(self._folder / file.name, file.scene)
            except DataError as error:
                self._looks[number] = error
            except Exception as error:  # GDAL's and PROJ's errors have no common base class
                self._looks[number] = DataError(f"{file.name}: {reason_of(error)}")
        return self._looks[number]

    def _input(self, number: int, start: int) -> Input:
        file = self._files[number]
        stop = min(start + self._settings.part_size, len(file.columns) * len(file.rows))
        return Input(f"{file.name}#tiles={start}-{stop}", file.digest, stop - start)

    def _tile(self, file: _File, number: int, look: Look) -> Tile:
        row, column = divmod(number, len(file.columns))
        side, scene = self._settings.tile, file.scene
        x, y = file.columns[column], file.rows[row]
        return Tile(x, y, min(side, scene.width), min(side, scene.height), scene.bands, look)


class SceneSamples:
    """The tiles of one part."""

    strict = False

    def __init__(
        self, root: Path, name: str, scene: Scene, tiles: Sequence[Tile], problem: DataError | None = None
    ) -> None:
        self._name, self._scene, self._tiles, self._problem = name, scene, tiles, problem
        self._opened = OwnFile(partial(OpenScene, root / name))

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self._tiles)

    def read(self, number: int) -> Record | Unusable:
        """Read a tile as an uncompressed PPM, which needs little time to encode."""
        tile = self._tiles[number]
        address = tile.address(self._name)
        try:
            if self._problem is not None:
                raise self._problem
            with gdal():
                return self._read(number, tile, address)
        except DataError as error:
            return Unusable(DAMAGED, error.message)
        except OSError as error:  # raised by rasterio for a damaged block; its cause says why
            return Unusable(DAMAGED, f"{address}: {error.__cause__ or error}")
        except Exception as error:  # GDAL's and PROJ's errors have no common base class
            return Unusable(DAMAGED, f"{address}: {reason_of(error)}")

    def _read(self, number: int, tile: Tile, address: str) -> Record | Unusable:
        scene = self._opened.get()
        pixels = read_tile(scene.dataset, tile)
        if pixels is None:
            return Unusable(EMPTY, address)
        position = scene.position if self._scene.placed else None
        box = position.footprint(tile.window) if position else None
        if position and box is None:
            return Unusable(OFF_EARTH, address)
        gsd = position.metres_per_pixel(tile.window) if position else None
        data = b"P6 %d %d 255\n" % (tile.width, tile.height) + pixels.tobytes()
        key = f"{key_of(self._name)}_{tile.x}_{tile.y}"
        sample = Sample(key, self._name, {}, box=box, time=self._scene.time, gsd=gsd)
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
    scenes, others = grouped(files)
    readable: list[_File] = []
    errors: list[DataError | UsageError] = []
    for path in scenes:
        try:
            readable.append(_file_of(root, path, settings))
        except OSError as error:
            errors.append(DataError(f"{path} cannot be read: {error.strerror}", hint="check its permissions"))
        except (DataError, UsageError) as error:
            errors.append(error)
        except Exception as error:  # GDAL's and PROJ's errors have no common base class
            errors.append(DataError(f"{path} cannot be read: {reason_of(error)}", hint="check it with `gdalinfo`"))
    if errors and not readable:
        raise errors[0]
    for kind, reason in ((DataError, DAMAGED), (UsageError, NO_BAND)):
        if of_kind := [error for error in errors if isinstance(error, kind)]:
            report(Skipped("embedding", reason, len(of_kind), of_kind[0].message))
    if others:
        report(Skipped("embedding", OTHER_BAND, len(others), str(others[0].relative_to(root))))
    _note_problems(readable, report)
    return readable


def _file_of(root: Path, path: Path, settings: EmbedConfig) -> _File:
    scene = describe_scene(path, settings.band_numbers)
    name, stride = path.relative_to(root).as_posix(), settings.stride or settings.tile
    facts = [file.stat() for file in map(Path, scene.files or (path,)) if file == path or file.exists()]
    versions = [(one.st_size, one.st_mtime_ns) for one in facts]
    digest = digest_of(name, *versions[0], settings.tile, stride, scene.bands, *versions[1:])
    sides = (tile_starts(length, settings.tile, stride) for length in (scene.width, scene.height))
    return _File(name, digest, scene, *sides)


def _note_problems(files: Sequence[_File], report: Report) -> None:
    """Report scenes whose bands were guessed, of several files, without a position, and with large blocks."""
    if unnamed := [file for file in files if not file.scene.named]:
        bands, count = unnamed[0].scene.bands, len(unnamed[0].scene.bands)
        what = f"bands {','.join(map(str, bands))} are" if count > 1 else f"band {bands[0]} is"
        how = "red, green and blue" if count > 1 else "grey"
        text = f"{_and_more(unnamed)}: {what} taken as {how}, which the file does not say; choose others with --bands"
        report(Noted(text))
    if several := [file for file in files if "{" in file.name and len(file.scene.files) >= 3]:
        report(Noted(f"{_and_more(several)}: files with the red, green and blue band are one scene"))
    if unplaced := [file for file in files if not file.scene.placed]:
        report(Noted(f"{_and_more(unplaced)}: no CRS that can be converted to degrees, so tiles have no footprint"))
    for file in files:
        if file.scene.block_bytes > CACHE_BYTES:
            size = file.scene.block_bytes // 2**20
            report(Noted(
                f"{file.name} has blocks of {size} MiB, and each process needs memory for some; "
                "`gdal_translate -co TILED=YES` makes a copy with small blocks"
            ))  # fmt: skip


def _and_more(files: Sequence[_File]) -> str:
    return files[0].name + (f" and {len(files) - 1} more" if len(files) > 1 else "")
