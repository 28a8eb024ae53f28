"""JPEGs that libjpeg only warns of, and images that their EXIF data turn."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dove_core.config import ShardConfig
from dove_core.data.jpegs import orientation
from dove_core.data.sharding.image import read_image
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.sharding.verify_shards import verify_shards
from dove_core.encoding.preprocess import decode, image_size
from dove_core.errors import DataError
from dove_core.events import Event, Noted
from tests.data.releases import table_of

FULL = ShardConfig()
HEADER = ShardConfig(verify="header")


def drawing(width: int = 96, height: int = 64) -> Image.Image:
    small = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **how: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **({"quality": 95} | how))
    return stream.getvalue()


JPEG = encoded(drawing())
END, SCAN = JPEG.rfind(b"\xff\xd9"), JPEG.find(b"\xff\xda")


def with_odd_parameters(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[SCAN + 5 + 2 * data[SCAN + 4] + 1] = 0
    return bytes(changed)


WARNED: dict[str, bytes] = {
    "padding before the end": JPEG[:END] + b"\0" * 19 + JPEG[END:],
    "bytes before a marker": JPEG[:SCAN] + b"\0\0\0" + JPEG[SCAN:],
    "odd parameters of the scan": with_odd_parameters(JPEG),
    "a stray restart marker": JPEG[: END - 40] + b"\xff\xd3" + JPEG[END - 40 :],
    "a new version of JFIF": JPEG.replace(b"JFIF\0\x01\x01", b"JFIF\0\x05\x01", 1),
    "bytes behind the end": JPEG + b"\0" * 99 + b"<html>advert</html>" * 20,
}


@pytest.mark.parametrize("config", [FULL, HEADER, ShardConfig(image_size=16)], ids=["full", "header", "smaller"])
@pytest.mark.parametrize("data", WARNED.values(), ids=WARNED.keys())
def test_a_jpeg_that_libjpeg_warns_of_is_the_one_that_pillow_shows(data: bytes, config: ShardConfig) -> None:
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    stored = read_image(data, config)
    assert bool(stored.warning) == (config is not HEADER and data != WARNED["bytes behind the end"])
    if not config.image_size:
        assert (stored.data, stored.width, stored.height) == (data, 96, 64)
    assert image_size(data, "x") == (64, 96)
    pixels = decode(data, "x").permute(1, 2, 0).numpy()
    assert np.abs(pixels.astype(int) - shown).max() <= 8  # decoders round differently


BROKEN = {
    "half": JPEG[: len(JPEG) // 2],
    "no end": JPEG[:END],
    "nothing": b"",
    "a page": b"<html>404</html>",
    "two bytes": b"\xff\xd8",
    "a line break first": b"\n" + JPEG,
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
}


@pytest.mark.parametrize("config", [FULL, HEADER], ids=["full", "header"])
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_jpeg_that_pillow_cannot_read_is_damaged(data: bytes, config: ShardConfig) -> None:
    with pytest.raises(DataError):
        read_image(data, config)
    with pytest.raises(DataError):
        decode(data, "x")


def exif(number: int) -> bytes:
    values = Image.Exif()
    values[0x0112] = number
    return values.tobytes()


def kinds(number: int) -> dict[str, bytes]:
    image = drawing()
    return {
        "jpeg": encoded(image, exif=exif(number)),
        "grey": encoded(image.convert("L"), exif=exif(number)),
        "png": encoded(image, "PNG", exif=exif(number)),
        "webp": encoded(image, "WEBP", exif=exif(number)),
        "tiff": encoded(image, "TIFF", exif=exif(number)),
    }


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "grey", "png", "webp", "tiff"])
def test_an_image_is_turned_as_viewers_turn_it(number: int, kind: str) -> None:
    data = kinds(number)[kind]
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    expected = np.asarray(shown).astype(int)
    assert image_size(data, "x") == expected.shape[:2]
    assert np.abs(decode(data, "x").permute(1, 2, 0).numpy() - expected).max() <= 8
    least = tuple(side // 2 for side in expected.shape[:2])
    assert decode(data, "x", least=least).shape[1] in (least[0], expected.shape[0])  # type: ignore[arg-type]
    for config in (FULL, HEADER, replace(FULL, image_size=32)):
        stored = read_image(data, config)
        again = Image.open(io.BytesIO(stored.data))
        assert (stored.width, stored.height) == again.size
        assert stored.width > stored.height if number < 5 else stored.width < stored.height
        assert again.getexif().get(0x0112, 1) == 1, "no reader turns it a second time"
        if not config.image_size:
            assert np.abs(np.asarray(again.convert("RGB")).astype(int) - expected).mean() < 4
    assert (read_image(data, FULL).data == data) == (number == 1 and kind in ("jpeg", "grey"))


DAMAGED_EXIF: list[Callable[[], bytes]] = [
    lambda: encoded(drawing(), exif=b"Exif\0\0"),
    lambda: encoded(drawing(), exif=b"Exif\0\0http://ns.adobe.com/xap/1.0/\0junk"),
    lambda: encoded(drawing(), exif=exif(6)[:20]),
    lambda: encoded(drawing(), exif=exif(77)),
    lambda: encoded(drawing(), exif=b"Exif\0\0II*\0" + b"\xff" * 40),
]


@pytest.mark.parametrize("make", DAMAGED_EXIF)
def test_damaged_exif_data_turn_nothing(make: Callable[[], bytes]) -> None:
    data = make()
    assert orientation(data) == 1
    assert read_image(data, FULL).data == data
    assert image_size(data, "x") == (64, 96)


def test_warned_images_are_kept_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    for number, data in enumerate([JPEG, *WARNED.values(), kinds(6)["jpeg"]]):
        (tmp_path / "i" / f"{number}.jpg").write_bytes(data)
    rows = "".join(f"{number}.jpg,lake {number}\n" for number in range(len(WARNED) + 2))
    (tmp_path / "t_val.csv").write_text(f"filename,caption\n{rows}")
    events: list[Event] = []
    (manifest,) = shard_captions(tmp_path / "t_val.csv", tmp_path / "i", tmp_path / "out", report=events.append)
    assert (manifest.samples, manifest.meta_problems) == (len(WARNED) + 2, 0)
    (note,) = [event.message for event in events if isinstance(event, Noted)]
    assert note.startswith("shard val: 5 JPEGs are odd, and may be damaged in part; they are kept as viewers show them")
    sizes = {row["path"]: (row["width"], row["height"]) for row in table_of(tmp_path / "out" / "val")}
    assert sizes["0.jpg"] == (96, 64)
    assert sizes[f"{len(WARNED) + 1}.jpg"] == (64, 96)
    assert verify_shards(tmp_path / "out", ShardConfig()) == []
