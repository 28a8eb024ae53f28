import dataclasses
import json
import multiprocessing
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dove_core.config import ShardConfig
from dove_core.data.manifest import ShardManifest, read_manifest
from dove_core.data.sharding.shards import shard_release
from dove_core.errors import DataError, UsageError
from dove_core.events import Advanced, Event, Noted, Saved, Started
from dove_core.places import Folder
from dove_core.processes import Share
from tests.data.releases import LENIENT, SMALL, contents, image, key, make_release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release")


def test_equal_input_gives_equal_bytes(release: Path, tmp_path: Path) -> None:
    shard_release(release, tmp_path / "one" / "sky", SMALL)
    shard_release(release, tmp_path / "two" / "sky", SMALL)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    shard_release(release, tmp_path / "two" / "sky", dataclasses.replace(SMALL, seed=1))
    assert contents(tmp_path / "one") != contents(tmp_path / "two")


def test_a_second_run_keeps_finished_shards_and_reports_the_same(release: Path, tmp_path: Path) -> None:
    events: list[list[Event]] = [[], []]
    before = None
    for reported in events:
        shard_release(release, tmp_path / "out", SMALL, report=reported.append)
        after = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("0*")}
        assert before in (None, after)
        before = after
    train = tmp_path / "out" / "train"
    assert events[0][0] == Started("shard train", 10, "images", done=0)
    assert sum(event.amount for event in events[0] if isinstance(event, Advanced)) == 10
    assert [Path(e.path).name for e in events[0] if isinstance(e, Saved)] == [
        "00000.tar", "00001.tar", "00002.tar", "manifest.json"
    ]  # fmt: skip
    assert events[1] == [Started("shard train", 10, "images", done=10), Saved(str(train / "manifest.json"))]


def test_a_changed_input_or_setting_makes_the_shards_again(release: Path, tmp_path: Path) -> None:
    def shard(config: ShardConfig) -> dict[str, int]:
        shard_release(release, tmp_path / "out", config)
        return {path.name: path.stat().st_ino for path in (tmp_path / "out" / "train").glob("*.tar")}

    first = shard(SMALL)
    assert shard(dataclasses.replace(SMALL, max_bad=0.5)) == first
    with zipfile.ZipFile(release / "images2.zip", "a") as images:
        images.writestr("images2/another.jpg", image(99))
    second = shard(SMALL)
    assert not set(first.values()) & set(second.values())
    larger = shard(dataclasses.replace(SMALL, shard_size=100))
    assert list(larger) == ["00000.tar"], "shards of the larger plan are gone"
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == [
        "00000.done", "00000.parquet", "00000.tar", "manifest.json", "sizes.json"
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["tar", "parquet", "done"])
def test_a_shard_with_a_part_lost_or_cut_is_made_again(release: Path, tmp_path: Path, ending: str) -> None:
    shard_release(release, tmp_path / "out", SMALL)
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "train" / f"00001.{ending}").unlink()
    shard_release(release, tmp_path / "out", SMALL)
    assert contents(tmp_path / "out") == whole
    cut = tmp_path / "out" / "train" / "00002.tar"
    cut.write_bytes(cut.read_bytes()[:-700])
    shard_release(release, tmp_path / "out", SMALL)
    assert contents(tmp_path / "out") == whole


def test_a_manifest_is_read_back_strictly(release: Path, tmp_path: Path) -> None:
    (manifest,) = shard_release(release, tmp_path / "out", SMALL)
    path = tmp_path / "out" / "train" / "manifest.json"
    values = json.loads(path.read_text())
    assert set(values) == {"format", *(field.name for field in dataclasses.fields(ShardManifest))}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({**values, "extra": 1}, "unknown keys: extra"),
        ({k: v for k, v in values.items() if k != "rows"}, "missing keys: rows"),
        ({**values, "format": 2}, "not of format 1"),
        ({**values, "samples": 11}, "not 11 in all"),
        ({**values, "samples": "10"}, "samples that is not of type int"),
        ({**values, "shards": None}, "shards is not a list"),
        ({**values, "shards": [{"name": "00000.tar"}]}, "a shard is not"),
        ({**values, "counts": []}, "counts is not an object"),
    ]
    for broken, words in wrong:
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=words) as caught:
            read_manifest(path.parent)
        assert str(path) in caught.value.message
        assert "dove shard" in caught.value.hint
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"manifest\.json cannot be read: Is a directory$"):
        read_manifest(path.parent)
    path.rmdir()
    manifest.write(Folder(path.parent))
    assert read_manifest(path.parent) == manifest


