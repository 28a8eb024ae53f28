"""One release with everything in it that a bucket, a careless hand or an attacker may put there."""

from __future__ import annotations

import csv
import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dove_core.config import ShardConfig
from dove_core.data.sharding.shards import shard_release
from dove_core.data.sharding.verify_shards import verify_shards
from tests.data.releases import image, table_of

CONFIG = ShardConfig(shard_size=10, max_bad=1.0, workers=2)
WHEN = (2019, 7, 3, 10, 20)
BOX = (8.0, 47.0, 8.1, 47.1)


class Attack:
    """A pickle of it runs code when Python's own unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def huge_jpeg() -> bytes:
    """Return a small file that says it is 40,000 x 40,000 pixels."""
    data = bytearray(image(1))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, 40_000, 40_000)
    return bytes(data)


def tiff() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9, 7), "green").save(stream, "TIFF")
    return stream.getvalue()


GOOD = {  # by path in the table: member's name in the zip, packing
    "images2/stored_1.jpg": ("images2/stored_1.jpg", zipfile.ZIP_STORED),
    "images2/deflated_1.jpg": ("images2/deflated_1.jpg", zipfile.ZIP_DEFLATED),
    "images2/nested_1.jpg": ("images2/images2/nested_1.jpg", zipfile.ZIP_STORED),
    "images2/机场 1.jpg": ("images2/机场 1.jpg", zipfile.ZIP_DEFLATED),
    "images2/UPPER.JPG": ("images2/UPPER.JPG", zipfile.ZIP_STORED),
    "images2/upper.jpg": ("images2/upper.jpg", zipfile.ZIP_STORED),
    "images2/dots.in.name.jpg": ("images2/dots.in.name.jpg", zipfile.ZIP_STORED),
    "/etc/absolute.jpg": ("/etc/absolute.jpg", zipfile.ZIP_STORED),
    "images2/twice.jpg": ("images2/twice.jpg", zipfile.ZIP_STORED),
}
BAD = {
    "images2/cut.jpg": (image(2)[:200], "damaged picture", "Premature end|cut|marker|Not a JPEG|JPEG"),
    "images2/page.jpg": (b"<html>404</html>", "damaged picture", "not an image"),
    "images2/nothing.jpg": (b"", "damaged picture", "not an image"),
    "images2/huge.jpg": (huge_jpeg(), "damaged picture", "40000 x 40000 pixels are more than"),
    "../../secret.jpg": (image(3), "missing picture", "no file fits"),
}
METAS: dict[str, tuple[Any, tuple[list[float] | None, str | None]]] = {  # what is pickled; box and time that come of it
    "stored_1": ({"box": BOX, "time": WHEN}, (list(BOX), "2019-07-03T10:20")),
    "deflated_1": ({"bbox": list(BOX), "time": 2019}, (list(BOX), "2019")),
    "nested_1": ({"box": BOX, "time": (2019, 7, 3)}, (list(BOX), "2019-07-03")),
    "UPPER": ({"box": (1, 2), "time": "yesterday"}, (None, None)),
    "upper": ({"box": (8, 47, 9, float("nan")), "time": (2019, 13, 1)}, (None, None)),
    "dots.in.name": ({"box": BOX, "time": None}, (list(BOX), None)),
    "absolute": ([1, 2, 3], (None, None)),
}
CAPTIONS = {
    "images2/stored_1.jpg": 'two\nlines, "quoted"',
    "images2/deflated_1.jpg": "emoji 🛰️ and 机场",
    "images2/nested_1.jpg": "tabs\tand\x07bells",
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "release"
    (root / "dataframe").mkdir(parents=True)
    with warnings.catch_warnings(), zipfile.ZipFile(root / "images2.zip", "w") as images:
        warnings.simplefilter("ignore")  # zipfile's, of a name that is there twice
        for i, (member, packing) in enumerate(GOOD.values()):
            if "twice" in member:
                images.writestr(member, b"an older one")
            entry = zipfile.ZipInfo(member)
            entry.compress_type = packing
            with images.open(entry, "w", force_zip64=i == 0) as stream:
                stream.write(image(i))
        for path, (data, _, _) in BAD.items():
            images.writestr(path, data)
        images.writestr("images2/silent.jpg", image(50))
        images.writestr("images2/tiff.tif", tiff())
        images.writestr("__MACOSX/images2/._stored_1.jpg", b"junk")
    with zipfile.ZipFile(root / "meta2.zip", "w", zipfile.ZIP_DEFLATED) as metas:
        for stem, (values, _) in METAS.items():
            metas.writestr(f"meta2/{stem}.pickle", pickle.dumps(values))
        metas.writestr("meta2/twice.pickle", pickle.dumps({"time": Attack(tmp_path / "trap")}))
        metas.writestr("meta2/tiff.pickle", b"cbuiltins\nexec\n(S'import os'\ntR.")
    rows = [*GOOD, *BAD, "images2/silent.jpg", "images2/tiff.tif", "images2/stored_1.jpg", "images9/none.jpg"]
    with (root / "dataframe" / "Sky_train.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filepath", "title"])
        writer.writerows([path, "" if "silent" in path else CAPTIONS.get(path, "a lake")] for path in rows)
    return root


def test_each_row_gets_the_right_status(release: Path, tmp_path: Path) -> None:
    (manifest,) = shard_release(release, tmp_path / "out", CONFIG)
    rows = table_of(tmp_path / "out" / "train")
    found = {row["path"]: row for row in rows if row["status"] != "merged"}
    assert {path for path, row in found.items() if row["status"] == "ok"} == {*GOOD, "images2/tiff.tif"}
    for path, (_, status, words) in BAD.items():
        assert found[path]["status"] == status
        assert any(word in found[path]["error"] for word in words.split("|")), found[path]["error"]
    assert found["images2/silent.jpg"]["status"] == "no caption"
    assert found["images9/none.jpg"]["status"] == "missing picture"
    assert manifest.counts["merged"] == 1
    assert len({row["key"] for row in rows}) == len(rows) - 1
    for stem, (_, (box, time)) in METAS.items():
        row = next(row for path, row in found.items() if path.rsplit("/", 1)[-1].rsplit(".", 1)[0] == stem)
        assert (row["box"], row["time"]) == (box, time)
    assert not (tmp_path / "trap").exists(), "a pickle's code ran"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "release"], "nothing was unpacked anywhere"
    assert verify_shards(tmp_path / "out", CONFIG) == []


def test_the_tar_holds_the_zips_own_bytes_under_plain_names(release: Path, tmp_path: Path) -> None:
    shard_release(release, tmp_path / "out", CONFIG)
    members: dict[str, bytes] = {}
    for path in (tmp_path / "out" / "train").glob("*.tar"):
        with tarfile.open(path) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert all(name.isascii() and name.count(".") == 1 and "/" not in name for name in members)
    samples = {json.loads(data)["path"]: json.loads(data) for name, data in members.items() if name.endswith(".json")}
    for i, path in enumerate(GOOD):
        assert members[samples[path]["key"] + ".jpg"] == image(i)
    assert samples["images2/stored_1.jpg"]["captions"]["title"] == ['two lines, "quoted"'] * 2  # two rows
    assert samples["images2/deflated_1.jpg"]["captions"]["title"] == ["emoji 🛰️ and 机场"]
    assert samples["images2/nested_1.jpg"]["captions"]["title"] == ["tabs and bells"]
