"""Tiles of GeoTIFF scenes: their pixels, footprints and times, and which are skipped."""

from __future__ import annotations

import io
import itertools
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from rasterio.warp import transform

from dove_core.config import EmbedConfig
from dove_core.data.bands import Look
from dove_core.data.samples import Unusable
from dove_core.errors import DataError, SearchIndexError, UsageError
from dove_core.events import Advanced, Noted, Skipped, Started
from dove_core.index.embed import embed
from dove_core.index.images import read_image
from dove_core.index.rows import Row
from dove_core.places import Folder
from dove_core.sources.geotiff import Tile, parse_tile
from dove_core.sources.tiles import Scenes, tile_starts
from tests.conftest import ALONE

UTM = "EPSG:32633"
TILES = EmbedConfig(tile=32, stride=16, part_size=7)


def noise(bands: int, height: int, width: int, kind: type = np.uint8, high: int = 255) -> np.ndarray:
    return np.random.default_rng(5).integers(1, high, (bands, height, width)).astype(kind)


def write(path: Path, values: np.ndarray, *, colours: tuple[ColorInterp, ...] = (), time: str = "", **how) -> Path:
    how = {"crs": UTM, "transform": from_origin(500_000, 5_000_000, 10, 10), **how}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        bands, height, width = values.shape
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=values.dtype, **how
        ) as dataset:
            dataset.write(values)
            if colours:
                dataset.colorinterp = colours
            if time:
                dataset.update_tags(TIFFTAG_DATETIME=time)
    return path


def tiles_of(path: Path, settings: EmbedConfig = TILES, events: list | None = None) -> list:
    """Read every tile of a scene as embedding does."""
    scenes = Scenes(path.parent, [path], settings, "caption", (events if events is not None else []).append)
    samples = [scenes.open(part) for part in range(len(scenes.inputs()))]
    return [part.read(number) for part in samples for number in range(len(part))]


def tile_at(address: str) -> Row:
    return Row("a", None, address, 0, 0)


def pixels_of(record, folder: Path) -> np.ndarray:
    """Return the pixels that were embedded, which are those that a hit shows."""
    embedded = np.array(Image.open(io.BytesIO(record.image)))
    shown = read_image(Folder(folder), tile_at(record.shard))
    assert shown.startswith(b"\x89PNG")
    assert np.array_equal(np.array(Image.open(io.BytesIO(shown))), embedded)
    return embedded


def outline(path: Path, tile: Tile) -> tuple[float, float, float, float]:
    """Return the box in degrees around many points of a tile's outline."""
    steps = np.linspace(0, 1, 200)
    points = [(s, e) for s in steps for e in (0, 1)] + [(e, s) for s in steps for e in (0, 1)]
    with rasterio.open(path) as dataset:
        where = [dataset.xy(tile.y + tile.height * b, tile.x + tile.width * a, offset="ul") for a, b in points]
        xs, ys = transform(dataset.crs, "EPSG:4326", [x for x, _ in where], [y for _, y in where])
    return min(xs), min(ys), max(xs), max(ys)


def test_tiles_cover_every_pixel_and_the_last_ones_have_full_size():
    for length, tile, stride in itertools.product((1, 31, 32, 33, 100, 257), (32, 64), (1, 16, 32)):
        found = tile_starts(length, tile, stride)
        seen = set()
        for start in found:
            assert start + tile <= length or found == (0,)
            seen |= set(range(start, min(start + tile, length)))
        assert seen == set(range(length))
        assert sorted(set(found)) == list(found)
        assert all(b - a == stride for a, b in itertools.pairwise(found[:-1]))
    assert tile_starts(6000, 256, 128)[-2:] == (5632, 5744)


@pytest.mark.parametrize("kind", ["strips", "tiles"])
def test_each_tile_has_the_pixels_of_its_window(tmp_path, kind):
    values = noise(3, 75, 90)
    how = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"} if kind == "tiles" else {}
    path = write(tmp_path / "a.tif", values, **how)
    records = tiles_of(path)
    assert len(records) == len(tile_starts(90, 32, 16)) * len(tile_starts(75, 32, 16)) == 5 * 4
    for record in records:
        _, tile = parse_tile(record.shard)
        assert record.sample.key == f"a_{tile.x}_{tile.y}"
        window = values[:, tile.y : tile.y + 32, tile.x : tile.x + 32]
        assert np.array_equal(pixels_of(record, tmp_path), np.moveaxis(window, 0, -1))


