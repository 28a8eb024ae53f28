"""Records are those that were sharded, in the order of the plan, with any number of workers."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
from pathlib import Path

import pytest

from dove_core.config import ShardConfig
from dove_core.data.batch_plan import SequentialPlan, TrainingPlan
from dove_core.data.loader import load, open_webdataset
from dove_core.data.reader import Record, Shards, split_folders
from dove_core.data.sharding.shards import shard_captions
from dove_core.errors import DataError
from dove_core.places import Folder
from tests.made import draw_shape, make_karpathy


def name_all(records: list[Record], epoch: int) -> tuple[int, int, list[str]]:
    return os.getpid(), epoch, [record.sample.key for record in records]


def fail_on_seven(records: list[Record], epoch: int) -> int:
    if any(record.number == 7 for record in records):
        raise DataError("number seven", hint="leave it")
    return len(records)


def test_records_hold_the_image_and_captions_that_were_sharded(shapes):
    shards = Shards(shapes / "train")
    source = shapes.parents[1] / "source" / "images"
    assert len(shards) == 48
    for number in range(48):
        record = shards.read(number)
        assert record.image == (source / record.sample.path).read_bytes()
        assert len(record.sample.captions["caption"]) == 2
    assert len({shards.read(number).sample.key for number in range(48)}) == 48


def test_captions_and_columns_come_from_the_sidecars_in_the_same_order(shapes):
    shards = Shards(shapes / "train")
    assert [list(shards.read(n).sample.captions["caption"]) for n in range(48)] == list(shards.captions("caption"))
    assert [shards.read(n).sample.key for n in range(48)] == list(shards.column("key"))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_who_reads_but_not_what_comes_in_which_order(shapes, workers):
    plan = TrainingPlan((10, 10, 10, 10, 8), 4, 2, 3)
    found = list(load(Shards(shapes / "train"), plan, name_all, workers=workers))
    expected = list(load(Shards(shapes / "train"), plan, name_all))
    assert [batch[1:] for batch in found] == [batch[1:] for batch in expected]
    assert len({batch[0] for batch in found}) == max(1, workers)
    assert (os.getpid() in {batch[0] for batch in found}) == (workers == 0)


def test_ranks_and_workers_together_see_every_sample_once(shapes):
    shards = Shards(shapes / "train")
    keys = [
        key
        for rank in range(2)
        for _, _, names in load(shards, TrainingPlan(shards.counts, 5, 1, 0, rank, 2), name_all, workers=2)
        for key in names
    ]
    assert sorted(keys) == sorted(shards.column("key"))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_keeps_its_hint(shapes, workers):
    with pytest.raises(DataError, match="number seven") as caught:
        list(load(Shards(shapes / "train"), SequentialPlan(0, 20, 2), fail_on_seven, workers=workers))
    assert caught.value.hint == "leave it"


def test_shards_travel_between_processes(shapes):
    shards = Shards(shapes / "train")
    shards.read(0)
    assert pickle.loads(pickle.dumps(shards)).read(5).sample == shards.read(5).sample


def test_a_caption_field_is_chosen_or_the_only_one_taken(shapes):
    assert Shards(shapes / "train").choose_field("title_multi_objects") == "caption"


def test_a_damaged_place_in_a_tar_is_named(shapes, tmp_path):
    broken = shutil.copytree(shapes / "val", tmp_path / "val")
    tar = broken / "00000.tar"
    data = bytearray(tar.read_bytes())
    record = Shards(broken).read(3)
    tar.write_bytes(data[: record.offset + 100])
    with pytest.raises(DataError, match=rf"00000\.tar at byte {record.offset}"):
        Shards(broken).read(3)
    Shards(broken).read(0)


def test_a_sidecar_that_does_not_fit_or_is_gone_is_named(shapes, tmp_path):
    broken = shutil.copytree(shapes / "train", tmp_path / "train")
    shutil.copy(broken / "00004.parquet", broken / "00000.parquet")
    with pytest.raises(DataError, match=r"00000\.tar has 8 samples in its sidecar and 10 in the manifest"):
        Shards(broken)
    (broken / "00000.parquet").unlink()
    with pytest.raises(DataError, match=r"00000\.parquet cannot be read"):
        Shards(broken)


def test_a_release_folder_stands_for_its_splits(shapes, tmp_path):
    assert [folder.name for folder in split_folders(Folder(shapes))] == ["test", "train", "val"]
    assert split_folders(Folder(shapes / "val")) == [Folder(shapes / "val")]
    with pytest.raises(DataError, match="holds no shards"):
        split_folders(Folder(tmp_path))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_the_real_webdataset_reads_the_same_samples(shapes):
    found = {item["__key__"]: item["json"] for item in open_webdataset(shapes / "train").decode()}
    gc.collect()
    shards = Shards(shapes / "train")
    assert found.keys() == set(shards.column("key"))
    record = shards.read(0)
    assert found[record.sample.key]["captions"] == {"caption": list(record.sample.captions["caption"])}


class Session:
    """Leaves a file where it is destroyed; a session of onnxruntime would hang there."""

    def __init__(self, folder):
        self.folder, self.itself = folder, self

    def __del__(self):
        (self.folder / f"destroyed-{os.getpid()}").touch()


def collect_garbage(records, epoch):
    gc.collect()
    return len(records)


def test_a_worker_does_not_destroy_what_it_inherited(shapes, tmp_path):
    gc.disable()
    try:
        Session(tmp_path)
        assert sum(load(Shards(shapes / "train"), SequentialPlan(0, 20, 5), collect_garbage, workers=2)) == 20
        assert list(tmp_path.iterdir()) == []
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / f"destroyed-{os.getpid()}").exists()


def test_any_number_of_tars_can_be_read_with_few_of_them_open(tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 48})
    shard_captions(captions, images, tmp_path / "shards", ShardConfig(shard_size=1, workers=1))
    shards = Shards(tmp_path / "shards" / "train")
    keys = {shards.read(number % 48).sample.key for number in range(100)}
    assert len(keys) == len(shards.names) == 48
    folder = os.path.realpath(str(shards.folder))
    there = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    tars = [path for path in there if path.startswith(folder) and path.endswith(".tar")]
    assert 0 < len(tars) <= 32


def test_samples_without_a_caption_in_the_field_are_passed_over(tmp_path):
    (tmp_path / "images").mkdir()
    rows = ["filepath,title,title_multi_objects"]
    for k in range(6):
        draw_shape("red", "circle", shift=k).save(tmp_path / "images" / f"{k}.jpg")
        rows.append(f"{k}.jpg,red circle {k},{'' if k % 3 == 0 else f'many {k}'}")
    (tmp_path / "train.csv").write_text("\n".join(rows))
    shard_captions(
        tmp_path / "train.csv", tmp_path / "images", tmp_path / "shards", ShardConfig(shard_size=2, workers=1)
    )
    whole = Shards(tmp_path / "shards" / "train")
    kept = whole.with_captions("title_multi_objects")
    assert (len(whole), len(kept)) == (6, 4)
    assert whole.with_captions("title") is whole
    found = {kept.read(number).sample.path for number in range(4)}
    assert found == {"1.jpg", "2.jpg", "4.jpg", "5.jpg"}
    assert sum(kept.counts) == 4
    with pytest.raises(DataError, match="has a caption 'none'"):
        whole.with_captions("none")
