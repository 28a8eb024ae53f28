"""An index can be verified, and exported for other tools."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from dove_core.config import EmbedConfig, VerifyConfig
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.index.parts import read_vectors
from dove_core.index.verify import verify_index
from tests.cli.test_commands import dove
from tests.conftest import ALONE


@pytest.fixture(scope="module")
def index(trained, shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "shapes"
    return embed(trained / "best", shapes, folder, EmbedConfig(layout="clip-retrieval"), ALONE)


@pytest.fixture
def copied(index, shapes, tmp_path):
    folder = shutil.copytree(index.folder, tmp_path / "shapes")
    manifest = json.loads((folder / "index.json").read_text())
    paths = {"checkpoint": str(index.checkpoint), "shards": str(shapes)}
    (folder / "index.json").write_text(json.dumps({**manifest, **paths}))
    return folder


def test_a_correct_index_has_no_faults(index):
    assert verify_index(index.folder, ALONE, VerifyConfig(sample=20)) == (20, [])
    assert verify_index(index.folder, ALONE, VerifyConfig(sample=1000)) == (72, [])
    assert verify_index(index.folder, dataclasses.replace(ALONE, amp=True), VerifyConfig(sample=5))[1] == []


def test_vectors_that_differ_from_the_parts_are_found(copied):
    vectors = np.load(copied / "vectors.npy", mmap_mode="r+")
    vectors[[3, 4]] = vectors[[4, 3]]
    vectors.flush()
    count, faults = verify_index(copied, ALONE, VerifyConfig(sample=100))
    assert count == 72
    assert [fault.row for fault in faults] == [3, 4]
    assert "differs from the part" in faults[0].reason


def test_the_seed_chooses_the_rows(copied):
    vectors = np.load(copied / "vectors.npy", mmap_mode="r+")
    vectors[:] = np.roll(vectors, 1, axis=0)
    vectors.flush()
    chosen = [
        [fault.row for fault in verify_index(copied, ALONE, VerifyConfig(sample=6, seed=seed))[1]] for seed in (0, 0, 1)
    ]
    assert len(chosen[0]) == 6
    assert chosen[0] == chosen[1] != chosen[2]


def test_replaced_and_missing_images_are_found(copied, shapes, tmp_path):
    moved = shutil.copytree(shapes, tmp_path / "moved")
    manifest = json.loads((copied / "index.json").read_text())
    (copied / "index.json").write_text(json.dumps({**manifest, "shards": str(moved)}))
    rows = SearchIndex(copied).rows(range(72))
    other = next(k for k, row in enumerate(rows) if row.caption != rows[0].caption and row.shard == rows[0].shard)
    tar = moved / rows[0].shard
    content = bytearray(tar.read_bytes())
    taken = content[rows[other].offset : rows[other].offset + rows[0].size]
    content[rows[0].offset : rows[0].offset + len(taken)] = taken
    tar.write_bytes(bytes(content))
    (moved / rows[-1].shard).unlink()
    faults = verify_index(copied, ALONE, VerifyConfig(sample=100))[1]
    assert faults[0].row == 0
    assert "cosine" in faults[0].reason or "decoded" in faults[0].reason
    assert {row.key for row in rows if row.shard == rows[-1].shard} == {fault.key for fault in faults[1:]}
    code, out, err = dove("index", "verify", str(copied), "--device", "cpu", "--sample", "72", "--json")
    assert code == 6
    assert json.loads(out)["faults"]
    assert "checked rows of" in err


def test_the_command_reports_an_index_without_faults(index):
    code, out, err = dove("index", "verify", str(index.folder), "--device", "cpu")
    assert (code, out) == (0, "")
    assert "64 rows checked, drawn at random, no faults found" in err


def test_the_layout_of_clip_retrieval_has_vectors_and_metadata_side_by_side(index):
    for part, count in enumerate(index.manifest.counts):
        vectors = np.load(index.folder / "img_emb" / f"img_emb_{part:04d}.npy")
        metadata = pq.read_table(index.folder / "metadata" / f"metadata_{part:04d}.parquet")
        assert len(vectors) == len(metadata) == count
        assert np.array_equal(vectors, read_vectors(index.folder / f"part-{part:05d}.parquet"))
        assert {"image_path", "caption", "key"} <= set(metadata.column_names)