def test_rows_of_a_scene_have_footprint_and_time_and_their_image_is_the_tile(trained, tmp_path):
    (tmp_path / "scenes" / "north").mkdir(parents=True)
    path = write(tmp_path / "scenes" / "north" / "a.tif", noise(3, 64, 80), time="2021:06:05 10:20:30")
    events: list = []
    index = embed(trained / "best", tmp_path / "scenes", tmp_path / "index", TILES, ALONE, report=events.append)
    rows = index.rows(range(len(index)))
    assert events[0] == Started("embedding", 12, "images", done=0)
    assert index.manifest.counts == [7, 5]
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == len(rows) == 12
    for row in rows:
        name, tile = parse_tile(row.shard)
        assert name == "north/a.tif"
        assert row.box == pytest.approx(outline(path, tile), abs=1e-7)
        assert row.place == pytest.approx(((row.box[0] + row.box[2]) / 2, (row.box[1] + row.box[3]) / 2))
        assert (row.time, row.gsd, row.caption) == ("2021-06-05T10:20", 10.0, None)
    assert Image.open(io.BytesIO(index.image(rows[-1]))).size == (32, 32)
    single = embed(trained / "best", [path], tmp_path / "single", TILES, ALONE)
    assert np.array_equal(single.vectors, index.vectors)
    assert single.image(single.rows([3])[0]) == index.image(rows[3])


def test_geographic_scenes_have_exact_footprints_and_metres_at_their_latitude(tmp_path):
    step = 0.001
    path = write(tmp_path / "a.tif", noise(1, 64, 64), crs="EPSG:4326", transform=from_origin(10, 60, step, step))
    for record in tiles_of(path):
        _, tile = parse_tile(record.shard)
        west, north = 10 + tile.x * step, 60 - tile.y * step
        assert record.sample.box == pytest.approx((west, north - 32 * step, west + 32 * step, north), abs=1e-9)
        metres = math.sqrt(111_412 * step * 55_800 * step)  # a degree at 60 degrees north, by the tables
        assert record.sample.gsd == pytest.approx(metres, rel=2e-3)


@pytest.mark.parametrize(
    ("crs", "step", "metres"),
    [
        ("EPSG:32633", 10, 10.0),
        ("EPSG:2263", 10, 10 * 1200 / 3937),  # New York's feet
        ("EPSG:3857", 10, 10 * 0.50084),  # Web Mercator at 60 degrees: on a sphere half, on the ellipsoid a bit more
    ],
)
def test_the_ground_sample_distance_is_measured_on_the_ground(tmp_path, crs, step, metres):
    xs, ys = transform("EPSG:4326", crs, [-74.0 if crs == "EPSG:2263" else 15.0], [40.7 if crs == "EPSG:2263" else 60])
    path = write(tmp_path / "a.tif", noise(3, 32, 32), crs=crs, transform=from_origin(xs[0], ys[0], step, step))
    (record,) = tiles_of(path)
    assert record.sample.gsd == pytest.approx(metres, rel=3e-3)
    assert record.sample.box == pytest.approx(outline(path, parse_tile(record.shard)[1]), abs=1e-7)


@pytest.mark.parametrize("how", ["south up", "rotated"])
def test_south_up_and_rotated_scenes_keep_their_pixels_and_have_the_box_around_each_tile(tmp_path, how):
    turned = Affine(10, 0, 500_000, 0, 10, 5_000_000)
    if how == "rotated":
        cosine, sine = 10 * math.cos(math.radians(30)), 10 * math.sin(math.radians(30))
        turned = Affine(cosine, sine, 500_000, sine, -cosine, 5_000_000)
    values = noise(3, 48, 64)
    path = write(tmp_path / "a.tif", values, transform=turned)
    for record in tiles_of(path):
        _, tile = parse_tile(record.shard)
        window = values[:, tile.y : tile.y + 32, tile.x : tile.x + 32]
        assert np.array_equal(pixels_of(record, tmp_path), np.moveaxis(window, 0, -1)), "in the order of the file"
        assert record.sample.box == pytest.approx(outline(path, tile), abs=3e-5)  # three metres
        assert record.sample.gsd == pytest.approx(10)


def test_a_scene_across_the_antimeridian_has_a_west_that_is_greater_than_its_east(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, 32, 64), crs="EPSG:4326", transform=from_origin(179.984, 10, 1e-3, 1e-3))
    boxes = [record.sample.box for record in tiles_of(path)]
    assert boxes[0] == pytest.approx((179.984, 9.968, -179.984, 10))
    assert boxes[-1] == pytest.approx((-179.984, 9.968, -179.952, 10))


def test_a_scene_without_position_has_tiles_without_footprint_and_is_reported(tmp_path):
    local = rasterio.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    for number, how in enumerate(({"crs": None}, {"transform": Affine.identity()}, {"crs": local})):
        events: list = []
        path = write(tmp_path / f"{number}.tif", noise(3, 32, 32), **how)
        (record,) = tiles_of(path, TILES, events)
        assert (record.sample.box, record.sample.gsd, record.sample.time) == (None, None, None)
        (noted,) = [event for event in events if isinstance(event, Noted)]
        assert noted.message == f"{number}.tif: no CRS that can be converted to degrees, so tiles have no footprint"


