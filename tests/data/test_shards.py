import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from dove_core.config import ShardConfig
from dove_core.data.manifest import read_manifest
from dove_core.data.sample import Sample
from dove_core.data.sharding.shards import shard_captions, shard_release
from dove_core.data.sharding.sidecar import SCHEMA
from dove_core.errors import DataError, UsageError
from dove_core.events import Event, Skipped
from dove_core.files import sha256_of
from tests.data.releases import LENIENT, SMALL, image, key, make_release, table_of, write_table


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release")


def test_a_release_becomes_shards_with_sidecars_and_a_manifest(release: Path, tmp_path: Path) -> None:
    make_release(release, 3, "val")
    make_release(release, 10)
    manifests = shard_release(release, tmp_path / "shards" / "sky", SMALL)
    assert [(m.release, m.split, m.samples) for m in manifests] == [("sky", "train", 10), ("sky", "val", 3)]
    train = tmp_path / "shards" / "sky" / "train"
    assert read_manifest(train) == manifests[0]
    assert manifests[0].caption_fields == ("title", "title_multi_objects")
    assert json.loads((train / "sizes.json").read_text()) == {"00000.tar": 4, "00001.tar": 4, "00002.tar": 2}
    assert [(s.name, s.samples, s.bytes, s.sha256) for s in manifests[0].shards] == [
        (f"0000{i}.tar", n, (train / f"0000{i}.tar").stat().st_size, sha256_of(train / f"0000{i}.tar"))
        for i, n in enumerate((4, 4, 2))
    ]
    assert sorted(row["key"] for row in table_of(train)) == sorted(map(key, range(10)))
    assert [row["key"] for row in table_of(train)] != sorted(map(key, range(10)))


def test_a_sample_carries_captions_place_time_source_and_tags(release: Path, tmp_path: Path) -> None:
    shard_release(release, tmp_path / "out", SMALL)
    with tarfile.open(tmp_path / "out" / "train" / "00000.tar") as tar:
        name = tar.getnames()[1]
        member = tar.extractfile(name)
        assert member is not None
        sample = Sample.from_json(member.read())
    number = sample.key[1:].split("_")[0]
    captions = {"title": (f"a lake {number}",), "title_multi_objects": (f"a lake {number} by a road",)}
    assert sample == Sample(
        sample.key, f"images2/{sample.key}.jpg", captions,
        (8.0, 47.0, 8.1, 47.1), "2019-07-03T10:20", "CH", 0.1, {"a": "b"},
    )  # fmt: skip
    row = table_of(tmp_path / "out" / "train")[0]
    assert row["key"] == sample.key
    assert dict(row["captions"]) == {name: list(texts) for name, texts in captions.items()}
    assert (row["box"], row["time"], row["source"], row["tags"]) == (
        [8.0, 47.0, 8.1, 47.1], "2019-07-03T10:20", "CH", '{"a": "b"}'
    )  # fmt: skip
    assert (row["width"], row["height"], row["status"], row["error"]) == (10, 8, "ok", None)


