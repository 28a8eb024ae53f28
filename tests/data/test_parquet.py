"""`dove shard` on Parquet files with images inside."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dove_core.config import ShardConfig
from dove_core.data.parquet_images import RowReader
from dove_core.data.reader import Shards
from dove_core.data.sharding.member_reader import LostSourceError
from dove_core.data.sharding.row_images import RowImages, RowLocation
from dove_core.data.sharding.shards import shard_captions, shard_release
from dove_core.data.sharding.verify_shards import verify_shards
from dove_core.errors import DataError, UsageError
from dove_core.events import Noted, Skipped
from dove_core.processes import Share
from tests.data.parquet_files import IMAGE, RSICD, make_karpathy_of_rsicd, make_rsicd, rsicd_rows, write_rows
from tests.data.releases import LENIENT, SMALL, contents, image, make_release, table_of


def samples(folder: Path) -> dict[str, tuple[bytes, dict[str, tuple[str, ...]]]]:
    """Return image and captions of each sample by its key."""
    shards = Shards(folder)
    records = [shards.read(number) for number in range(len(shards))]
    found = {record.sample.key: (record.image, dict(record.sample.captions)) for record in records}
    assert len(found) == len(records)
    return found


def captions_of(folder: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    return {key: captions for key, (_, captions) in samples(folder).items()}


def shard(path: Path, out: Path, config: ShardConfig = LENIENT, **how: Any) -> list[Any]:
    return shard_captions(path, None, out, config, **how)


def jpeg(number: int) -> dict[str, Any]:
    return {"bytes": image(number), "path": f"{number}.jpg"}


WAYS = {
    "many row groups, snappy": {},
    "one row group, zstd": {"row_group_size": 1000, "compression": "zstd"},
    "row groups of one row": {"row_group_size": 1, "compression": "gzip"},
    "no dictionary, small pages, checksums": {
        "use_dictionary": False, "data_page_size": 100, "write_batch_size": 2, "write_page_checksum": True,
        "row_group_size": 11, "data_page_version": "2.0",
    },
}  # fmt: skip


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS.keys())
def test_a_release_of_the_hub_gives_the_samples_of_the_same_images_and_a_json(tmp_path, how):
    events: list[Any] = []
    release = make_rsicd(tmp_path / "data" / "rsicd", **how)
    manifests = shard_release(release, tmp_path / "shards" / "rsicd", SMALL, report=events.append)
    assert [(m.release, m.split, m.samples, m.caption_fields) for m in manifests] == [
        ("rsicd", "train", 23, ("caption",)), ("rsicd", "val", 7, ("caption",)), ("rsicd", "test", 5, ("caption",))
    ]  # fmt: skip
    shard_captions(*make_karpathy_of_rsicd(tmp_path / "json"), tmp_path / "other", SMALL)
    for manifest in manifests:
        assert samples(tmp_path / "shards/rsicd" / manifest.split) == samples(tmp_path / "other" / manifest.split)
    assert verify_shards(tmp_path / "shards" / "rsicd", SMALL) == []
    train = "train: 23 rows in data/train-00000-of-00001.parquet"
    columns = "images from image.bytes, captions from captions, names from filename"
    assert Noted(f"{train}: {columns}") in events
    (skipped,) = (event for event in events if isinstance(event, Skipped) and event.task == "shard train")
    assert (skipped.reason, skipped.count) == ("empty caption", 7)


def test_equal_files_give_equal_bytes_with_any_number_of_workers_and_tasks(tmp_path):
    one, two = make_rsicd(tmp_path / "a" / "rsicd"), make_rsicd(tmp_path / "b" / "rsicd")
    shard_release(one, tmp_path / "one" / "rsicd", SMALL)
    shard_release(two, tmp_path / "two" / "rsicd", ShardConfig(shard_size=4, workers=2))
    for number in (1, 0, 2):
        shard_release(two, tmp_path / "shared" / "rsicd", SMALL, share=Share(number, 3))
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "shared")


def test_the_seed_decides_the_order_of_row_groups_and_rows_of_a_group_stay_together(tmp_path):
    release = make_rsicd(tmp_path / "rsicd")
    orders = []
    for seed in (0, 1):
        shard_release(release, tmp_path / str(seed), ShardConfig(shard_size=4, seed=seed, workers=1))
        orders.append([int(row["key"].split("_")[1]) for row in table_of(tmp_path / str(seed) / "train")])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(23))
    assert orders[0] != orders[1]
    assert orders[0] != list(range(23))
    for order in orders:
        groups = [number // 4 for number in order]
        changes = sum(a != b for a, b in itertools.pairwise(groups))
        assert changes == 5, "each row group is read once"


SCRIPT = """
import sys
from dove_core.config import ShardConfig
from dove_core.data.sharding.member_reader import LostSourceError
from dove_core.data.sharding.row_images import RowImages, RowLocation
from dove_core.data.sharding.shards import shard_captions
print("ready", flush=True)
shard_captions(sys.argv[1], None, sys.argv[2], ShardConfig(shard_size=3, workers=2))
"""


def test_a_killed_run_resumes_and_ends_with_the_same_bytes(tmp_path):
    rows = [{"image": jpeg(k % 50), "filename": f"{k}.jpg", "caption": f"lake {k}"} for k in range(600)]
    path, config = write_rows(tmp_path / "train.parquet", rows), ShardConfig(shard_size=3, workers=1)
    shard(path, tmp_path / "whole" / "mine", config)
    out = tmp_path / "killed" / "mine"
    for seconds in (0.15, 0.4):
        command = [sys.executable, "-c", SCRIPT, str(path), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
    done = {path: path.stat().st_ino for path in out.rglob("*.tar") if path.with_suffix(".done").exists()}
    shard(path, out, config)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert all(path.stat().st_ino == inode for path, inode in done.items())


NAMES = [
    ("data/train-00000-of-00002.parquet", "train"),
    ("data/validation-00003-of-00010.parquet", "val"),
    ("valid.parquet", "val"),
    ("my_dev_set.parquet", "val"),
    ("val/0000.parquet", "val"),
    ("default/test/0000.parquet", "test"),
    ("TRAIN/part-0.PARQUET", "train"),
    ("train/val-0.parquet", "val"),
]


@pytest.mark.parametrize(("name", "split"), NAMES)
def test_a_split_is_told_by_the_name_of_its_file_or_folder(tmp_path, name, split):
    write_rows(tmp_path / "set" / name, [{"image": jpeg(0), "caption": "a lake"}])
    (manifest,) = shard(tmp_path / "set", tmp_path / "out")
    assert (manifest.split, manifest.samples) == (split, 1)


def test_several_files_are_one_split_and_missing_ones_are_noted(tmp_path):
    for number in (0, 2):
        rows = [{"image": jpeg(k), "caption": f"lake {k}"} for k in range(number, number + 2)]
        write_rows(tmp_path / "set" / "data" / f"train-{number:05d}-of-00003.parquet", rows)
    events: list[Any] = []
    (manifest,) = shard(tmp_path / "set", tmp_path / "out", report=events.append)
    assert manifest.samples == 4
    notes = [event.message for event in events if isinstance(event, Noted)]
    assert notes == [
        "train: 4 rows in 2 files: images from image.bytes, captions from caption, names from image.path",
        "train: 2 of the 3 files data/train-*-of-00003.parquet are here; the others are left out",
    ]


def test_a_split_that_no_name_tells_is_named_with_an_option(tmp_path):
    path = write_rows(tmp_path / "photos.parquet", [{"image": jpeg(0), "caption": "a lake"}])
    with pytest.raises(DataError, match=r"the split of photos\.parquet is not in its name") as caught:
        shard(path, tmp_path / "out")
    assert "--split train" in caught.value.hint
    (manifest,) = shard(path, tmp_path / "out", split="holdout")
    assert (manifest.split, manifest.samples) == ("holdout", 1)
    with pytest.raises(UsageError, match="cannot be the name of a folder"):
        shard(path, tmp_path / "out", split="../x")
    release = make_rsicd(tmp_path / "rsicd")
    (manifest,) = shard(release, tmp_path / "out", split="validation")
    assert (manifest.split, manifest.samples) == ("val", 7)
    with pytest.raises(DataError, match="no file of split extra") as caught:
        shard(release, tmp_path / "out", split="extra")
    assert "choose with --split: test, train, val" in caught.value.hint


CAPTIONS: dict[str, tuple[dict[str, Any], dict[str, tuple[str, ...]]]] = {
    "a text": ({"caption": "a lake"}, {"caption": ("a lake",)}),
    "a list": ({"captions": ["a lake", None, "a pond"]}, {"caption": ("a lake", "a pond")}),
    "numbered": (
        {f"caption_{k}": None if k == 1 else f"lake {k}" for k in (10, 2, 0, 1)},
        {"caption": ("lake 0", "lake 2", "lake 10")},
    ),
    "other texts are left out beside captions": ({"Caption": "a lake", "url": "a.example"}, {"caption": ("a lake",)}),
    "text": ({"text": "a lake", "license": "free"}, {"caption": ("a lake",)}),
    "fields": (
        {"title": "a lake", "title_multi_objects": "a lake by a road", "label": 3},
        {"title": ("a lake",), "title_multi_objects": ("a lake by a road",)},
    ),
}


@pytest.mark.parametrize(("columns", "captions"), CAPTIONS.values(), ids=CAPTIONS.keys())
def test_captions_are_found_in_every_usual_form(tmp_path, columns, captions):
    path = write_rows(tmp_path / "train.parquet", [{"image": jpeg(0), **columns}])
    shard(path, tmp_path / "out")
    assert captions_of(tmp_path / "out" / "train") == {"0": captions}


IMAGES: dict[str, tuple[str, Any]] = {
    "a struct": ("image", IMAGE),
    "binary": ("image", pa.binary()),
    "large binary": ("img", pa.large_binary()),
    "a dictionary": ("jpg", pa.dictionary(pa.int32(), pa.binary())),
    "a struct of any name": ("tile", pa.struct([("bytes", pa.large_binary())])),
}


@pytest.mark.parametrize(("column", "kind"), IMAGES.values(), ids=IMAGES.keys())
def test_images_are_found_in_every_usual_form(tmp_path, column, kind):
    data = [image(k) for k in range(3)]
    images = pa.array([{"bytes": one} for one in data] if pa.types.is_struct(kind) else data)
    texts = pa.array(["a lake", "a pond", "a lake"]).dictionary_encode()
    kinds = pa.schema([("file_name", pa.string()), (column, kind), ("caption", texts.type), ("geometry", pa.binary())])
    names = pa.array(["x.jpg", None, "z.jpg"])
    table = pa.table([names, images.cast(kind), texts, pa.array([b"point"] * 3)], schema=kinds)
    pq.write_table(table, tmp_path / "train.parquet")
    shard(tmp_path / "train.parquet", tmp_path / "out")
    found = samples(tmp_path / "out" / "train")
    assert {key: one for key, (one, _) in found.items()} == {"x": data[0], "train_000001": data[1], "z": data[2]}


def test_rows_without_any_name_are_numbered_within_their_file(tmp_path):
    for split in ("train", "val"):
        rows = [{"image": image(k), "caption": "a lake"} for k in range(2)]
        write_rows(tmp_path / "set" / split / "part.0.parquet", rows)
    shard(tmp_path / "set", tmp_path / "out")
    assert set(samples(tmp_path / "out" / "val")) == {"val-part-0_000000", "val-part-0_000001"}


def test_rows_of_one_image_are_merged_and_other_images_of_its_name_keep_apart(tmp_path):
    kinds = [("1.jpg", 1, "a"), ("2.jpg", 2, "b"), ("1.jpg", 1, "c"), ("2.jpg", 3, "d"), ("2.jpg", 3, "e")]
    rows = [{"filename": name, "image": image(k), "caption": f"lake {text}"} for name, k, text in kinds]
    rows += [{"filename": "2.jpg", "image": None, "caption": "lake f"}]
    write_rows(tmp_path / "set" / "train-0.parquet", rows[:2])
    write_rows(tmp_path / "set" / "train-1.parquet", rows[2:])
    (manifest,) = shard(tmp_path / "set", tmp_path / "out")
    assert {status: count for status, count in manifest.counts.items() if count} == {
        "ok": 3, "merged": 2, "missing picture": 1
    }  # fmt: skip
    found = samples(tmp_path / "out" / "train")
    long = next(key for key in found if key not in ("1", "2"))
    assert long.startswith("train-1_1_2_")
    assert found == {
        "1": (image(1), {"caption": ("lake a", "lake c")}),
        "2": (image(2), {"caption": ("lake b",)}),
        long: (image(3), {"caption": ("lake d", "lake e")}),
    }


def test_null_and_damaged_images_and_empty_captions_are_counted(tmp_path):
    whole = image(0)
    rows = [{"image": one, "caption": "a lake"} for one in (whole, None, b"", whole[:-40], b"<html>")]
    rows += [{"image": whole, "caption": None}, {"image": whole, "caption": " . "}]
    path = write_rows(tmp_path / "train.parquet", rows)
    (manifest,) = shard(path, tmp_path / "out")
    assert {status: count for status, count in manifest.counts.items() if count} == {
        "ok": 1, "missing picture": 2, "damaged picture": 2, "no caption": 2
    }  # fmt: skip
    rows_of = {row["key"]: row for row in table_of(tmp_path / "out" / "train")}
    assert rows_of["train_000001"]["error"] == "row 1 of train.parquet has no image"
    assert rows_of["train_000004"]["error"] == "6 bytes that are not an image"
    with pytest.raises(DataError, match="6 of 7 rows for train cannot be used: 2 missing picture, 2 damaged picture"):
        shard(path, tmp_path / "other", SMALL)
    empty = [{"image": {"bytes": None, "path": "a.jpg"}, "caption": "a lake"}]
    path = write_rows(tmp_path / "val.parquet", empty, pa.schema([("image", IMAGE), ("caption", pa.string())]))
    with pytest.raises(DataError, match=r"no row of .*val\.parquet for val can be used: 1 missing picture") as caught:
        shard(path, tmp_path / "out")
    assert "expected encoded images" in caught.value.hint


def damage_group(path: Path, group: int) -> bytes:
    """Overwrite the images of a row group; return the whole file as it was."""
    whole = path.read_bytes()
    facts = pq.read_metadata(path)
    number = facts.schema.names.index("bytes")
    column = facts.row_group(group).column(number)
    start = column.data_page_offset + 40
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\xff" * (column.total_compressed_size // 2))
    return whole


def test_a_damaged_row_group_loses_its_rows_alone_and_they_are_tried_again_once_it_is_whole(tmp_path):
    release = make_rsicd(tmp_path / "rsicd", use_dictionary=False)
    path, out = release / "data" / "train-00000-of-00001.parquet", tmp_path / "out" / "rsicd"
    shard_release(release, tmp_path / "whole" / "rsicd", SMALL)
    whole = damage_group(path, 2)
    with pytest.raises(DataError, match="4 of 23 rows for train cannot be used: 4 damaged picture") as caught:
        shard_release(release, out, SMALL)
    assert "--retry-failed" in caught.value.hint
    errors = {row["key"]: row["error"] for row in table_of(out / "train") if row["status"] != "ok"}
    assert set(errors) == {f"train_{k}" for k in range(8, 12)}
    assert "train-00000-of-00001.parquet: row group 2 is damaged before row 8" in errors["train_8"]
    path.write_bytes(whole)
    shard_release(release, out, SMALL, retry_failed=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


WRONG: dict[str, tuple[Any, str, str]] = {
    "no images": (
        [{"caption": "a", "geometry": b"point"}],
        r"no column of images; columns: caption \(string\), geometry \(binary\)", "rename_columns",
    ),
    "no captions": ([{"image": b"x", "label": 3}], "no column of captions; columns: image", "caption_0"),
    "several images": (
        [{"before": {"bytes": b"x"}, "after": {"bytes": b"x"}, "caption": "a"}],
        "several columns of images: before, after", "rename",
    ),
    "no rows": ([], "has no rows", ""),
    "cut": (lambda data: data[:-20], "cannot be read as Parquet", "fetch it again"),
    "empty": (lambda data: b"", "cannot be read as Parquet", "fetch it again"),
    "something else": (lambda data: b"<html>" * 40, "cannot be read as Parquet", "fetch it again"),
    "damaged captions": (lambda data: data[:4] + b"\xff" * 60 + data[64:], "cannot be read", "fetch it again"),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "words", "hint"), WRONG.values(), ids=WRONG.keys())
def test_a_file_that_cannot_be_used_is_an_error_that_names_it(tmp_path, wrong, words, hint):
    path = tmp_path / "train.parquet"
    if callable(wrong):
        write_rows(path, rsicd_rows("train"), RSICD)
        path.write_bytes(wrong(path.read_bytes()))
    else:
        write_rows(path, wrong, None if wrong else RSICD)
    with pytest.raises(DataError, match=words) as caught:
        shard(path, tmp_path / "out")
    assert str(path) in caught.value.message
    assert hint in caught.value.hint


def test_wrong_places_and_options_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.parquet does not exist"):
        shard(tmp_path / "nowhere.parquet", tmp_path / "out", split="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no \.parquet files"):
        shard(tmp_path / "empty", tmp_path / "out")
    path = write_rows(tmp_path / "set" / "train-0.parquet", [{"image": jpeg(0), "caption": "a"}])
    with pytest.raises(UsageError, match="has its images inside"):
        shard_captions(path, tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match=r"images of .*\.csv are missing"):
        shard_captions(tmp_path / "a.csv", None, tmp_path / "out")
    write_rows(tmp_path / "set" / "train-1.parquet", [{"image": image(0), "text": "a"}])
    with pytest.raises(DataError, match=r"train-1\.parquet has other columns than .*train-0\.parquet"):
        shard(tmp_path / "set", tmp_path / "out")


def test_a_release_with_tables_is_read_as_before(tmp_path):
    release = make_release(tmp_path / "sky", 4)
    make_rsicd(release)
    assert [(m.split, m.samples) for m in shard_release(release, tmp_path / "out", SMALL)] == [("train", 4)]


def test_shards_are_made_again_if_captions_or_images_have_changed(tmp_path):
    rows = [{"image": image(k), "caption": f"lake {k}"} for k in range(4)]
    path = write_rows(tmp_path / "train.parquet", rows)
    (first,) = shard(path, tmp_path / "out")
    write_rows(path, rows)
    assert shard(path, tmp_path / "out") == [first]
    write_rows(path, [{**rows[0], "caption": "lake 9"}, *rows[1:]])
    with pytest.raises(UsageError, match=r"made from an earlier version of train\.parquet"):
        shard(path, tmp_path / "out")
    (second,) = shard(path, tmp_path / "out", overwrite=True)
    assert second.fingerprint != first.fingerprint
    assert captions_of(tmp_path / "out" / "train")["train_000000"] == {"caption": ("lake 9",)}
    write_rows(path, [{**rows[0], "image": image(9)}, *rows[1:]])
    shard(path, tmp_path / "out", overwrite=True)
    assert samples(tmp_path / "out" / "train")["train_000000"] == (image(9), {"caption": ("lake 0",)})


def test_a_file_that_changes_or_vanishes_while_it_is_read_is_an_error(tmp_path):
    path = write_rows(tmp_path / "train.parquet", [{"image": image(0), "caption": "a"}])
    reader = RowImages([path])
    assert reader.read(RowLocation(0, 0), 1000) == image(0)
    with pytest.raises(DataError, match=r"row 0 of train\.parquet has \d+ bytes, more than 10"):
        reader.read(RowLocation(0, 0), 10)
    reader.check_unchanged()
    os.utime(path, ns=(0, 0))
    with pytest.raises(LostSourceError, match="was changed while it was read"):
        reader.check_unchanged()
    path.unlink()
    with pytest.raises(LostSourceError, match="cannot be read: No such file"):
        RowImages([path]).read(RowLocation(0, 0), 1000)


def test_a_large_row_group_is_read_in_little_memory(tmp_path):
    noise = np.random.default_rng(0)
    rows = [{"image": noise.bytes(20_000), "caption": "a"} for _ in range(2000)]
    path = write_rows(tmp_path / "train.parquet", rows, row_group_size=2000, write_batch_size=16, use_dictionary=False)
    reader, before, most = RowReader(path, "train.parquet"), pa.total_allocated_bytes(), 0
    for row in range(0, 2000, 3):
        assert reader.image(row) == rows[row]["image"]
        most = max(most, pa.total_allocated_bytes() - before)
    reader.close()
    assert path.stat().st_size > 40e6
    assert most < 8e6