def test_sixteen_bits_are_stretched_between_the_second_and_98th_percentile_of_all_bands(tmp_path):
    values = noise(3, 64, 64, np.uint16, 4000)
    values[2] //= 4
    path = write(tmp_path / "a.tif", values)
    low, high = np.percentile(values, (2, 98))
    for record in tiles_of(path):
        _, tile = parse_tile(record.shard)
        assert tile.look.stretch == (low, high)
        window = values[:, tile.y : tile.y + 32, tile.x : tile.x + 32]
        expected = np.clip((window - low) / (high - low) * 255, 0, 255)
        assert np.abs(np.moveaxis(pixels_of(record, tmp_path), -1, 0) - expected).max() <= 0.51


def test_percentiles_come_from_overviews_where_there_are_any(tmp_path):
    values = noise(1, 2000, 1500, np.uint16, 4000)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=256, blockysize=256)
    exact = parse_tile(tiles_of(path, EmbedConfig(tile=1500))[0].shard)[1].look.stretch
    assert exact == pytest.approx(np.percentile(values, (2, 98)), rel=0.05, abs=5)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2], rasterio.enums.Resampling.average)
    smooth = parse_tile(tiles_of(path, EmbedConfig(tile=1500))[0].shard)[1].look.stretch
    assert smooth[0] > exact[0] + 100, "averages have fewer extremes"


@pytest.mark.parametrize("kind", ["no data value", "alpha", "mask", "zeros"])
def test_empty_tiles_are_skipped_and_counted(trained, tmp_path, kind):
    values = noise(3, 64, 96)
    values[:, :, :48] = 0 if kind == "zeros" else 9
    values[:, 20:40, 60:70] = values[:, 0:1, 0:1]
    is_there = np.ones((64, 96), np.uint8) * 255
    is_there[:, :48] = is_there[20:40, 60:70] = 0
    path = tmp_path / "a.tif"
    if kind == "alpha":
        colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        write(path, np.concatenate([values, is_there[None]]), colours=colours)
    else:
        write(path, values, nodata=9 if kind == "no data value" else None)
    if kind == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(is_there > 0)
    found = tiles_of(path)
    empty = [one for one in found if isinstance(one, Unusable)]
    assert [parse_tile(one.example)[1].x for one in empty] == [0, 16, 0, 16, 0, 16]
    for record in (one for one in found if not isinstance(one, Unusable)):
        _, tile = parse_tile(record.shard)
        window = (slice(tile.y, tile.y + 32), slice(tile.x, tile.x + 32))
        expected = np.where(is_there[window] > 0, values[(slice(None), *window)], 0)
        if kind == "no data value":  # a pixel counts as long as one of its bands does
            assert (pixels_of(record, tmp_path)[is_there[window] == 0] == 0).all()
        else:
            assert np.array_equal(np.moveaxis(pixels_of(record, tmp_path), -1, 0), expected)
    events: list = []
    index = embed(trained / "best", [path], tmp_path / "index", TILES, ALONE, report=events.append)
    assert len(index) == len(found) - 6
    assert [event for event in events if isinstance(event, Skipped)] == [
        Skipped("embedding", "empty tile", 6, empty[0].example)
    ]


def test_an_empty_scene_is_an_error(trained, tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((3, 64, 64), np.uint16))
    with pytest.raises(DataError, match=r"a\.tif has no usable images: empty tile \(9\)"):
        embed(trained / "best", [path], tmp_path / "index", TILES, ALONE)


BGR = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)


@pytest.mark.parametrize(
    ("bands", "colours", "wanted", "seen"),
    [
        (1, (), "", [0, 0, 0]),
        (2, (ColorInterp.gray, ColorInterp.alpha), "", [0, 0, 0]),
        (3, (), "", [0, 1, 2]),
        (4, BGR, "", [2, 1, 0]),
        (4, (), "", [0, 1, 2]),
        (7, (), "4,3,2", [3, 2, 1]),
        (7, (), "6", [5, 5, 5]),
    ],
)
def test_bands_become_colours(tmp_path, bands, colours, wanted, seen):
    values = noise(bands, 32, 32)
    path = write(tmp_path / "a.tif", values, colours=colours)
    (record,) = tiles_of(path, EmbedConfig(tile=32, bands=wanted))
    assert np.array_equal(np.moveaxis(pixels_of(record, tmp_path), -1, 0), values[seen])
    with pytest.raises(UsageError, match=r"--bands 9: .*a\.tif has \d band"):
        tiles_of(path, EmbedConfig(tile=32, bands="9"))