def test_workers_are_processes_of_their_own_and_change_no_byte(release: Path, tmp_path: Path) -> None:
    seen, others = [], set(multiprocessing.active_children())  # of tests before
    for workers in (1, 2):
        children = []
        config = dataclasses.replace(SMALL, workers=workers)
        shard_release(
            release, tmp_path / str(workers) / "sky", config,
            report=lambda event, children=children: children.append(len({*multiprocessing.active_children()} - others)),
        )  # fmt: skip
        seen.append(max(children))
    assert seen == [0, 2]
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_parts_make_the_same_plan_and_the_last_one_writes_the_manifest(release: Path, tmp_path: Path) -> None:
    shard_release(release, tmp_path / "whole" / "sky", SMALL)
    out, events = tmp_path / "parts" / "sky", list[Event]()
    assert shard_release(release, out, SMALL, share=Share(1, 2), report=events.append) == []
    assert sorted(path.name for path in out.rglob("*.tar")) == ["00001.tar"]
    assert any(isinstance(e, Noted) and "2 of 3 shards are missing: 00000.tar, 00002.tar" in e.message for e in events)
    with pytest.raises(DataError, match="2 of 3 shards are missing"):
        shard_release(release, out, SMALL, share=Share(none=True))
    (manifest,) = shard_release(release, out, SMALL, share=Share(0, 2))
    assert manifest.samples == 10
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    (out / "train" / "manifest.json").unlink()
    shard_release(release, out, SMALL, share=Share(none=True))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    with pytest.raises(UsageError, match="--task-id 2 is not one of --num-tasks 2"):
        Share(2, 2)


