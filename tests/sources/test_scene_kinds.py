"""Scenes of any kind in one folder: each is read right or counted, whatever its bands, types, masks and container."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from dove_core.config import EmbedConfig
from dove_core.data.samples import Unusable
from dove_core.errors import DataError, UsageError
from dove_core.events import Noted, Skipped
from dove_core.index.images import read_image
from dove_core.index.rows import Row
from dove_core.places import Folder
from dove_core.sources.folder import ImageFolder
from dove_core.sources.geotiff import parse_tile
from dove_core.sources.open import open_source
from dove_core.sources.tiles import Scenes

SIDE, TILE = 96, 32
TILES = EmbedConfig(tile=TILE, part_size=4)
UTM = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
RED, GREEN, BLUE, ALPHA, OTHER = (getattr(ColorInterp, name) for name in ("red", "green", "blue", "alpha", "undefined"))


def write(path: Path, values: np.ndarray, names=(), colours=(), driver: str = "GTiff", **how: object) -> Path:
    bands, height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, count=bands, height=height, width=width, dtype=values.dtype, **{**UTM, **how}
        ) as dataset:
            if colours:
                dataset.colorinterp = colours
            dataset.write(values)
            if names:
                dataset.descriptions = names
    return path


def smooth(random: np.random.Generator, bands: int, low: float, high: float) -> np.ndarray:
    """Return bands `(C, SIDE, SIDE)` with values between two limits, none of them zero."""
    small = random.integers(1, 255, (bands, 12, 12)).astype(np.float64)
    return low + (high - low) * np.kron(small, np.ones((1, 8, 8))) / 255


def read_all(source: Scenes, folder: Path) -> tuple[list, list[Unusable], list[str]]:
    """Return what embedding reads of all parts: (record, pixels), unusable tiles, and notes. Hits show the same."""
    records, unusable, notes = [], [], []
    for part in range(len(source.inputs())):
        samples = source.open(part)
        notes += source.notes(part)
        for number in range(len(samples)):
            one = samples.read(number)
            if isinstance(one, Unusable):
                unusable.append(one)
                continue
            pixels = np.array(Image.open(io.BytesIO(one.image)))
            shown = read_image(Folder(folder), Row("a", None, one.shard, 0, 0))
            assert np.array_equal(np.array(Image.open(io.BytesIO(shown))), pixels)
            records.append((one, pixels))
    return records, unusable, notes


def open_scenes(folder: Path, settings: EmbedConfig = TILES) -> tuple[Scenes, list]:
    events: list = []
    source = open_source([Folder(folder)], settings, "caption", events.append)
    assert isinstance(source, Scenes)
    return source, events


def window(values: np.ndarray, shard: str) -> np.ndarray:
    x, y, width, height = parse_tile(shard)[1].window
    return values[:, y : y + height, x : x + width]


def agree(pixels: np.ndarray, values: np.ndarray) -> bool:
    """Tell whether pixels `(H, W, 3)` rise with values `(3, H, W)`, band by band, except where they are clipped."""
    for band in range(3):
        seen, true = pixels[..., band].ravel().astype(float), values[band].ravel().astype(float)
        if np.ptp(seen[np.argsort(true, kind="stable")]) and (np.diff(seen[np.argsort(true, kind="stable")]) < 0).any():
            return False
    return True


@pytest.mark.parametrize(
    ("names", "colours", "order"),
    [
        (("blue", "green", "red", "nir"), (), [2, 1, 0]),  # Planet
        (("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"), (), [3, 2, 1]),  # Sentinel-2
        ((), (BLUE, GREEN, RED, OTHER), [2, 1, 0]),
        (("blue", "green", "red", "nir"), (RED, GREEN, BLUE, ALPHA), [2, 1, 0]),
        (("x", "y", "z", "w"), (), [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_bands_are_taken_in_the_order_that_the_file_says_or_a_note_says_which(tmp_path, names, colours, order, kind):
    count = max(len(names), len(colours))
    values = smooth(np.random.default_rng(1), count, 5, 250 if kind == "uint8" else 4000).astype(kind)
    write(tmp_path / "a.tif", values, names, colours, photometric="MINISBLACK")
    source, events = open_scenes(tmp_path)
    records, unusable, _ = read_all(source, tmp_path)
    assert (len(records), unusable) == (9, [])
    for record, pixels in records:
        true = window(values[order], record.shard)
        assert np.array_equal(np.moveaxis(pixels, -1, 0), true) if kind == "uint8" else agree(pixels, true)
    notes = [event.message for event in events if isinstance(event, Noted)]
    guessed = "a.tif: bands 1,2,3 are taken as red, green and blue, which the file does not say"
    assert [note for note in notes if "--bands" in note] == (
        [f"{guessed}; choose others with --bands"] if "x" in names else []
    )


def test_wavelengths_say_the_colours(tmp_path):
    values = smooth(np.random.default_rng(1), 5, 5, 250).astype(np.uint8)
    path = write(tmp_path / "a.tif", values, photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        for band, length in enumerate((443, 490, 560, 665, 842), start=1):
            dataset.update_tags(band, wavelength=str(length), wavelength_units="Nanometers")
    source, _ = open_scenes(tmp_path)
    for record, pixels in read_all(source, tmp_path)[0]:
        assert np.array_equal(np.moveaxis(pixels, -1, 0), window(values[[3, 2, 1]], record.shard))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int16", -9999), ("int16", -32768), ("uint16", 65535), ("float32", -9999), ("float32", -3.4028234663852886e38),
        ("float32", 1e20), ("float64", -1.7976931348623157e308), ("int32", -2147483648), ("float32", 123456.0),
    ],
)  # fmt: skip
def test_an_undeclared_value_for_no_data_does_not_stretch_the_others_and_is_noticed(tmp_path, kind, value):
    values = smooth(np.random.default_rng(2), 3, 300, 3000).astype(kind)
    values[:, :TILE, :48] = value
    write(tmp_path / "a.tif", values)
    source, _ = open_scenes(tmp_path)
    records, unusable, notes = read_all(source, tmp_path)
    assert (len(records), [one.reason for one in unusable]) == (8, ["empty tile"])
    assert len(notes) == 1 and f"a.tif: the value {value:g}, 16.7 % of all values, is far from all others" in notes[0]
    true = values[:, (values != value).all(axis=0)]
    assert parse_tile(records[0][0].shard)[1].look.stretch == pytest.approx(np.percentile(true, (2, 98)), rel=0.01)
    for record, pixels in records:
        there = (window(values, record.shard) != value).all(axis=0)
        assert (pixels[~there] == 0).all()
        assert pixels[there].std() > 30


def test_a_common_value_for_no_data_in_one_band_only_does_not_stretch_the_others(tmp_path):
    values = smooth(np.random.default_rng(2), 3, 300, 3000).astype(np.int16)
    values[0, :40] = -9999
    write(tmp_path / "a.tif", values)
    records, unusable, notes = read_all(open_scenes(tmp_path)[0], tmp_path)
    assert (len(records), unusable, len(notes)) == (9, [], 1)
    assert parse_tile(records[0][0].shard)[1].look.stretch == tuple(np.percentile(values[values > 0], (2, 98)))


def test_saturated_pixels_and_maps_of_classes_have_no_value_for_no_data(tmp_path):
    values = smooth(np.random.default_rng(2), 1, 1, 5).round().astype(np.int16)
    write(tmp_path / "classes.tif", values)
    values = smooth(np.random.default_rng(2), 1, 300, 60_000).astype(np.uint16)
    values[:, :40] = 65535
    write(tmp_path / "clouds.tif", values)
    source, _ = open_scenes(tmp_path)
    records, unusable, notes = read_all(source, tmp_path)
    assert (len(records), unusable, notes) == (18, [], [])


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_near_infrared_labelled_alpha_removes_no_tiles_and_is_noticed(tmp_path, kind):
    values = smooth(np.random.default_rng(3), 4, 5, 250).astype(kind)
    values[3, :TILE, :TILE] = 0  # water
    write(tmp_path / "a.tif", values, (), (RED, GREEN, BLUE, ALPHA))
    true = np.where(np.arange(SIDE) < TILE, 0, np.iinfo(kind).max).astype(kind)
    values[3] = true[None]
    write(tmp_path / "b.tif", values, (), (RED, GREEN, BLUE, ALPHA))
    source, _ = open_scenes(tmp_path)
    records, unusable, notes = read_all(source, tmp_path)
    assert [record.sample.path for record, _ in records] == ["a.tif"] * 9 + ["b.tif"] * 6
    assert len(unusable) == 3 and all(one.example.startswith("b.tif") for one in unusable)
    assert notes == ["a.tif: a band is labelled alpha but has many values that no mask has, so it hides no pixels"]


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_palette_of_any_type_becomes_its_colours_and_zero_is_one_of_them(tmp_path, kind):
    values = np.random.default_rng(4).integers(0, 4, (1, SIDE, SIDE)).astype(kind)
    values[:, :TILE, :TILE] = 0
    palette = {0: (9, 8, 7, 255), 1: (255, 0, 0, 255), 2: (0, 200, 10, 255), 3: (1, 2, 3, 255)}
    path = write(tmp_path / "a.tif", values, photometric="PALETTE")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, palette)
    records, unusable, _ = read_all(open_scenes(tmp_path)[0], tmp_path)
    assert (len(records), unusable) == (9, [])
    for record, pixels in records:
        number = window(values, record.shard)[0]
        assert all((pixels[number == value] == colour[:3]).all() for value, colour in palette.items())


def test_few_bits_are_spread_over_all_grey_values(tmp_path):
    values = np.random.default_rng(4).integers(0, 16, (1, SIDE, SIDE)).astype(np.uint8)
    write(tmp_path / "a.tif", values, nbits=4)
    for record, pixels in read_all(open_scenes(tmp_path)[0], tmp_path)[0]:
        assert np.array_equal(pixels[..., 0], window(values, record.shard)[0] * 17)


def safe(folder: Path, values: np.ndarray) -> None:
    """Write what a Sentinel-2 product has: bands at two pixel sizes, a mask and a preview."""
    name = "T32TQM_20190703T102031"
    data = folder / "S2A_MSIL2A_20190703T102031_N0500_R065_T32TQM_20230603T000000.SAFE" / "GRANULE" / "L2A" / "IMG_DATA"
    for metres, bands in ((10, ("B02", "B03", "B04", "B08")), (20, ("B02", "B03", "B04", "B8A", "B11"))):
        (data / f"R{metres}m").mkdir(parents=True)
        for number, band in enumerate(bands):
            path = data / f"R{metres}m" / f"{name}_{band}_{metres}m.jp2"
            one = np.kron(values[number % 3][None], np.ones((1, 2, 2), np.uint16))
            write(path, one, driver="JP2OpenJPEG", quality=100, reversible="YES")
    write(data / "R10m" / f"{name}_TCI_10m.jp2", np.full((3, SIDE, SIDE), 7, np.uint8), driver="JP2OpenJPEG")


def test_a_sentinel_2_product_is_one_scene_of_its_finest_colours(tmp_path):
    values = smooth(np.random.default_rng(5), 3, 300, 3000).astype(np.uint16)  # blue, green, red
    safe(tmp_path, values)
    source, events = open_scenes(tmp_path)
    records, unusable, _ = read_all(source, tmp_path)
    assert (len(records), unusable) == (36, [])
    wide = np.kron(values[::-1], np.ones((1, 2, 2), np.uint16))
    for record, pixels in records:
        assert agree(pixels, window(wide, record.shard))
        assert record.sample.key.rpartition("/")[2].startswith("T32TQM_20190703T102031_10m_")
        assert record.sample.time == "2019-07-03T10:20"
        assert record.sample.box is not None and record.sample.gsd == 10
    assert [event.count for event in events if isinstance(event, Skipped)] == [10 - 3]
    assert any("files with the red, green and blue band are one scene" in event.message for event in events[1:])


@pytest.mark.parametrize(("product", "order"), [("LC08", "432"), ("LC09", "432"), ("LE07", "321"), ("LT05", "321")])
def test_a_landsat_folder_is_one_scene_whose_band_numbers_depend_on_the_satellite(tmp_path, product, order):
    values = smooth(np.random.default_rng(6), 7, 7000, 20_000).astype(np.uint16)
    stem = f"{product}_L2SP_193027_20200101_20200824_02_T1"
    for band in range(1, 8):
        write(tmp_path / f"{stem}_SR_B{band}.TIF", values[band - 1][None], nodata=0)
    write(tmp_path / f"{stem}_ST_B10.TIF", values[:1])
    write(tmp_path / f"{stem}_QA_PIXEL.TIF", values[:1])
    source, events = open_scenes(tmp_path)
    records, unusable, _ = read_all(source, tmp_path)
    assert (len(records), unusable) == (9, [])
    for record, pixels in records:
        assert agree(pixels, window(values[[int(band) - 1 for band in order]], record.shard))
        assert record.shard.startswith(f"{stem}_SR_B{{{','.join(order)}}}.TIF#")
        assert record.sample.key.startswith(f"{stem}_") and "{" not in record.sample.key
        assert record.sample.time == "2020-01-01"
    assert [event.count for event in events if isinstance(event, Skipped)] == [9 - 3]


def test_bands_of_different_size_fail_alone(tmp_path):
    values = smooth(np.random.default_rng(7), 3, 1, 250).astype(np.uint8)
    for name, band in zip(("red", "green", "blue"), values, strict=True):
        write(tmp_path / f"good_{name}.tif", band[None])
        write(tmp_path / f"odd_{name}.tif", band[None, : 64 if name == "red" else SIDE])
    source, events = open_scenes(tmp_path)
    records, _, _ = read_all(source, tmp_path)
    assert {record.sample.path for record, _ in records} == {"good_{red,green,blue}.tif"}
    (skipped,) = [event for event in events if isinstance(event, Skipped)]
    assert (skipped.count, skipped.reason) == (1, "damaged scene")
    assert "odd_red.tif, odd_green.tif, odd_blue.tif are not single bands of one size" in skipped.example


def test_containers_of_gdal_are_scenes_and_other_images_in_the_folder_are_counted(tmp_path):
    values = smooth(np.random.default_rng(8), 3, 1, 250).astype(np.uint8)
    write(tmp_path / "a.tif", values)
    write(tmp_path / "b.img", values, driver="HFA")
    write(tmp_path / "c.jp2", np.kron(values, np.ones((1, 2, 2), np.uint8)), driver="JP2OpenJPEG", quality=100)
    sources = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "d.vrt").write_text(f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}">{sources}</VRTDataset>')
    image = Image.fromarray(np.moveaxis(values, 0, -1))
    image.save(tmp_path / "e.png")
    (tmp_path / "e.pgw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    image.save(tmp_path / "preview.png")
    source, events = open_scenes(tmp_path)
    records, unusable, _ = read_all(source, tmp_path)
    paths = [record.sample.path for record, _ in records]
    assert {name: paths.count(name) for name in paths} == {"a.tif": 9, "b.img": 9, "c.jp2": 36, "d.vrt": 9, "e.png": 9}
    assert unusable == []
    for record, pixels in records:
        if record.sample.path in ("a.tif", "b.img", "d.vrt", "e.png"):
            assert np.array_equal(np.moveaxis(pixels, -1, 0), window(values, record.shard))
    (skipped,) = [event for event in events if isinstance(event, Skipped)]
    assert (skipped.count, skipped.example) == (1, "preview.png")
    alone = open_source([Folder(tmp_path / "preview.png")], TILES, "caption", events.append)
    assert len(read_all(alone, tmp_path)[0]) == 9, "given by its name, it is a scene"


def test_a_changed_source_of_a_vrt_is_a_changed_input(tmp_path):
    test_containers_of_gdal_are_scenes_and_other_images_in_the_folder_are_counted(tmp_path)
    before = {one.name: one.digest for one in open_scenes(tmp_path)[0].inputs()}
    write(tmp_path / "a.tif", smooth(np.random.default_rng(9), 3, 1, 250).astype(np.uint8), compress="deflate")
    after = {one.name: one.digest for one in open_scenes(tmp_path)[0].inputs()}
    changed = {name.partition("#")[0] for name in before if before[name] != after[name]}
    assert changed == {"a.tif", "d.vrt"}


def test_a_scene_without_the_wanted_bands_fails_alone(tmp_path):
    write(tmp_path / "a.tif", smooth(np.random.default_rng(8), 1, 1, 250).astype(np.uint8))
    with pytest.raises(UsageError, match=r"--bands 3,2,1: .*a\.tif has 1 band"):
        open_scenes(tmp_path, EmbedConfig(tile=TILE, bands="3,2,1"))
    write(tmp_path / "b.tif", smooth(np.random.default_rng(8), 3, 1, 250).astype(np.uint8))
    source, events = open_scenes(tmp_path, EmbedConfig(tile=TILE, bands="3,2,1"))
    assert {one.name.partition("#")[0] for one in source.inputs()} == {"b.tif"}
    (skipped,) = [event for event in events if isinstance(event, Skipped)]
    assert (skipped.reason, skipped.count) == ("scene without the bands of --bands", 1)


@dataclass
class Drawn:
    """A drawn scene: its name, the values that should be seen, where they are, and whether it can be read at all."""

    name: str
    seen: np.ndarray
    there: np.ndarray
    is_exact: bool
    is_readable: bool = True


def draw(random: np.random.Generator, number: int, folder: Path) -> Drawn:
    """Write a random scene: type, bands, names, interleaving, compression, no data, container, damage."""
    name, kind = f"{number:02d}.tif", str(random.choice(["uint8", "uint8", "uint16", "int16", "float32", "float64"]))
    order = [int(place) for place in random.permutation(3)]
    extra, high = int(random.integers(0, 4)), 250 if kind == "uint8" else 3000
    seen = smooth(random, 3, 3, high).astype(kind)
    there = np.ones((SIDE, SIDE), bool)
    if random.random() < 0.5:
        there[:, : int(random.integers(8, 60))] = False
    names = [("red", "green", "blue")[place] for place in order] + ["nir", "swir", "pan"][:extra]
    values = np.concatenate([seen[order], smooth(random, extra, 3, high).astype(kind)])
    nodata = {"uint8": 0, "uint16": 65535, "int16": -9999}.get(kind, -9999.0)
    values[:, ~there] = nodata
    how: dict[str, object] = {"nodata": nodata if kind == "uint8" or random.random() < 0.5 else None}
    how |= {
        "interleave": str(random.choice(["pixel", "band"])),
        "compress": str(random.choice(["none", "lzw", "zstd"])),
    }
    how |= {"tiled": True, "blockxsize": 32, "blockysize": 32} if random.random() < 0.5 else {}
    how |= {"crs": None, "transform": None} if random.random() < 0.2 else {}
    path = write(folder / name, values, names, **{key: value for key, value in how.items() if value is not None})
    drawn = Drawn(name, seen, there, kind == "uint8")
    if random.random() < 0.2:
        drawn.is_readable = False
        if random.random() < 0.5:
            path.write_bytes(path.read_bytes()[: int(random.integers(0, 200))])
        else:
            write(path, values.astype(np.complex64))
    return drawn


@pytest.mark.parametrize("seed", range(4))
def test_drawn_scenes_are_read_right_or_counted(tmp_path, seed):
    random = np.random.default_rng(seed)
    drawn = [draw(random, number, tmp_path) for number in range(10)]
    (tmp_path / "99.tif").write_bytes(b"<html>")
    write(tmp_path / "98.tif", smooth(random, 1, 1, 250).astype(np.uint8))
    source, events = open_scenes(tmp_path)
    records, unusable, notes = read_all(source, tmp_path)
    lost = sum(event.count for event in events if isinstance(event, Skipped))
    assert lost == 1 + sum(not one.is_readable for one in drawn), events
    scenes = {input_.name.partition("#")[0] for input_ in source.inputs()}
    assert scenes == {one.name for one in drawn if one.is_readable} | {"98.tif"}
    assert len(records) + len(unusable) == sum(input_.count or 0 for input_ in source.inputs()) == 9 * len(scenes)
    assert {one.reason for one in unusable} <= {"empty tile"}, unusable
    for one in (one for one in drawn if one.is_readable):
        own = [(record, pixels) for record, pixels in records if record.sample.path == one.name]
        assert len(own) == 9 - 3 * int((~one.there[0]).sum() >= TILE)
        for record, pixels in own:
            there = window(one.there[None], record.shard)[0]
            true = window(one.seen, record.shard)
            assert (pixels[~there] == 0).all(), one
            if one.is_exact:
                assert np.array_equal(pixels[there], np.moveaxis(true, 0, -1)[there]), one.name
            else:
                low, high = np.percentile(one.seen[:, one.there], (2, 98))
                stretched = np.clip((np.moveaxis(true, 0, -1)[there] - low) / (high - low) * 255, 0, 255)
                assert np.abs(pixels[there] - stretched).max() <= 1, one.name
    assert len(notes) == len({note.partition(":")[0] for note in notes})


def test_images_of_a_folder_and_scenes_cut_from_it_are_two_ways_to_read_the_same_files(tmp_path):
    values = smooth(np.random.default_rng(8), 3, 1, 250).astype(np.uint8)
    write(tmp_path / "a.tif", values, ("blue", "green", "red"))
    whole = ImageFolder(tmp_path, 10, "caption").open(0).read(0)
    from dove_core.encoding.preprocess import decode

    ((_, pixels),) = read_all(open_scenes(tmp_path, EmbedConfig(tile=SIDE))[0], tmp_path)[0]
    assert np.array_equal(decode(whole.image, "a.tif").permute(1, 2, 0).numpy(), pixels)


def test_a_file_that_gdal_cannot_open_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.dat").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.dat cannot be read"):
        open_source([Folder(tmp_path / "a.dat")], TILES, "caption", [].append)