def test_a_palette_becomes_its_colours(tmp_path):
    values = noise(1, 32, 32, high=4)
    path = write(tmp_path / "a.tif", values, photometric="palette")
    palette = {1: (255, 0, 0, 255), 2: (0, 200, 10, 255), 3: (1, 2, 3, 255)}
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, palette)
    (record,) = tiles_of(path)
    pixels = pixels_of(record, tmp_path)
    assert all((pixels[values[0] == value] == colour[:3]).all() for value, colour in palette.items())


def test_floats_are_stretched_without_nan_and_complex_numbers_are_an_error(tmp_path):
    values = noise(1, 64, 64, np.float32, 1000) / 1000
    values[0, :40, :40] = np.nan
    path = write(tmp_path / "a.tif", values)
    found = tiles_of(path)
    assert [type(one).__name__ for one in found[:2]] == ["Unusable", "Record"]
    assert parse_tile(found[1].shard)[1].look.stretch == pytest.approx(np.nanpercentile(values, (2, 98)))
    assert (pixels_of(found[1], tmp_path)[:, :24] == 0).all()
    with pytest.raises(DataError, match="complex numbers"):
        tiles_of(write(tmp_path / "c.tif", noise(1, 32, 32).astype(np.complex64)))


def test_a_scene_smaller_than_a_tile_is_one_tile(tmp_path):
    values = noise(3, 20, 300)
    records = tiles_of(write(tmp_path / "a.tif", values), EmbedConfig(tile=256))
    assert [parse_tile(record.shard)[1] for record in records] == [
        Tile(0, 0, 256, 20, (1, 2, 3)), Tile(44, 0, 256, 20, (1, 2, 3))
    ]  # fmt: skip
    assert pixels_of(records[1], tmp_path).shape == (20, 256, 3)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiles_with_damaged_blocks_and_damaged_scenes_are_skipped(trained, tmp_path, kind):
    how = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
    path = write(tmp_path / "a.tif", noise(3, 96, 96, kind), **how)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = b"\xff" * 3000
    path.write_bytes(data)
    (tmp_path / "b.tif").write_bytes(b"<html>")
    events: list = []
    settings = EmbedConfig(tile=32)
    index = embed(trained / "best", tmp_path, tmp_path / "index", settings, ALONE, report=events.append)
    assert 0 < len(index) < 9
    skipped = [event for event in events if isinstance(event, Skipped) and event.reason == "damaged scene"]
    assert [event.count for event in skipped] == [1, 9 - len(index)]
    assert "band 1" in skipped[1].example and "previous exception" not in skipped[1].example
    path.unlink()
    with pytest.raises(DataError, match=r"b\.tif cannot be read"):
        embed(trained / "best", tmp_path, tmp_path / "index", settings, ALONE)


def test_a_tile_of_a_missing_or_smaller_scene_is_an_error(tmp_path):
    (record, *_) = tiles_of(write(tmp_path / "a.tif", noise(3, 64, 64)))
    address = Tile(60, 60, 32, 32, (1, 2, 3)).address("a.tif")
    for shard, message in (
        (address, "smaller than when it was embedded"),
        (record.shard.replace("a.tif", "b.tif"), "cannot be read"),
    ):
        with pytest.raises(SearchIndexError, match=message) as caught:
            read_image(Folder(tmp_path), tile_at(shard))
        assert "dove embed" in caught.value.hint


@pytest.mark.parametrize("stretch", [None, (0.1, 1e-9), (12.0, 2800.5), (-3.0, float(np.float32(0.1)))])
def test_the_address_of_a_tile_is_parsed_exactly(stretch):
    tile = Tile(128, 0, 256, 255, (4, 3, 2), Look(stretch))
    for name in ("scene.tif", "a b/c#window=1,2,3,4&bands=1.tif", "机场\n.tif"):
        assert parse_tile(tile.address(name)) == (name, tile)
    assert parse_tile("00000.tar") is None


def test_without_rasterio_the_error_says_how_to_install_it(trained, tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", noise(3, 64, 64))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UsageError, match="needs the package rasterio") as caught:
        embed(trained / "best", [path], tmp_path / "index", TILES, ALONE)
    assert caught.value.hint == "pip install rasterio"
    with pytest.raises(UsageError, match="needs the package rasterio"):
        read_image(Folder(tmp_path), tile_at(Tile(0, 0, 32, 32, (1,)).address("a.tif")))


def test_scenes_with_large_blocks_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("dove_core.sources.tiles.CACHE_BYTES", 3 * 2**20)
    events: list = []
    path = write(tmp_path / "a.tif", noise(3, 1200, 1000), tiled=True, blockxsize=1024, blockysize=1216)
    tiles_of(path, EmbedConfig(tile=1000, stride=1000), events)
    (noted,) = [event.message for event in events if isinstance(event, Noted)]
    assert "a.tif has blocks of 3 MiB" in noted
