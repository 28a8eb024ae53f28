"""Parquet files with images inside as inputs of `dove embed`, and their images as hits."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dove_core.config import EmbedConfig, QueryConfig, RankConfig
from dove_core.data.reader import Shards
from dove_core.errors import DataError, SearchIndexError, UsageError
from dove_core.events import Noted, Skipped, Started
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.index.verify import verify_index
from dove_core.search.query import Searcher
from tests.conftest import ALONE
from tests.data.parquet_files import RSICD, write_rows

FIVE = EmbedConfig(batch_size=5, part_size=5)


@pytest.fixture(scope="module")
def rows(shapes) -> list[dict[str, Any]]:
    """The test split of the shapes as rows of Parquet."""
    shards = Shards(shapes / "test")
    records = [shards.read(number) for number in range(len(shards))]
    return [
        {
            "filename": f"shapes/{record.sample.key}.jpg",
            "captions": list(record.sample.captions["caption"]),
            "image": {"bytes": record.image, "path": f"{record.sample.key}.jpg"},
        }
        for record in records
    ]


@pytest.fixture
def release(rows, tmp_path) -> Path:
    """Two files: 8 rows in groups of 3, and 4 rows in one group."""
    write_rows(tmp_path / "set" / "data" / "test-00000-of-00002.parquet", rows[:8], RSICD, row_group_size=3)
    write_rows(tmp_path / "set" / "data" / "test-00001-of-00002.parquet", rows[8:], RSICD, compression="zstd")
    return tmp_path / "set"


@pytest.fixture
def made(trained, tmp_path):
    """Embed a source; return its index and the events."""

    def make(source, settings=FIVE, compute=ALONE, out="index"):
        events: list[Any] = []
        return embed(trained / "best", source, tmp_path / out, settings, compute, report=events.append), events

    return make


def images_of(index) -> dict[str, bytes]:
    found = index.rows(range(len(index)))
    return {row.key: data for row, data in zip(found, index.images(found), strict=True)}


def test_images_have_the_vectors_keys_and_captions_of_their_shards(made, release, shapes):
    of_shards, _ = made(shapes / "test", EmbedConfig(batch_size=5), out="shards")
    wanted = {row.key: (row.caption, of_shards.vectors[k]) for k, row in enumerate(of_shards.rows(range(12)))}
    index, events = made(release)
    assert events[:2] == [
        Noted("images from image.bytes, captions from captions, names from filename"),
        Started("embedding", 12, "images", done=0),
    ]
    assert index.manifest.counts == [5, 3, 4]
    found = index.rows(range(12))
    assert {row.key: row.caption for row in found} == {key: caption for key, (caption, _) in wanted.items()}
    for k, row in enumerate(found):
        assert np.allclose(index.vectors[k], wanted[row.key][1], atol=2e-3)
    file = "data/test-00000-of-00002.parquet"
    assert [row.shard for row in found[:8]] == [f"{file}#row={k}" for k in range(8)]
    assert {(row.offset, row.size) for row in found} == {(0, 0)}


def test_hits_read_their_images_again_one_by_one_or_in_one_pass(made, release, rows, trained, shapes):
    index, _ = made(release)
    wanted = {Path(row["filename"]).stem: row["image"]["bytes"] for row in rows}
    assert images_of(index) == wanted
    backwards = index.rows([11, 3, 7, 0, 3])
    assert index.images(backwards) == [wanted[row.key] for row in backwards] == [index.image(row) for row in backwards]
    assert verify_index(index.place, ALONE) == (12, [])
    of_shards, _ = made(shapes / "test", out="shards")
    ask = ("a red circle", QueryConfig(top=5, rerank=8), RankConfig())
    found, expected = (Searcher(one, ALONE).ask(*ask) for one in (index, of_shards))
    assert [hit.row.key for hit in found] == [hit.row.key for hit in expected]


def test_loader_processes_and_parts_give_the_same_rows(made, release):
    one, _ = made(release)
    two, _ = made(release, compute=dataclasses.replace(ALONE, workers=2), out="two")
    assert one.rows(range(12)) == two.rows(range(12))
    assert np.array_equal(one.vectors, two.vectors)
    single, _ = made(release / "data" / "test-00001-of-00002.parquet", out="single")
    assert [row.shard for row in single.rows(range(4))] == [f"test-00001-of-00002.parquet#row={k}" for k in range(4)]
    both, _ = made(sorted((release / "data").iterdir()), out="both")
    assert both.rows([9])[0].shard == "test-00001-of-00002.parquet#row=1"


def test_finished_parts_are_kept_and_those_of_a_changed_file_are_made_again(made, release, tmp_path):
    made(release)
    (tmp_path / "index" / "part-00001.parquet").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "index").glob("part-*")}
    index, events = made(release)
    assert next(event for event in events if isinstance(event, Started)).done == 9
    assert all((tmp_path / "index" / name).stat().st_mtime_ns == time for name, time in times.items())
    os.utime(release / "data" / "test-00001-of-00002.parquet", ns=(1, 1))
    _, events = made(release)
    assert next(event for event in events if isinstance(event, Started)).done == 8
    assert len(index) == 12


def test_unusable_rows_and_files_are_left_out_and_counted(made, release, rows, tmp_path):
    data = [rows[0]["image"]["bytes"], None, b"<html>", rows[1]["image"]["bytes"]]
    write_rows(
        release / "odd" / "a.parquet", [{"image": one, "title": f" a\nshape {k} "} for k, one in enumerate(data)]
    )
    (release / "odd" / "broken.parquet").write_bytes(b"PAR1 and no more")
    write_rows(release / "odd" / "points.parquet", [{"geometry": b"point", "name": "x"}])
    index, events = made(release)
    skipped = {event.reason: (event.count, event.example) for event in events if isinstance(event, Skipped)}
    assert skipped["no image in the row"] == (1, "odd/a.parquet#row=1")
    assert skipped["image cannot be decoded"][0] == 1
    assert skipped["Parquet file without images"][0] == 2
    assert "broken.parquet cannot be read as Parquet" in skipped["Parquet file without images"][1]
    assert len(index) == 14
    assert [(row.key, row.caption) for row in index.rows([12, 13])] == [
        ("odd-a_000000", "a shape 0"), ("odd-a_000003", "a shape 3")
    ]  # fmt: skip


def test_a_damaged_row_group_loses_its_rows_alone(made, rows, tmp_path):
    noise = np.random.default_rng(0)
    more = [{**row, "image": {"bytes": row["image"]["bytes"] + noise.bytes(3000)}} for row in rows]
    path = write_rows(tmp_path / "a.parquet", more, row_group_size=3, use_dictionary=False)
    data = path.read_bytes()
    start = data.index(more[4]["image"]["bytes"][-3000:])
    path.write_bytes(data[: start - 4000] + b"\xff" * 6000 + data[start + 2000 :])
    index, events = made(path)
    (skipped,) = (event for event in events if isinstance(event, Skipped))
    assert (skipped.reason, skipped.count) == ("damaged Parquet file", 3)
    assert "a.parquet: row group 1 is damaged before row 3" in skipped.example
    assert len(index) == 9


def test_captions_of_the_field_of_the_model_come_first(made, rows, tmp_path):
    plain = [{"image": row["image"], "a": "of a", "caption_x": "of x", "title": "of title"} for row in rows[:2]]
    index, _ = made(write_rows(tmp_path / "a.parquet", plain))
    assert {row.caption for row in index.rows(range(2))} == {"of a"}
    plain = [{"image": row["image"], "a": "of a", "title_multi_objects": "of title"} for row in rows[:2]]
    index, _ = made(write_rows(tmp_path / "b.parquet", plain), out="b")
    assert {row.caption for row in index.rows(range(2))} == {"of title"}
    index, _ = made(
        write_rows(tmp_path / "c.parquet", [{"image": row["image"], "label": 1} for row in rows[:2]]), out="c"
    )
    assert {row.caption for row in index.rows(range(2))} == {None}


def test_an_image_that_is_gone_is_an_error_that_says_what_helps(made, release, rows):
    index, _ = made(release)
    row, path = index.rows([10])[0], release / "data" / "test-00001-of-00002.parquet"
    kept = path.read_bytes()
    write_rows(path, rows[:2], RSICD)
    with pytest.raises(SearchIndexError, match="has no row 2"):
        index.image(row)
    write_rows(path, [{**one, "image": None} for one in rows[8:]], RSICD)
    with pytest.raises(SearchIndexError, match="has no image in row 2 any more") as caught:
        index.images([row, row])
    assert "--shards" in caught.value.hint
    path.write_bytes(kept[:-10])
    with pytest.raises(SearchIndexError, match="cannot be read as Parquet"):
        index.image(row)
    path.unlink()
    with pytest.raises(SearchIndexError, match="cannot be read: No such file"):
        index.image(row)
    shutil.copytree(release, release.parent / "moved")
    (release.parent / "moved" / path.relative_to(release)).write_bytes(kept)
    moved = SearchIndex(index.place, shards=release.parent / "moved")
    assert moved.image(row) == rows[10]["image"]["bytes"]


@pytest.mark.parametrize("names", [("a.tif", "b.parquet"), ("a.parquet", "b.jpg")])
def test_a_file_that_cannot_be_embedded_is_an_error_beside_others_too(made, rows, tmp_path, names):
    for name in names:
        write_rows(tmp_path / name, rows[:1], RSICD)
    with pytest.raises(UsageError, match=r"choose a tile size|not a valid input|is a Parquet file"):
        made([tmp_path / name for name in names])


def test_a_folder_with_image_files_too_is_an_error_but_other_tables_do_not_count(made, release, rows):
    (release / "photo.jpg").write_bytes(rows[0]["image"]["bytes"])
    with pytest.raises(UsageError, match="both image files and Parquet files with images") as caught:
        made(release)
    assert "test-00000-of-00002.parquet" in caught.value.hint
    shutil.rmtree(release / "data")
    write_rows(release / "metadata.parquet", [{"file_name": "photo.jpg", "text": "a photo"}])
    index, _ = made(release)
    assert [row.key for row in index.rows([0])] == ["photo.jpg"]


def test_parquet_without_images_is_an_error(made, tmp_path):
    write_rows(tmp_path / "tables" / "a.parquet", [{"text": "a"}], pa.schema([("text", pa.string())]))
    with pytest.raises(DataError, match=r"a\.parquet has no column of images; columns: text \(string\)"):
        made(tmp_path / "tables")
    with pytest.raises(UsageError, match="not a GeoTIFF"):
        made(tmp_path / "tables" / "a.parquet", EmbedConfig(tile=32))
