"""Inputs of `dove embed`: shards, tars and folders; images are read from their files."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dove_core.config import EmbedConfig
from dove_core.data.reader import Shards
from dove_core.errors import DataError, SearchIndexError, UsageError
from dove_core.events import Advanced, Skipped, Started
from dove_core.index.embed import embed
from dove_core.sources.metadata import sample_of
from dove_core.sources.source import time_in
from tests.conftest import ALONE
from tests.made import COLOURS, SHAPES, draw_shape

FIVE = EmbedConfig(batch_size=5)
IMAGES = [(colour, shape) for shape in SHAPES for colour in COLOURS][:12]


def encoded(number: int, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    draw_shape(*IMAGES[number % 12], shift=number // 12).save(stream, kind)
    return stream.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes, **facts: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for fact, value in facts.items():
        setattr(member, fact, value)
    tar.addfile(member, io.BytesIO(data))


def make_tar(path: Path, members: dict[str, bytes], **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **how) as tar:
        for name, data in members.items():
            add(tar, name, data)
    return path


@pytest.fixture
def made(trained, tmp_path):
    """Embed a source; return its index and the events."""

    def make(source, settings=FIVE, **how):
        events = []
        index = embed(trained / "best", source, tmp_path / "index", settings, ALONE, report=events.append, **how)
        return index, events

    return make


def skipped(events):
    return {event.reason: (event.count, event.example) for event in events if isinstance(event, Skipped)}


def images_of(index):
    return {row.key: index.image(row) for row in index.rows(range(len(index)))}


def test_a_folder_is_read_with_its_subfolders_in_order_and_in_parts_of_the_given_size(made, tmp_path):
    folder = tmp_path / "photos"
    names = [
        "z.png",
        "a/b/2.webp",
        "a/1.JPG",
        "a/b/a198234555_CH_19.jpeg",
        "notes.txt",
        ".hidden.jpg",
        "__MACOSX/1.jpg",
    ]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {".png": "PNG", ".webp": "WEBP"}.get(Path(name).suffix, "JPEG")
        (folder / name).write_bytes(encoded(number, kind))
    index, events = made(folder, EmbedConfig(part_size=3))
    rows = index.rows(range(len(index)))
    assert [row.key for row in rows] == ["a/1.JPG", "a/b/2.webp", "a/b/a198234555_CH_19.jpeg", "z.png"]
    assert index.manifest.counts == [3, 1]
    assert [row.shard for row in rows] == [row.key for row in rows]
    assert [(row.source, row.gsd) for row in rows] == [(None, None), (None, None), ("CH", 0.1), (None, None)]
    assert {row.caption for row in rows} == {None}
    assert images_of(index) == {row.key: (folder / row.key).read_bytes() for row in rows}
    assert events[0] == Started("embedding", 4, "images", done=0)
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == 4


def test_an_image_has_the_same_vector_from_shards_a_tar_and_a_folder(made, shapes, tmp_path):
    of_shards, _ = made(shapes / "test")
    vectors = {row.key: of_shards.vectors[k].copy() for k, row in enumerate(of_shards.rows(range(12)))}
    shards = Shards(shapes / "test")
    found = {record.sample.key: record.image for record in map(shards.read, range(12))}
    for key, data in found.items():
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / f"{key}.jpg").write_bytes(data)
    make_tar(tmp_path / "tars" / "00000.tar", {f"{key}.jpg": data for key, data in found.items()})
    for source, ending in ((tmp_path / "folder", ".jpg"), (tmp_path / "tars", "")):
        index, _ = made(source, EmbedConfig(batch_size=12))
        rows = {row.key.removesuffix(ending): (k, row) for k, row in enumerate(index.rows(range(12)))}
        for key, (k, row) in rows.items():
            assert np.allclose(index.vectors[k], vectors[key], atol=2e-3)
            assert index.image(row) == found[key]


def test_tars_of_webdataset_are_read_with_their_captions(made, tmp_path):
    import webdataset

    (tmp_path / "wds").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "wds" / "%05d.tar"), maxcount=5, verbose=0) as writer:
        for k in range(12):
            known = {"json": {"caption": f" a\nthing {k}", "url": "http://a.example"}} if k % 2 else {}
            writer.write({"__key__": f"part/{k:03d}", "jpg": encoded(k), "txt": f"text {k}", **known})
    index, events = made(tmp_path / "wds")
    rows = index.rows(range(12))
    assert index.manifest.counts == [5, 5, 2]
    assert [row.key for row in rows] == [f"part/{k:03d}" for k in range(12)]
    assert [row.caption for row in rows] == [f"a thing {k}" if k % 2 else f"text {k}" for k in range(12)]
    assert images_of(index) == {f"part/{k:03d}": encoded(k) for k in range(12)}
    assert events[0] == Started("embedding", None, "images", done=0), (
        "the number of images in a tar is not known before it is read"
    )


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_offsets_are_right_after_long_names_and_pax_headers(made, tmp_path, form):
    folder = "x" * 90 + "/" + ("y" * 90 if form == tarfile.USTAR_FORMAT else "机场" * 60)
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w", format=form) as tar:
        add(tar, folder + "/", b"", type=tarfile.DIRTYPE)
        for k in range(4):
            add(tar, f"{folder}/{k}.jpg", encoded(k), mtime=1.25 + k)
            add(tar, f"{folder}/{k}.json", b'{"caption": "%d"}' % k, mtime=1.25)
        add(tar, f"{folder}/link.jpg", b"", type=tarfile.SYMTYPE, linkname="0.jpg")
    index, events = made(path)
    assert images_of(index) == {f"{folder}/{k}": encoded(k) for k in range(4)}
    assert [row.caption for row in index.rows(range(4))] == ["0", "1", "2", "3"]
    assert not skipped(events)


def test_a_tar_of_dove_shard_is_read_with_its_metadata_without_its_manifest(made, shapes, trained, tmp_path):
    (tmp_path / "alone").mkdir()
    shutil.copy(shapes / "test" / "00000.tar", tmp_path / "alone" / "any.tar")
    index, _ = made([tmp_path / "alone" / "any.tar"])
    records = list(map(Shards(shapes / "test").read, range(10)))
    rows = index.rows(range(10))
    assert [row.key for row in rows] == [record.sample.key for record in records]
    assert [row.caption for row in rows] == [record.sample.captions["caption"][0] for record in records]
    assert [(row.offset, row.size) for row in rows] == [(record.offset, record.size) for record in records]


def test_metadata_in_a_json_is_used_if_it_is_valid():
    whole = {
        "captions": {"title": ["", "a port"], "other": ["b"]}, "box": [1, 2, 3, 4], "time": "2019-07-03T10:20",
        "source": "XX", "gsd": 3, "tags": {"a": "b", "c": 1}, "path": "p.jpg",
    }  # fmt: skip
    sample = sample_of("k", whole, "text", "title")
    assert sample.captions == {"title": ("a port",)}
    assert (sample.box, sample.time, sample.source, sample.gsd) == ((1, 2, 3, 4), "2019-07-03T10:20", "XX", 3)
    assert (dict(sample.tags), sample.path) == ({"a": "b"}, "p.jpg")
    assert sample_of("k", {**whole, "captions": {"other": ["b"]}}, "t", "title").captions == {"title": ("b",)}
    assert sample_of("k", {}, " t\n", "title").captions == {"title": ("t",)}
    for odd in (
        {"captions": 3, "caption": True, "box": ["a"], "time": 7, "source": [], "gsd": "x", "tags": "y"},
        {"captions": {"title": {}, "x": [None]}, "box": [9, 9, 1, 1], "time": "2019-13", "gsd": True},
        {"captions": {}, "box": {}, "time": "yesterday", "gsd": -1, "tags": {"a": {}}},
    ):
        sample = sample_of("a1_S2_20", odd, "!", "title")
        assert (sample.captions, sample.box, sample.time, dict(sample.tags)) == ({}, None, None, {})
        assert (sample.source, sample.gsd) == ("S2", 10.0)
    assert json.loads(sample_of("k", {"tags": {"a": "\ud800"}}, "", "t").to_json())["tags"] == {"a": "?"}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2019", "2019"), ("2019-07", "2019-07"), ("2019:07:03", "2019-07-03"), ("2019-07-03T10", None), (5, None),
        ("2019:07:03 10:20:30", "2019-07-03T10:20"), ("2019-07-03T10:20:30.5Z", "2019-07-03T10:20"),
        ("0000:00:00 00:00:00", None),
    ],
)  # fmt: skip
def test_times_are_read_with_their_precision(text, time):
    assert time_in(text) == time


def test_images_that_cannot_be_decoded_are_skipped_and_counted(made, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(6):
        (folder / f"{k}.jpg").write_bytes(encoded(k))
    (folder / "cut.jpg").write_bytes(encoded(1)[:500])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.jpg").write_bytes(b"<html>")
    (folder / "postscript.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "broken.png").write_bytes(encoded(1, "PNG")[:60] + b"\xff" * 300)
    Image.fromarray(np.full((40, 40), 9000, np.uint16)).save(folder / "deep.png")
    Image.new("1", (11000, 11000)).save(folder / "huge.png")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    index, events = made(folder)
    assert [row.key for row in index.rows(range(len(index)))] == [*(f"{k}.jpg" for k in range(6)), "deep.png"]
    ((reason, (count, example)),) = skipped(events).items()
    assert (reason, count) == ("image cannot be decoded", 6)
    assert example.startswith("broken.png")
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == 13


def test_a_second_run_reports_skipped_images_again_and_embeds_nothing(made, tmp_path):
    (tmp_path / "photos").mkdir()
    for k in range(3):
        (tmp_path / "photos" / f"{k}.jpg").write_bytes(encoded(k) if k else b"no image")
    index, first = made(tmp_path / "photos")
    again, second = made(tmp_path / "photos")
    assert skipped(first) == skipped(second)
    assert second[0] == Started("embedding", 3, "images", done=3)
    assert not any(isinstance(event, Advanced) for event in second)
    assert len(index) == len(again) == 2


def test_an_input_without_usable_images_is_an_error_with_the_reasons(made, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"has no usable images: image cannot be decoded \(1\), such as a\.jpg"):
        made(tmp_path / "photos")
    make_tar(tmp_path / "a.tar", {"a.txt": b"words"})
    with pytest.raises(DataError, match=r"no image in the sample \(1\), such as a\.tar: a"):
        made(tmp_path / "a.tar")


def test_unusable_members_of_a_tar_are_skipped(made, tmp_path):
    make_tar(tmp_path / "a.tar", {
        "README": b"x", "0.jpg": encoded(0), "0.json": b"{", "1.rgb.jpg": encoded(1), "1.mask.png": encoded(2, "PNG"),
        "2.txt": b"alone", "3.webp": encoded(3, "WEBP"), "3.txt": b"\xff", "._4.jpg": b"mac", "5.jpg": b"no image",
        "6.jpg": encoded(6), "6.json": b"[1]",
    })  # fmt: skip
    index, events = made(tmp_path / "a.tar")
    assert [row.key for row in index.rows(range(len(index)))] == ["0", "1", "3", "6"]
    assert {reason: count for reason, (count, _) in skipped(events).items()} == {
        "no image in the sample": 2, "second image in a sample": 1, "image cannot be decoded": 1,
    }  # fmt: skip


def test_complete_samples_of_a_damaged_tar_are_used_and_the_tar_is_reported(made, tmp_path):
    whole = make_tar(tmp_path / "tars" / "whole.tar", {f"{k}.jpg": encoded(k) for k in range(6)}).read_bytes()
    with tarfile.open(tmp_path / "tars" / "whole.tar") as tar:
        fourth = tar.getmember("3.jpg")
    (tmp_path / "tars" / "cut.tar").write_bytes(whole[: fourth.offset_data + 100])
    (tmp_path / "tars" / "header.tar").write_bytes(whole[: fourth.offset] + b"x" * 512 + whole[fourth.offset + 512 :])
    (tmp_path / "tars" / "packed.tar").write_bytes(gzip.compress(whole))
    (tmp_path / "tars" / "page.tar").write_bytes(b"<html>" * 200)
    (tmp_path / "tars" / "empty.tar").write_bytes(b"")
    index, events = made(tmp_path / "tars")
    found = [(row.shard, row.key) for row in index.rows(range(len(index)))]
    assert [key for shard, key in found if shard == "cut.tar"] == ["0", "1", "2"]
    assert [key for shard, key in found if shard == "header.tar"] == ["0", "1", "2"]
    assert len([key for shard, key in found if shard == "whole.tar"]) == 6
    assert len(found) == 12
    left = {reason: count for reason, (count, _) in skipped(events).items()}
    assert left == {
        "damaged tar": 3, "file that is not a tar but compressed by gzip": 1,
        "file that is not a tar but a web page, not the file itself": 1,
    }  # fmt: skip


def test_a_damaged_image_in_shards_is_an_error(made, shapes, tmp_path):
    moved = shutil.copytree(shapes / "test", tmp_path / "test")
    record = Shards(moved).read(3)
    with (moved / record.shard).open("r+b") as stream:
        stream.seek(record.offset)
        stream.write(b"no image")
    with pytest.raises(DataError, match=r"00000\.tar: test_1\.jpg is not an image that Pillow can read"):
        made(moved)


def test_the_kind_of_input_is_recognised_from_its_files(made, shapes, tmp_path):
    nested = make_tar(tmp_path / "nested" / "train" / "0.tar", {"a.jpg": encoded(0)})
    assert len(made(tmp_path / "nested")[0]) == 1
    assert [row.shard for row in made(tmp_path / "nested")[0].rows([0])] == ["train/0.tar"]
    other = make_tar(tmp_path / "nested" / "val" / "1.tar", {"b.jpg": encoded(1)})
    index, _ = made([other, nested, other])
    assert [(row.shard, row.key) for row in index.rows(range(2))] == [("train/0.tar", "a"), ("val/1.tar", "b")]
    assert index.image(index.rows([1])[0]) == encoded(1)
    assert len(made(shapes)[0]) == 72


@pytest.mark.parametrize(
    ("names", "settings", "kind", "message"),
    [
        (["none"], {}, DataError, "none does not exist"),
        (["empty"], {}, DataError, r"has no shards, \.tar files or images"),
        (["a.tif"], {}, UsageError, "choose a tile size with --tile"),
        (["a.tar", "a.tif"], {}, UsageError, r"a\.tar and .*a\.tif are of different kinds"),
        (["a.jpg"], {}, UsageError, r"a\.jpg is not a valid input"),
        (["a.tar"], {"tile": 64}, UsageError, r"--tile: .*a\.tar is not a GeoTIFF"),
        (["a.tar", "a.tif"], {"tile": 64}, UsageError, r"--tile: .*a\.tar is not a GeoTIFF"),
        (["empty"], {"tile": 64}, DataError, r"--tile: .* has no \.tif files"),
        (["shards"], {"tile": 64}, UsageError, "has shards, not GeoTIFFs"),
        (["unfinished"], {}, DataError, "has unfinished shards"),
    ],
)
def test_an_invalid_input_is_an_error_with_a_hint(made, shapes, tmp_path, names, settings, kind, message):
    (tmp_path / "empty").mkdir()
    for name in ("a.tif", "a.tar", "a.jpg"):
        (tmp_path / name).write_bytes(b"x")
    shutil.copytree(shapes / "test", tmp_path / "shards")
    shutil.copytree(shapes / "test", tmp_path / "unfinished")
    (tmp_path / "unfinished" / "manifest.json").rename(tmp_path / "unfinished" / ".dove")  # as while they are made
    with pytest.raises(kind, match=message) as caught:
        made([tmp_path / name for name in names], EmbedConfig(**settings))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 10}, "--stride needs --tile"),
        ({"bands": "1"}, "--bands needs --tile"),
        ({"tile": 64, "stride": 65}, "--stride 65 would leave gaps"),
        ({"tile": 64, "bands": "1,2"}, "is not a valid list of bands"),
        ({"tile": 64, "bands": "0,1,2"}, "is not a valid list of bands"),
        ({"tile": 64, "bands": "red"}, "is not a valid list of bands"),
        ({"part_size": 0}, "--part-size 0 is out of range"),
        ({"gpus": 0}, "--gpus 0 is out of range"),
    ],
)
def test_invalid_settings_are_errors(settings, message):
    with pytest.raises(UsageError, match=message):
        EmbedConfig(**settings)


def test_a_changed_or_missing_image_is_an_error(made, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.jpg").write_bytes(encoded(0))
    index, _ = made(tmp_path / "photos")
    row = index.rows([0])[0]
    (tmp_path / "photos" / "0.jpg").write_bytes(encoded(0)[:50])
    with pytest.raises(SearchIndexError, match="shorter than when it was embedded"):
        index.image(row)
    (tmp_path / "photos" / "0.jpg").unlink()
    with pytest.raises(SearchIndexError, match="cannot be read"):
        index.image(dataclasses.replace(row, size=9))


def test_a_file_whose_name_is_not_utf_8_is_embedded(made, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.jpg").write_bytes(encoded(0))
    Path(os.fsdecode(os.fsencode(tmp_path / "photos") + b"/\xff.jpg")).write_bytes(encoded(1))
    index, events = made(tmp_path / "photos")
    assert len(index) == 2
    assert skipped(events) == {}