def test_retry_failed_reads_only_what_was_missing_or_damaged(release: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole" / "sky", tmp_path / "mended" / "sky"
    shard_release(release, whole, SMALL)
    good = (release / "images2.zip").read_bytes()
    with zipfile.ZipFile(release / "images2.zip", "w") as images:
        for i in range(10):
            if i != 3:  # one is missing, one is no image
                images.writestr(f"images2/{key(i)}.jpg", image(i) if i != 7 else b"<html>busy</html>")
    (broken,) = shard_release(release, out, LENIENT)
    assert broken.counts["missing picture"] == broken.counts["damaged picture"] == 1
    inodes = {path.name: path.stat().st_ino for path in out.rglob("*.tar")}
    (release / "images2.zip").write_bytes(good)
    events = list[Event]()
    (manifest,) = shard_release(release, out, SMALL, retry_failed=True, report=events.append)
    assert (manifest.samples, manifest.rows) == (10, 10)
    started = next(event for event in events if isinstance(event, Started))
    failed_shards = {path.name for path in out.rglob("*.tar") if path.stat().st_ino != inodes[path.name]}
    assert started.done == 10 - sum(4 if name != "00002.tar" else 2 for name in failed_shards)
    assert contents(tmp_path / "mended") == contents(tmp_path / "whole")
    again = list[Event]()
    shard_release(release, out, SMALL, report=again.append)  # a plain run agrees that nothing is left to do
    assert next(event for event in again if isinstance(event, Started)).done == 10


def test_retry_failed_does_not_read_what_was_fine(release: Path, tmp_path: Path) -> None:
    shard_release(release, tmp_path / "out", SMALL)
    with zipfile.ZipFile(release / "images2.zip", "w") as images:
        images.writestr("images2/other.jpg", b"all images are gone")
    (manifest,) = shard_release(release, tmp_path / "out", SMALL, retry_failed=True)
    assert manifest.samples == 10
    events = list[Event]()
    with pytest.raises(DataError, match="no row of"):
        shard_release(release, tmp_path / "other", SMALL, report=events.append)


def test_retry_failed_makes_a_shard_whole_whose_bytes_have_changed(release: Path, tmp_path: Path) -> None:
    good = (release / "images2.zip").read_bytes()
    with zipfile.ZipFile(release / "images2.zip", "w") as images:
        for i in range(9):
            images.writestr(f"images2/{key(i)}.jpg", image(i))
    shard_release(release, tmp_path / "out" / "sky", LENIENT)
    for path in (tmp_path / "out").rglob("*.tar"):
        path.write_bytes(path.read_bytes()[:600] + b"?" + path.read_bytes()[601:])
    (release / "images2.zip").write_bytes(good)
    shard_release(release, tmp_path / "whole" / "sky", SMALL)
    shard_release(release, tmp_path / "out" / "sky", SMALL, retry_failed=True)
    (mended,) = [path for path in (tmp_path / "out").rglob("*.tar") if b"?" not in path.read_bytes()[600:601]]
    assert mended.read_bytes() == (tmp_path / "whole" / "sky" / "train" / mended.name).read_bytes()


@pytest.mark.parametrize("how", ["retry", "finish"])
def test_shards_of_other_settings_are_not_updated(release: Path, tmp_path: Path, how: str) -> None:
    shard_release(release, tmp_path / "out", SMALL)
    before = contents(tmp_path / "out")
    other = dataclasses.replace(SMALL, image_size=4)
    with pytest.raises(DataError, match="3 shards were made with other captions or settings"):
        if how == "retry":
            shard_release(release, tmp_path / "out", other, retry_failed=True)
        else:
            shard_release(release, tmp_path / "out", other, share=Share(none=True))
    assert {name: data for name, data in contents(tmp_path / "out").items() if ".plan" not in name} == before
    events = list[Event]()
    shard_release(release, tmp_path / "out", other, report=events.append)
    assert any(isinstance(event, Noted) and "are made again" in event.message for event in events)


def test_files_that_others_made_are_never_overwritten(release: Path, tmp_path: Path) -> None:
    train = tmp_path / "out" / "train"
    train.mkdir(parents=True)
    for name in ("00000.tar", "00007.tar", "123456.parquet"):
        (train / name).write_bytes(b"somebody's work")
    with pytest.raises(UsageError, match=r"files that dove did not make, such as 00000\.tar") as caught:
        shard_release(release, tmp_path / "out", SMALL)
    assert "--out" in caught.value.hint
    assert all(path.read_bytes() == b"somebody's work" for path in train.iterdir())
    (train / "00000.tar").rename(train / "notes.tar")
    (train / "00007.tar").unlink()
    (train / "123456.parquet").unlink()
    shard_release(release, tmp_path / "out", SMALL)
    (train / "00009.tar").write_bytes(b"somebody's work")
    shard_release(release, tmp_path / "out", SMALL)
    assert (train / "00009.tar").exists() and (train / "notes.tar").exists()


def test_a_zip_that_is_lost_or_changed_while_it_is_read_ends_the_run_and_blames_no_image(
    release: Path, tmp_path: Path
) -> None:
    whole = (release / "images2.zip").read_bytes()

    def overwrite(event: Event) -> None:
        if isinstance(event, Saved) and str(event.path).endswith("00000.tar"):
            (release / "images2.zip").write_bytes(whole[:-1] + b"!")

    with pytest.raises(DataError, match=r"images2\.zip was changed while it was read"):
        shard_release(release, tmp_path / "out", SMALL, report=overwrite)
    assert [path.name for path in (tmp_path / "out").rglob("*.done")] == ["00000.done"]
    (release / "images2.zip").write_bytes(whole)

    def lose(event: Event) -> None:
        if isinstance(event, Started):
            (release / "images2.zip").unlink()

    with pytest.raises(DataError, match=r"images2\.zip cannot be read"):
        shard_release(release, tmp_path / "lost", SMALL, report=lose)
    assert not list((tmp_path / "lost").rglob("*.done"))


def test_a_split_with_too_many_bad_rows_does_not_keep_the_others_back(release: Path, tmp_path: Path) -> None:
    make_release(release, 3, "val")
    make_release(release, 10)
    table = release / "dataframe" / "SkyScript_train_5K.csv"
    table.write_text(table.read_text().replace(key(3), "gone"))
    with pytest.raises(DataError, match="1 of 10 rows for train"):
        shard_release(release, tmp_path / "out", SMALL)
    assert read_manifest(tmp_path / "out" / "val").samples == 3


def test_shards_of_other_zips_are_made_again_and_reported(release: Path, tmp_path: Path) -> None:
    shard_release(release, tmp_path / "out", SMALL)
    with zipfile.ZipFile(release / "images2.zip", "a") as images:
        images.writestr("images2/another.jpg", image(99))
    events = list[Event]()
    shard_release(release, tmp_path / "out", SMALL, report=events.append)
    assert any(isinstance(event, Noted) and "3 shards were made from other zips" in event.message for event in events)
