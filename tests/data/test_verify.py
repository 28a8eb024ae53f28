"""Verification names each file that is not as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from dove_core.data.sharding.shards import shard_release
from dove_core.data.sharding.verify_shards import verify_shards
from dove_core.errors import DataError
from tests.data.releases import SMALL, make_release


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    make_release(tmp_path / "release", 3, "val")
    make_release(tmp_path / "release", 10)
    shard_release(tmp_path / "release", tmp_path / "sky", SMALL)
    return tmp_path / "sky"


def faults(shards: Path) -> dict[str, str]:
    return {str(Path(fault.file).relative_to(shards)): fault.reason for fault in verify_shards(shards, SMALL)}


def test_whole_shards_have_no_fault(shards):
    assert faults(shards) == {}
    assert verify_shards(shards / "train", SMALL) == []


def test_a_flipped_bit_is_named_wherever_it_is(shards):
    size = (shards / "train" / "00001.tar").stat().st_size
    for name, at in (("00001.tar", 700), ("00001.tar", size - 1), ("00000.parquet", 100)):
        path = shards / "train" / name
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
        assert list(faults(shards)) == [f"train/{name}"]
        assert "bytes have changed" in faults(shards)[f"train/{name}"]
        data[at] ^= 1
        path.write_bytes(data)
    assert faults(shards) == {}


def test_missing_and_foreign_files_are_named(shards):
    (shards / "train" / "00002.tar").unlink()
    (shards / "train" / "00001.parquet").unlink()
    (shards / "val" / "00000.done").unlink()
    (shards / "train" / "00007.tar").write_bytes(b"left over")
    (shards / "train" / "notes.txt").write_text("mine")
    (shards / "train" / "old").mkdir()
    (shards / "junk.txt").write_text("?")
    (shards / "unfinished").mkdir()
    (shards / "train" / "sizes.json").write_text("{}")
    found = faults(shards)
    assert {name for name, reason in found.items() if reason == "it is missing"} == {
        "train/00002.tar", "train/00001.parquet"
    }  # fmt: skip
    assert "does not exist" in found["val/00000.done"]
    assert found["train/00007.tar"] == "its shard is not in the manifest"
    assert found["train/notes.txt"] == "it does not belong to the split"
    assert found["train/old"] == "it is a folder that does not belong to the split"
    assert "does not belong to a release" in found["junk.txt"]
    assert "no manifest.json" in found["unfinished"]
    assert "does not agree with the manifest" in found["train/sizes.json"]
    assert len(found) == 9


def test_counts_that_do_not_agree_are_named(shards):
    marker = shards / "train" / "00000.done"
    whole = marker.read_text()
    marker.write_text(whole.replace('"ok": 4', '"oj": 4'))
    assert "counts do not agree" in faults(shards)["train/00000.done"]
    marker.write_text(whole)
    manifest = shards / "train" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": 10', '"rows": 11'))
    assert list(faults(shards)) == ["train/manifest.json"]


def test_a_marker_of_another_run_is_named(shards, tmp_path):
    other = make_release(tmp_path / "other", 12)
    shard_release(other, tmp_path / "other_shards", SMALL)
    (shards / "train" / "00000.done").write_bytes((tmp_path / "other_shards" / "train" / "00000.done").read_bytes())
    assert "does not belong" in faults(shards)["train/00000.done"]


def test_without_a_manifest_there_is_nothing_to_verify_against(tmp_path):
    with pytest.raises(DataError, match=r"holds no manifest\.json"):
        verify_shards(tmp_path, SMALL)