def test_the_tar_is_plain_ustar_and_offsets_point_at_the_images(release: Path, tmp_path: Path) -> None:
    shard_release(release, tmp_path / "out", SMALL)
    for path in sorted((tmp_path / "out" / "train").glob("*.tar")):
        data, rows = path.read_bytes(), pq.read_table(path.with_suffix(".parquet"))
        assert rows.schema.equals(SCHEMA)
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        names = [name for row in rows.to_pylist() for name in (row["key"] + ".jpg", row["key"] + ".json")]
        assert [member.name for member in members] == names
        for row, member in zip(rows.to_pylist(), members[::2], strict=True):
            number = int(row["key"][1:].split("_")[0])
            assert data[row["offset"] : row["offset"] + row["size"]] == image(number)
            assert row["offset"] == member.offset_data
        for i, member in enumerate(members):
            assert (member.type, member.mode, member.uid, member.gid) == (tarfile.REGTYPE, 0o644, 0, 0)
            assert (member.uname, member.gname, member.pax_headers) == ("", "", {})
            assert isinstance(member.mtime, int)
            assert i == 0 or member.offset == members[i - 1].offset_data + -(-members[i - 1].size // 512) * 512
        assert data.endswith(b"\0" * 1024)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves that to the garbage collector
def test_the_real_webdataset_reads_the_shards(release: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    shard_release(release, tmp_path / "out", SMALL)
    urls = [str(path) for path in sorted((tmp_path / "out" / "train").glob("*.tar"))]
    samples = list(wds.WebDataset(urls, shardshuffle=False).decode("pil"))
    assert sorted(sample["__key__"] for sample in samples) == sorted(map(key, range(10)))
    for sample in samples:
        assert sample["jpg"].size == (10, 8)
        assert sample["json"]["key"] == sample["__key__"]


def break_release(release: Path) -> Path:
    """Ten good rows, then one of each kind of bad."""
    data = image(20)
    with zipfile.ZipFile(release / "images2.zip", "a") as images:
        images.writestr("images2/flipped.jpg", image(21))
        images.writestr("images2/cut.jpg", data[: len(data) - 40])
        images.writestr("images2/page.jpg", b"<html></html>")
        images.writestr("images2/silent.jpg", data)
    with zipfile.ZipFile(release / "images2.zip") as images:
        begin = images.getinfo("images2/flipped.jpg").header_offset + 30 + len("images2/flipped.jpg") + 300
    archive = bytearray((release / "images2.zip").read_bytes())
    archive[begin] ^= 1
    (release / "images2.zip").write_bytes(archive)
    rows = [(f"images2/{key(i)}.jpg", f"a lake {i}") for i in range(10)]
    bad = ["flipped", "cut", "page", "nowhere", "../images2/" + key(1)]
    rows += [(f"images2/{name}.jpg", "a road") for name in bad] + [
        ("images2/silent.jpg", ""),
        ("images2/silent2.jpg", ""),
    ]
    rows += [(f"images2/{key(3)}.jpg", "once more")]
    return write_table(release / "dataframe" / "SkyScript_train_5K.csv", rows)


def test_each_bad_row_gets_its_status_and_is_counted(release: Path, tmp_path: Path) -> None:
    break_release(release)
    events: list[Event] = []
    (manifest,) = shard_release(release, tmp_path / "out", LENIENT, report=events.append)
    assert (manifest.rows, manifest.samples) == (18, 10)
    assert manifest.counts == {
        "ok": 10, "missing picture": 1, "damaged picture": 3, "no caption": 2, "duplicate key": 0, "merged": 2
    }  # fmt: skip
    assert manifest.dropped_captions == 4
    rows = {row["path"]: row for row in table_of(tmp_path / "out" / "train") if row["status"] != "ok"}
    facts = {path.removeprefix("images2/"): (row["status"], row["error"]) for path, row in rows.items()}
    assert facts["flipped.jpg"][0] == "damaged picture" and "CRC" in facts["flipped.jpg"][1]
    assert facts["cut.jpg"][0] == "damaged picture" and "Premature end" in facts["cut.jpg"][1]
    assert facts["page.jpg"] == ("damaged picture", "13 bytes that are not an image")
    assert facts["nowhere.jpg"] == ("missing picture", "no file fits 'images2/nowhere.jpg'")
    assert facts["silent.jpg"][0] == facts["silent2.jpg"][0] == "no caption"
    assert all(row["offset"] is row["size"] is row["width"] is None for row in rows.values())
    assert facts["../images2/" + key(1) + ".jpg"][0] == "merged", "nothing before a .. counts"
    skipped = {event.reason: (event.count, event.example) for event in events if isinstance(event, Skipped)}
    assert {reason: count for reason, (count, _) in skipped.items()} == {
        "missing picture": 1, "damaged picture": 3, "no caption": 2, "empty caption": 4
    }  # fmt: skip
    assert "no file fits" in skipped["missing picture"][1]
    again: list[Event] = []
    shard_release(release, tmp_path / "out", LENIENT, report=again.append)
    assert [e for e in again if isinstance(e, Skipped)] == [e for e in events if isinstance(e, Skipped)]


def test_rows_of_one_image_become_one_sample_with_all_their_captions(release: Path, tmp_path: Path) -> None:
    names = [f"images2/{key(i)}.jpg" for i in range(10)]
    rows = [(names[i % 10], f"{'first' if i < 10 else 'second'} {i % 10}") for i in range(20)]
    rows += [(".\\images2\\" + key(4) + ".jpg", "third 4")]
    write_table(release / "dataframe" / "SkyScript_train_5K.csv", rows)
    (manifest,) = shard_release(release, tmp_path / "out", SMALL)
    assert (manifest.samples, manifest.rows, manifest.counts["merged"]) == (10, 21, 11)
    for row in table_of(tmp_path / "out" / "train"):
        if row["status"] == "ok":
            number = row["key"][1:].split("_")[0]
            wanted = [f"first {number}", f"second {number}", *(["third 4"] if number == "4" else [])]
            assert dict(row["captions"])["title"] == wanted
        else:
            assert row["status"] == "merged" and row["offset"] is None


def test_images_of_one_name_in_several_folders_keep_apart(tmp_path: Path) -> None:
    rows = ["filepath,title"]
    for name in ("harbour/1.jpg", "runway/1.jpg", "runway/2.jpg", "lake/2.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(image(len(rows)))
        rows.append(f"{name},a {name.split('/')[0]}")
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    (manifest,) = shard_captions(tmp_path / "rows.csv", tmp_path / "images", tmp_path / "out", SMALL)
    assert manifest.samples == 4
    rows_of = {row["path"]: row for row in table_of(tmp_path / "out" / "train")}
    assert len({row["key"] for row in rows_of.values()}) == 4
    assert rows_of["harbour/1.jpg"]["key"] == "1"
    assert rows_of["runway/1.jpg"]["key"].startswith("runway_1_")


def test_too_many_bad_rows_are_an_error_and_leave_no_manifest(release: Path, tmp_path: Path) -> None:
    break_release(release)
    shard_release(release, tmp_path / "out", LENIENT)
    words = "6 of 18 rows for train cannot be used: 1 missing picture, 3 damaged picture, 2 no caption"
    with pytest.raises(DataError, match=words) as caught:
        shard_release(release, tmp_path / "out", SMALL)
    assert "--max-bad (now 0.01)" in caught.value.hint
    assert not (tmp_path / "out" / "train" / "manifest.json").exists()
    with pytest.raises(DataError, match="does not exist") as caught:
        read_manifest(tmp_path / "out" / "train")
    assert "dove shard" in caught.value.hint
    inodes = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.tar")}
    shard_release(release, tmp_path / "out", LENIENT)
    assert {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.tar")} == inodes


def test_a_split_without_any_usable_sample_is_an_error_at_every_max_bad(release: Path, tmp_path: Path) -> None:
    file = write_table(tmp_path / "other.csv", [("images7/x.jpg", "a lake"), ("images7/y.jpg", "a road")])
    with pytest.raises(DataError, match=r"no row of .*other\.csv for train can be used: 2 missing picture") as caught:
        shard_captions(file, release, tmp_path / "out", LENIENT)
    assert "'images7/x.jpg'" in caught.value.hint
    assert "10 images such as 'images2/images2/a0_CH_19.jpg'" in caught.value.hint


def test_doubly_nested_and_unpacked_releases_give_the_same_shards(release: Path, tmp_path: Path) -> None:
    nested = make_release(tmp_path / "nested", nest="images2/images2/")
    unpacked = make_release(tmp_path / "unpacked")
    for name in ("images2.zip", "meta2.zip"):
        with zipfile.ZipFile(unpacked / name) as archive:
            archive.extractall(unpacked)
        (unpacked / name).unlink()
    tars = []
    for root in (release, nested, unpacked):
        shard_release(root, tmp_path / "out" / root.name, SMALL)
        tars.append({path.name: path.read_bytes() for path in (tmp_path / "out" / root.name / "train").glob("*.tar")})
    assert tars[0] == tars[1] == tars[2]


def test_a_chosen_table_of_a_release_uses_its_images_and_metas(release: Path, tmp_path: Path) -> None:
    table = next((release / "dataframe").iterdir())
    (manifest,) = shard_captions(table, release, tmp_path / "out", SMALL, split="holdout")
    assert (manifest.split, manifest.samples, manifest.meta_problems) == ("holdout", 10, 0)
    assert table_of(tmp_path / "out" / "holdout")[0]["time"] == "2019-07-03T10:20"


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_bad_metas_are_counted_and_their_images_kept(release: Path, tmp_path: Path) -> None:
    metas = [{"time": Attack(tmp_path / "trap")}, {"box": (1, 2)}, {"bbox": [1, 2, 3, 4], "time": 2019}]
    with zipfile.ZipFile(release / "meta2.zip", "w") as archive:
        for i, meta in enumerate(metas):
            archive.writestr(f"meta2/{key(i)}.pkl", pickle.dumps(meta))
        for i in range(3, 9):
            archive.writestr(f"meta2/{key(i)}.pickle", b"damaged" if i == 3 else pickle.dumps({}))
    events: list[Event] = []
    (manifest,) = shard_release(release, tmp_path / "out", SMALL, report=events.append)
    assert (manifest.samples, manifest.meta_problems) == (10, 4)
    assert {(e.reason, e.count, e.example) for e in events if isinstance(e, Skipped)} == {
        (reason, 1, f"images2/{key(i)}.jpg")
        for reason, i in (("refused meta", 0), ("bad box", 1), ("damaged meta", 3), ("missing meta", 9))
    }
    rows = {row["key"]: row for row in table_of(tmp_path / "out" / "train")}
    assert (rows[key(2)]["box"], rows[key(2)]["time"]) == ([1.0, 2.0, 3.0, 4.0], "2019")
    assert rows[key(0)]["box"] is rows[key(0)]["time"] is None
    assert not (tmp_path / "trap").exists()


def karpathy(path: Path, names: list[str]) -> Path:
    images = [
        {"filename": name, "split": "val" if i == 0 else "train", "sentences": [{"raw": f"a {i} ."}, {"raw": "."}]}
        for i, name in enumerate(names)
    ]
    path.write_text(json.dumps({"images": images, "dataset": "d"}))
    return path


def test_other_formats_become_rgb_jpegs_and_grey_jpegs_stay_as_they_are(tmp_path: Path) -> None:
    files = {
        "rgb.jpg": image(0), "grey.jpg": image(1, mode="L"), "cmyk.jpg": image(2, mode="CMYK"),
        "tiff.tif": image(3, "TIFF"), "png.png": image(4, "PNG"), "alpha.png": image(5, "PNG", "RGBA"),
        "palette.png": image(6, "PNG", "P"), "wide.tif": image(7, "TIFF", "F"),
    }  # fmt: skip
    (tmp_path / "images").mkdir()
    for name, data in files.items():
        (tmp_path / "images" / name).write_bytes(data)
    file = karpathy(tmp_path / "d.json", list(files))
    val, train = sorted(
        shard_captions(file, tmp_path / "images", tmp_path / "out", LENIENT), key=lambda m: -ord(m.split[0])
    )
    assert (val.samples, train.samples, train.caption_fields, train.dropped_captions) == (1, 7, ("caption",), 7)
    jpegs = {}
    for path in (tmp_path / "out").rglob("*.tar"):
        with tarfile.open(path) as tar:
            jpegs.update({m.name: tar.extractfile(m).read() for m in tar if m.name.endswith(".jpg")})  # type: ignore[union-attr]
    assert jpegs["rgb.jpg"] == files["rgb.jpg"]
    assert jpegs["grey.jpg"] == files["grey.jpg"]
    for name in ("cmyk", "tiff", "png", "alpha", "palette", "wide"):
        with Image.open(io.BytesIO(jpegs[f"{name}.jpg"])) as opened:
            assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (10, 8))


def claim_size(png: bytes, width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def test_an_image_that_would_fill_the_memory_is_not_decoded(release: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(release / "images2.zip", "a") as images:
        images.writestr("images2/large.png", claim_size(image(0, "PNG"), 12_000, 9_000))
        images.writestr("images2/huge.png", claim_size(image(0, "PNG"), 20_000, 10_000))
    rows = [("images2/large.png", "a"), ("images2/huge.png", "b"), (f"images2/{key(1)}.jpg", "c")]
    write_table(release / "dataframe" / "SkyScript_train_5K.csv", rows)
    shard_release(release, tmp_path / "out", LENIENT)
    errors = {row["key"]: row["error"] for row in table_of(tmp_path / "out" / "train")}
    assert errors["large"].startswith("12000 x 9000 pixels are more than 100000000: cut it")
    assert "decompression bomb" in errors["huge"]


def test_odd_captions_survive_to_the_tar(release: Path, tmp_path: Path) -> None:
    text = 'filepath,title\nimages2/a0_CH_19.jpg,"two\nlines, ""quoted"" 🛰️ 机场"\n'
    (release / "dataframe" / "SkyScript_train_5K.csv").write_text(text)
    shard_release(release, tmp_path / "out", SMALL)
    with tarfile.open(tmp_path / "out" / "train" / "00000.tar") as tar:
        data = tar.extractfile(f"{key(0)}.json").read()  # type: ignore[union-attr]
    assert Sample.from_json(data).captions == {"title": ('two lines, "quoted" 🛰️ 机场',)}


def test_an_unknown_kind_of_captions_and_a_setting_out_of_bounds_are_errors(release: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a \.csv, \.tsv, \.json, \.jsonl or \.parquet"):
        shard_captions(tmp_path / "captions.xml", release, tmp_path / "out", SMALL)
    with pytest.raises(UsageError, match="--shard-size"):
        shard_release(release, tmp_path / "out", ShardConfig(shard_size=0))
    assert not (tmp_path / "out").exists()
