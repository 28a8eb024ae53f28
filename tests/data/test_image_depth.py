"""Images of any depth, mode and interleaving: stored as they are, or refused with their bands and type."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from dove_core.config import ShardConfig
from dove_core.data.sharding.image import check_header, decode_rgb, image_size, read_image
from dove_core.encoding.preprocess import CenterSquare
from dove_core.errors import DataError

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


def refusal(data: bytes) -> str:
    """Return why an image is refused, which is the same everywhere that images enter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = []
        for enter in (lambda: read_image(data, ShardConfig()), lambda: check_header(data), lambda: decode_rgb(data)):
            with pytest.raises(DataError) as caught:
                enter()
            errors.append(caught.value.message)
        with pytest.raises(DataError, match="a query cannot be decoded") as caught:
            CenterSquare(16).fit(data, "a query")
        assert caught.value.message.endswith(errors[0])
        assert len({*errors}) == 1
    return errors[0]


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_png_of_16_bits_is_refused_whatever_pillow_makes_of_it_and_one_of_8_bits_is_exact(bands):
    assert "a PNG with 16 bits a channel" in refusal(png(BASE[:bands].astype(np.uint16) * 16))
    assert np.array_equal(np.array(decode_rgb(png(BASE[:bands]))), expected(BASE[:bands]))


@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "float32", "int8"])
@pytest.mark.parametrize("photometric", ["RGB", "MINISBLACK"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_tiff_of_more_than_8_bits_is_refused_with_its_bands_and_type(tmp_path, kind, photometric, interleave):
    for bands in (3, 4):
        values = BASE[:bands].astype(kind)
        data = raster(tmp_path / "a.tif", values, photometric=photometric, interleave=interleave)
        assert f"a TIFF with {bands} band(s) of {kind}" in refusal(data)


def test_other_deep_files_are_refused_with_their_bands(tmp_path):
    deep = BASE[:3].astype(np.uint16) * 16
    assert "3 band(s) of uint12" in refusal(raster(tmp_path / "a.tif", deep, nbits=12, photometric="RGB"))
    assert "3 band(s) of uint16" in refusal(raster(tmp_path / "b.tif", deep, bigtiff="YES"))
    with pytest.raises(DataError, match="a big-endian BigTIFF, in a form that Pillow cannot read"):
        decode_rgb(raster(tmp_path / "e.tif", BASE[:3], bigtiff="YES", endianness="BIG"))
    assert "13 band(s) of uint16" in refusal(raster(tmp_path / "c.tif", np.repeat(deep[:1], 13, axis=0)))
    many = raster(tmp_path / "d.tif", np.repeat(BASE[:1], 13, axis=0), photometric="MINISBLACK")
    with pytest.raises(DataError, match=r"a TIFF with 13 band\(s\) of uint8, in a form that Pillow cannot read"):
        read_image(many, ShardConfig())
    for bands in (1, 3):
        wide = np.kron(deep[:bands], np.ones((1, 4, 4), np.uint16))
        data = raster(tmp_path / f"{bands}.jp2", wide, driver="JP2OpenJPEG", quality=100, reversible="YES")
        assert f"a JPEG 2000 with {bands} band(s) of 16 bits" in refusal(data)


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
    assert "whose red, green and blue are the bands 2,3,4" in refusal_of_content(data)


def refusal_of_content(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_image(data, ShardConfig())
    return caught.value.message


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
def test_drawn_images_are_exact_or_refused_for_a_reason(tmp_path, seed):
    random, stored, refused = np.random.default_rng(seed), 0, 0
    for _ in range(30):
        data, values, kind = drawn(random, tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                seen = np.array(decode_rgb(data))
            except DataError as error:
                refused += 1
                named = f"{len(values)} band(s)" in error.message or "a big-endian BigTIFF" in error.message
                assert kind != "uint8" or (named and "Pillow" in error.message), error.message
                assert refusal_of_content(data) == error.message
                continue
            stored += 1
            assert kind == "uint8"
            assert np.array_equal(seen, expected(values))
            assert image_size(data) == (values.shape[2], values.shape[1])
            image = read_image(data, ShardConfig())
            assert Image.open(io.BytesIO(image.data)).size == (image.width, image.height) == image_size(data)
    assert stored + refused == 30
    assert min(stored, refused) > 5
