"""Captions beside images, in tars and in folders, as the tools that people use write them."""

import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dove_core.config import EmbedConfig
from dove_core.data.reader import Record
from dove_core.data.samples import Unusable
from dove_core.errors import UsageError
from dove_core.events import Event, Skipped
from dove_core.names import real_name
from dove_core.places import Folder
from dove_core.sources.folder import ImageFolder
from dove_core.sources.open import open_source
from dove_core.sources.source import Source
from dove_core.sources.tar import Tars
from tests.data.releases import image


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def read_all(source: Source) -> list[Record | Unusable]:
    opened = [source.open(part) for part in range(len(source.inputs()))]
    return [samples.read(number) for samples in opened for number in range(len(samples))]


def captions(source: Source) -> dict[str, str | None]:
    samples = [one.sample for one in read_all(source) if isinstance(one, Record)]
    return {sample.key: next(iter(sample.captions.get("title", ())), None) for sample in samples}


VALUES: dict[str, tuple[Any, str | None]] = {
    "text": ({"caption": "a lake"}, "a lake"),
    "list": ({"captions": ["a lake", "a pond"]}, "a lake"),
    "one list": ({"caption": ["a lake", "a pond"]}, "a lake"),
    "fields": ({"captions": {"other": ["a pond"], "title": ["a lake"]}}, "a lake"),
    "other field": ({"captions": {"title": [], "other": "a pond"}}, "a pond"),
    "under text": ({"text": "a lake", "url": "http://x"}, "a lake"),
    "numbered": ({"caption_1": "a pond", "caption_0": "a lake"}, "a lake"),
    "sentences": ({"sentences": [{"raw": None}, {"raw": "a lake"}]}, "a lake"),
    "printed": ({"caption": "['a lake', 'a pond']"}, "a lake"),
    "bare text": ("a lake", "a lake"),
    "bare list": (["a lake", "a pond"], "a lake"),
    "null": ({"caption": None}, None),
    "not a number": ({"caption": float("nan")}, None),
    "nan": ({"caption": "nan"}, None),
    "blank": ({"caption": " "}, None),
    "number": (42, None),
    "nothing": ({}, None),
}
TEXTS: dict[str, tuple[bytes, str | None]] = {
    "UTF-8": ("a lake 机场".encode(), "a lake 机场"),
    "with a mark": (b"\xef\xbb\xbfa lake\r\n", "a lake"),
    "UTF-16": ("机场 lake".encode("utf-16"), "机场 lake"),
    "Latin-1": ("café lake".encode("latin-1"), "café lake"),
    "lines": (b"a lake\nand a pond\n", "a lake and a pond"),
    "nan": (b"nan", None),
    "empty": (b"", None),
}


@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_each_form_of_a_caption_is_read(tmp_path: Path, kind: str) -> None:
    files = {}
    for name, (value, _) in VALUES.items():
        files |= {f"j {name}.jpg": image(1), f"j {name}.json": json.dumps(value).encode()}
    for name, (data, _) in TEXTS.items():
        files |= {f"t {name}.jpg": image(1), f"t {name}.txt": data}
    files |= {"both.jpg": image(1), "both.json": b'{"caption": ""}', "both.txt": b"of the text"}
    files |= {"cut.jpg": image(1), "cut.json": b'{"caption": "a la', "cut.txt": b"of the text"}
    if kind == "tar":
        source: Source = Tars(tmp_path, [write_tar(tmp_path / "a.tar", files)], "title")
    else:
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        source = ImageFolder(tmp_path, 5, "title")
    found = {key.removesuffix(".jpg"): caption for key, caption in captions(source).items()}
    assert found == {
        **{f"j {name}": caption for name, (_, caption) in VALUES.items()},
        **{f"t {name}": caption for name, (_, caption) in TEXTS.items()},
        "both": "of the text", "cut": "of the text",
    }  # fmt: skip


