"""Images checked by their ends or in full, and made smaller while sharding."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dove_core.config import ShardConfig
from dove_core.data.loader import open_webdataset
from dove_core.data.reader import Shards
from dove_core.data.sharding.image import read_image
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.preprocess import decode
from dove_core.errors import DataError
from tests.made import make_karpathy


def photo(width: int, height: int, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    coarse = np.random.default_rng(width).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind, quality=92)
    return stream.getvalue()


SIZES = [((600, 400), (150, 100)), ((400, 900), (100, 225)), ((90, 300), (90, 300))]


@pytest.mark.parametrize(("size", "becomes"), SIZES)
def test_the_shorter_side_gets_the_wanted_length_and_nothing_grows(size, becomes):
    found = read_image(photo(*size), ShardConfig(image_size=100))
    assert (found.width, found.height) == becomes
    with Image.open(io.BytesIO(found.data)) as image:
        assert (image.size, image.format) == (becomes, "JPEG")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_smaller_image_is_the_same_image(mode):
    data = photo(512, 512, mode=mode)
    found = read_image(data, ShardConfig(image_size=128))
    with Image.open(io.BytesIO(found.data)) as small, Image.open(io.BytesIO(data)) as large:
        assert small.mode == mode
        wanted = np.asarray(large.resize((128, 128), Image.Resampling.LANCZOS), dtype=float)
        assert np.abs(np.asarray(small, dtype=float) - wanted).mean() < 3


def test_quality_and_format_are_those_asked_for():
    data = photo(300, 300).replace(b"", b"")
    sizes = [len(read_image(data, ShardConfig(image_size=128, quality=quality)).data) for quality in (40, 95)]
    assert sizes[0] < sizes[1]
    webp = read_image(data, ShardConfig(image_size=128, image_format="webp"))
    assert webp.ending == ".webp"
    with Image.open(io.BytesIO(webp.data)) as image:
        assert image.format == "WEBP"
    assert read_image(data, ShardConfig(image_format="webp")).data == data, (
        "a JPEG that need not change keeps its bytes"
    )


def test_damage_between_whole_ends_is_seen_by_full_verification_only():
    with Image.open(io.BytesIO(photo(200, 200))) as image:
        stream = io.BytesIO()
        image.filter(ImageFilter.EDGE_ENHANCE_MORE).save(stream, "JPEG", quality=95)
    data = bytearray(stream.getvalue())
    data[len(data) // 2 : -2] = bytes(len(data) - 2 - len(data) // 2)
    assert "Corrupt JPEG data" in read_image(bytes(data), ShardConfig(verify="full")).warning
    header = read_image(bytes(data), ShardConfig(verify="header"))
    assert (header.data, header.warning) == (bytes(data), "")


@pytest.mark.parametrize("verify", ["header", "full"])
def test_a_cut_image_is_refused_and_padding_behind_one_is_not(verify):
    data = photo(200, 200)
    assert read_image(data + bytes(100), ShardConfig(verify=verify)).width == 200
    for cut in (2, 50, len(data) // 2, len(data) - 30):
        with pytest.raises(DataError):
            read_image(data[:-cut], ShardConfig(verify=verify))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves that to the garbage collector
def test_webp_shards_are_read_by_our_reader_and_by_webdataset(tmp_path: Path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 6})
    config = ShardConfig(image_size=16, image_format="webp", workers=1)
    shard_captions(captions, images, tmp_path / "shards", config)
    shards = Shards(tmp_path / "shards" / "train")
    records = [shards.read(i) for i in range(len(shards))]
    assert all(record.image[8:12] == b"WEBP" for record in records)
    assert all(min(decode(record.image, "x").shape[1:]) == 16 for record in records)
    samples = list(open_webdataset(tmp_path / "shards" / "train"))
    assert [sample["webp"] for sample in samples] == [record.image for record in records]
