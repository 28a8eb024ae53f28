"""Images of any depth, mode and interleaving: shown as they are, or brought to 8 bits as scenes are, which is said."""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image, TiffImagePlugin
from rasterio.errors import NotGeoreferencedWarning

from dove_core.config import ShardConfig
from dove_core.data.bands import look_of
from dove_core.data.sharding.image import check_header, decode_noted, decode_rgb, image_size, read_image
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.sharding.verify_shards import verify_shards
from dove_core.encoding.preprocess import decode
from dove_core.errors import DataError
from dove_core.events import Event, Noted
from dove_core.index.images import decode_image
from dove_core.index.rows import Row
from dove_core.sources.geotiff import Tile, dataset_of, describe_scene, read_tile

BASE = np.random.default_rng(3).integers(1, 255, (4, 24, 20)).astype(np.uint8)
COLOURS_OF_PNG = {1: 0, 2: 4, 3: 2, 4: 6}


def png(values: np.ndarray) -> bytes:
    """Write `(C, H, W)` as a PNG of 8 or 16 bits, by the specification."""
    count, height, width = values.shape
    bits, kind = (16, ">u2") if values.dtype == np.uint16 else (8, "u1")
    rows = b"".join(b"\0" + row.astype(kind).tobytes() for row in np.moveaxis(values, 0, -1))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, COLOURS_OF_PNG[count], 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def raster(path: Path, values: np.ndarray, names: tuple[str, ...] = (), driver: str = "GTiff", **how: object) -> bytes:
    """Write `(C, H, W)` with rasterio and return the bytes of the file."""
    count, height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver=driver, count=count, height=height, width=width, dtype=values.dtype, **how
        ) as dataset:
            dataset.write(values)
            if names:
                dataset.descriptions = names
    return path.read_bytes()


def expected(values: np.ndarray) -> np.ndarray:
    """Return what is to be seen of `(C, H, W)` uint8: the first three bands, or the first as grey."""
    return np.moveaxis(values[:3] if len(values) >= 3 else np.repeat(values[:1], 3, axis=0), 0, -1)


def stretched(values: np.ndarray) -> np.ndarray:
    """Return `(C, H, W)` as scenes show it: between the 2nd and 98th percentile of the pixels that are not zero."""
    shown = expected(values).astype(np.float64)
    bands = values[:3] if len(values) >= 3 else values[:1]
    low, high = np.percentile(bands[:, bands.any(axis=0)], (2, 98))
    return ((shown - low) * (255 / (high - low))).round().clip(0, 255)