def test_the_image_of_a_sample_is_the_one_with_a_plain_ending(tmp_path: Path) -> None:
    files = {"a.mask.png": image(1, "PNG"), "a.jpg": image(2), "b.jpg": image(3), "b.mask.png": image(4, "PNG")}
    files |= {"c.left.png": image(5, "PNG"), "c.right.png": image(6, "PNG")}
    found = read_all(Tars(tmp_path, [write_tar(tmp_path / "t.tar", files)], "title"))
    images = {one.sample.key: one.image for one in found if isinstance(one, Record)}
    assert images == {"a": image(2), "b": image(3), "c": image(5, "PNG")}
    left = [one.example for one in found if isinstance(one, Unusable)]
    assert left == ["t.tar: a.mask.png", "t.tar: b.mask.png", "t.tar: c.right.png"]


def test_a_folder_of_img2dataset_has_metadata_and_a_part_changes_with_them(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.jpg").write_bytes(image(1))
    (plain,) = ImageFolder(tmp_path, 10, "title").inputs()
    values = {"caption": "a lake", "box": [1, 2, 3, 4], "time": "2019-07", "path": "elsewhere.jpg"}
    (tmp_path / "0" / "a.json").write_text(json.dumps(values))
    source = ImageFolder(tmp_path, 10, "title")
    assert source.inputs()[0].digest != plain.digest
    (record,) = read_all(source)
    assert isinstance(record, Record)
    assert (record.sample.key, record.sample.path) == ("0/a.jpg", "0/a.jpg")
    assert (record.sample.box, record.sample.time) == ((1.0, 2.0, 3.0, 4.0), "2019-07")


def test_boxes_in_numbers_beside_an_image_are_no_caption(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image(1))
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.1\n3 0.1 0.2 0.3 0.4\n")
    assert captions(ImageFolder(tmp_path, 10, "title")) == {"a.jpg": None}


def test_what_a_folder_has_besides_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image(1))
    (tmp_path / "b.jpg").write_bytes(image(2))
    write_tar(tmp_path / "below" / "x.tar", {"x.jpg": image(3)})
    events: list[Event] = []
    source = open_source([Folder(tmp_path)], EmbedConfig(), "title", events.append)
    assert isinstance(source, ImageFolder)
    write_tar(tmp_path / "y.tar", {"y.jpg": image(3)})
    source = open_source([Folder(tmp_path)], EmbedConfig(), "title", events.append)
    assert [one.name for one in source.inputs()] == ["below/x.tar", "y.tar"]
    assert [(event.reason, event.count) for event in events if isinstance(event, Skipped)] == [
        ("tar below a folder of images", 1), ("image file beside tars", 2)
    ]  # fmt: skip


OTHERS = {
    "gzip": (b"\x1f\x8b" + b"\0" * 50, "compressed by gzip"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
    "a page": (b"<html></html>", "a web page"),
    "RAR": (b"Rar!\x1a\x07\x00", "a RAR archive"),
}


@pytest.mark.parametrize(("data", "kind"), OTHERS.values(), ids=OTHERS.keys())
def test_a_tar_of_another_kind_is_called_what_it_is(tmp_path: Path, data: bytes, kind: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    (left,) = read_all(Tars(tmp_path, [tmp_path / "a.tar"], "title"))
    assert isinstance(left, Unusable)
    assert left.reason.startswith(f"file that is not a tar but {kind}")
    (tmp_path / "a.tar").rename(tmp_path / "a.tgz")
    for place in (tmp_path / "a.tgz", tmp_path):
        with pytest.raises(UsageError, match=kind) as caught:
            open_source([Folder(place)], EmbedConfig(), "title", lambda event: None)
        assert str(tmp_path) in caught.value.hint or "git lfs" in caught.value.hint or "browser" in caught.value.hint


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_a_name_that_is_not_utf_8_is_read_and_found_again(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(odd, "wb") as stream:  # noqa: PTH123  # a path of bytes
        stream.write(image(1))
    (record,) = read_all(ImageFolder(tmp_path, 10, "title"))
    assert isinstance(record, Record)
    record.sample.key.encode()
    assert Folder(tmp_path).range(record.shard, record.offset, record.size) == image(1)
    assert os.fsencode(real_name(record.shard)) == b"caf\xe9.jpg"