def seen_everywhere(data: bytes) -> np.ndarray:
    """Return the pixels of an image, which are the same everywhere that images enter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_header(data)
        seen = np.array(decode_rgb(data))
        assert image_size(data) == seen.shape[1::-1]
        assert np.array_equal(decode(data, "a query").permute(1, 2, 0).numpy(), seen)
        row = Row("a", None, "a.tif", 0, len(data))
        assert np.array_equal(np.array(decode_image(data, row)), seen)
        stored = read_image(data, ShardConfig(quality=100))
    with Image.open(io.BytesIO(stored.data)) as image:
        assert abs(np.array(image).mean() - seen.mean()) < 4  # JPEG keeps little of noise besides
        assert image.size == (stored.width, stored.height) == image_size(data)
    return seen


def is_near(seen: np.ndarray, values: np.ndarray) -> bool:
    """Tell whether pixels are at most one step from what is expected: float32 rounds otherwise than float64."""
    return bool(np.abs(seen - stretched(values)).max() <= 1)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_png_of_16_bits_is_shown_as_a_scene_is_and_one_of_8_bits_is_exact(bands):
    deep = png(BASE[:bands].astype(np.uint16) * 16)
    assert is_near(seen_everywhere(deep), BASE[:bands].astype(np.uint16) * 16)
    assert "a PNG with 16 bits a channel; its values" in decode_noted(deep)[1]
    assert np.array_equal(np.array(decode_rgb(png(BASE[:bands]))), expected(BASE[:bands]))
    assert decode_noted(png(BASE[:bands]))[1] == ""


@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "float32"])
@pytest.mark.parametrize("photometric", ["RGB", "MINISBLACK"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_tiff_of_more_than_8_bits_is_shown_as_a_scene_is_and_its_bands_are_said(
    tmp_path, kind, photometric, interleave
):
    for bands in (1, 3, 4):
        values = BASE[:bands].astype(kind) * 16
        how = {"photometric": photometric, "interleave": interleave} if bands > 1 else {}
        data = raster(tmp_path / "a.tif", values, **how)
        assert is_near(seen_everywhere(data), values)
        assert decode_noted(data)[1].startswith(f"a TIFF with {bands} band(s) of {kind}; its ")


@pytest.mark.parametrize("factor", [256, 257])
def test_8_bits_written_with_16_are_what_they_were_in_images_and_in_scenes(tmp_path, factor):
    wide = BASE[:3].astype(np.uint16) * factor
    for data in (png(wide), raster(tmp_path / "a.tif", wide, photometric="RGB")):
        assert np.array_equal(seen_everywhere(data), expected(BASE))
        assert f"all values are multiples of {factor}" in decode_noted(data)[1]
    with dataset_of(tmp_path / "a.tif") as dataset:
        tile = Tile(0, 0, 20, 24, (1, 2, 3), look_of(dataset, (1, 2, 3)))
        assert np.array_equal(read_tile(dataset, tile), expected(BASE))


def test_an_image_is_shown_as_the_same_file_cut_as_a_scene(tmp_path):
    random = np.random.default_rng(8)
    holes = (random.normal(1500, 400, (4, 40, 30)).clip(1, None)).astype(np.int16)
    holes[:, :9, :7] = -9999
    data = raster(tmp_path / "a.tif", holes, ("blue", "green", "red", "nir"))
    scene = describe_scene(tmp_path / "a.tif")
    with dataset_of(tmp_path / "a.tif") as dataset:
        tile = read_tile(dataset, Tile(0, 0, 30, 40, scene.bands, look_of(dataset, scene.bands)))
    assert np.array_equal(np.array(decode_rgb(data)), tile)
    note = decode_noted(data)[1]
    assert "its bands 3,2,1 are taken as red, green and blue" in note
    assert "the value -9999" in note


def test_images_that_pillow_cannot_read_or_shows_in_part_are_read_by_rasterio(tmp_path):
    deep = BASE[:3].astype(np.uint16) * 16
    assert is_near(seen_everywhere(raster(tmp_path / "a.tif", deep, nbits=12, photometric="RGB")), deep)
    assert is_near(seen_everywhere(raster(tmp_path / "b.tif", deep, bigtiff="YES")), deep)
    many = np.repeat(BASE, 4, axis=0)[:13]
    for number, (values, how) in enumerate((
        (BASE[:3], {"bigtiff": "YES", "endianness": "BIG", "photometric": "RGB"}),
        (many, {"photometric": "MINISBLACK"}),
        (BASE[:3], {"compress": "LERC", "photometric": "RGB"}),
    )):  # fmt: skip
        data = raster(tmp_path / f"{number}.tif", values, **how)
        assert np.array_equal(seen_everywhere(data), expected(values))
        assert ("its bands 1,2,3 are taken" in decode_noted(data)[1]) == (values is many)
    for bands in (1, 3):
        wide = np.kron(deep[:bands], np.ones((1, 4, 4), np.uint16))
        data = raster(tmp_path / f"{bands}.jp2", wide, driver="JP2OpenJPEG", quality=100, reversible="YES")
        assert is_near(seen_everywhere(data), wide)
        assert f"a JPEG 2000 with {bands} band(s) of 16 bits" in decode_noted(data)[1]


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_deep_tiff_is_turned_as_one_of_8_bits_is(tmp_path, turn):
    values = np.arange(6 * 4, dtype=np.uint16).reshape(6, 4) * 10 + 10
    deep, shallow = io.BytesIO(), io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = turn
    Image.fromarray(values * 257).save(deep, "TIFF", tiffinfo=tags)
    Image.fromarray(values.astype(np.uint8)).save(shallow, "TIFF", tiffinfo=tags)
    assert np.array_equal(seen_everywhere(deep.getvalue()), np.array(decode_rgb(shallow.getvalue())))


def test_shards_have_deep_images_in_8_bits_and_it_is_said_how_many_and_how(tmp_path):
    (tmp_path / "i").mkdir()
    deep = BASE[:3].astype(np.uint16) * 16
    for name, data in (("a.png", png(deep)), ("b.png", png(BASE[:3])), ("c.tif", raster(tmp_path / "x.tif", deep))):
        (tmp_path / "i" / name).write_bytes(data)
    (tmp_path / "val.csv").write_text("filename,caption\na.png,a lake\nb.png,a hill\nc.tif,a road\n")
    events = list[Event]()
    (manifest,) = shard_captions(tmp_path / "val.csv", tmp_path / "i", tmp_path / "out", report=events.append)
    assert (manifest.samples, manifest.meta_problems) == (3, 0)
    (note,) = [event.message for event in events if isinstance(event, Noted) and "8 bits" in event.message]
    assert note.startswith(
        "shard val: 2 images have more than 8 bits, or other bands than red, green and blue; they are read as scenes"
    )
    assert "became black to white" in note
    assert verify_shards(tmp_path / "out", ShardConfig()) == []


def test_without_rasterio_a_deep_image_is_refused_with_what_helps(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for enter in (check_header, image_size, decode_rgb, lambda data: read_image(data, ShardConfig())):
        with pytest.raises(DataError, match=r"a PNG with 16 bits a channel: `pip install rasterio` to read it, or"):
            enter(png(BASE[:3].astype(np.uint16) * 16))


def test_a_deep_image_that_is_damaged_or_complex_is_refused_with_its_bands(tmp_path):
    for values, how in ((BASE[:3].astype(np.uint16), {}), (BASE[:1].astype(np.complex64), {})):
        data = raster(tmp_path / "a.tif", values, **how)
        cut = data if values.dtype == np.complex64 else data[: len(data) // 2]
        with pytest.raises(DataError, match=r"a TIFF with \d band\(s\) of (uint16|complex64)[,:] (damaged|convert)"):
            decode_rgb(cut)
    whole = png(BASE[:3].astype(np.uint16) * 16)
    with pytest.raises(DataError, match="a PNG with 16 bits a channel, damaged"):
        decode_rgb(whole[: len(whole) // 2])


def test_a_tiff_of_8_bits_is_shown_in_the_order_that_its_bands_say(tmp_path):
    for names, places in (
        (("blue", "green", "red"), (2, 1, 0)),
        (("B02", "B03", "B04", "B08"), (2, 1, 0)),
        (("red", "green", "blue"), (0, 1, 2)),
        (("x", "y", "z"), (0, 1, 2)),
    ):
        values = BASE[: len(names)]
        data = raster(tmp_path / "a.tif", values, names, photometric="RGB")
        assert np.array_equal(np.array(decode_rgb(data)), np.moveaxis(values[list(places)], 0, -1))
    data = raster(tmp_path / "b.tif", BASE, ("nir", "red", "green", "blue"), photometric="RGB")
    assert np.array_equal(seen_everywhere(data), np.moveaxis(BASE[1:], 0, -1))
    assert "its bands 2,3,4 are taken as red, green and blue" in decode_noted(data)[1]


def drawn(random: np.random.Generator, folder: Path) -> tuple[bytes, np.ndarray, str]:
    """Draw an image: the bytes of its file, its values `(C, H, W)`, and the type of these."""
    bands, kind = (
        int(random.integers(1, 6)),
        str(random.choice(["uint8", "uint8", "uint8", "uint16", "int16", "float32"])),
    )
    height, width = (int(side) for side in random.integers(17, 90, 2))
    values = random.integers(1, 255, (bands, height, width)).astype(kind)
    if bands <= 4 and kind in ("uint8", "uint16") and random.random() < 0.3:
        return png(values), values, kind
    how: dict[str, object] = {
        "interleave": str(random.choice(["pixel", "band"])),
        "photometric": str(random.choice(["RGB", "MINISBLACK"])) if bands >= 3 else "MINISBLACK",
        "compress": str(random.choice(["none", "lzw", "deflate", "packbits"])),
        "endianness": str(random.choice(["LITTLE", "BIG"])),
        "bigtiff": str(random.choice(["YES", "NO"])),
    }
    if random.random() < 0.5:
        how |= {"tiled": True, "blockxsize": 32, "blockysize": 16}
    if how["compress"] in ("lzw", "deflate") and kind != "float32" and random.random() < 0.5:
        how["predictor"] = 2
    return raster(folder / "drawn.tif", values, **how), values, kind


@pytest.mark.parametrize("seed", range(4))
def test_drawn_images_are_exact_or_stretched_and_that_is_said(tmp_path, seed):
    random, exact, deep = np.random.default_rng(seed), 0, 0
    for _ in range(30):
        data, values, kind = drawn(random, tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image, note = decode_noted(data)
            assert image_size(data) == (values.shape[2], values.shape[1])
            stored = read_image(data, ShardConfig())
        if kind == "uint8":
            exact += 1
            assert np.array_equal(np.array(image), expected(values))
        else:
            deep += 1
            assert is_near(np.array(image), values)
            assert "became black to white" in note
        assert stored.note == note
        assert Image.open(io.BytesIO(stored.data)).size == (stored.width, stored.height) == image_size(data)
    assert exact + deep == 30
    assert min(exact, deep) > 5
