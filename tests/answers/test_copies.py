"""Copies of the images of hits."""

from __future__ import annotations

import csv
import dataclasses

import pytest
from PIL import Image

from dove_core.answers.copies import copy_images
from dove_core.errors import SearchIndexError, UsageError
from dove_core.search.query import Hit
from tests.answers.test_geo import PARIS, SUVA, all_of, place_index


@pytest.fixture
def index(tmp_path):
    return place_index(tmp_path / "index", [PARIS, SUVA, None, None], ["JPEG", "PNG", "WEBP", "TIFF"])


def test_copies_have_the_bytes_of_the_images_and_the_suffix_of_their_format(index, tmp_path):
    hits = all_of(index)
    paths = copy_images(tmp_path / "new" / "copies", hits, index)
    assert [path.name for path in paths] == ["001_a0.jpg", "002_a1.png", "003_a2.webp", "004_a3.tif"]
    for path, hit in zip(paths, hits, strict=True):
        assert path.read_bytes() == index.image(hit.row)
        with Image.open(path) as image:
            image.load()
    assert {path.name for path in (tmp_path / "new" / "copies").iterdir()} == {*(p.name for p in paths), "hits.csv"}


def test_every_format_that_can_be_embedded_has_a_suffix(tmp_path):
    index = place_index(tmp_path / "index", [None] * 3, ["GIF", "BMP", "JPEG2000"])
    paths = copy_images(tmp_path / "copies", all_of(index), index)
    assert [path.suffix for path in paths] == [".gif", ".bmp", ".jp2"]


def test_the_table_has_the_metadata_of_each_hit(index, tmp_path):
    copy_images(tmp_path / "copies", all_of(index), index)
    with (tmp_path / "copies" / "hits.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["rank", "score", "key", "caption", "file", "lon", "lat", "time", "source"]
    assert [row["file"] for row in rows] == ["001_a0.jpg", "002_a1.png", "003_a2.webp", "004_a3.tif"]
    assert rows[0]["caption"] == "a red <shape>, & more"
    assert (float(rows[1]["lon"]), float(rows[1]["lat"])) == pytest.approx((178.45, -18.15))
    assert (rows[1]["time"], rows[1]["source"]) == ("2020-07-03T10:20", "S2")
    assert [rows[2][name] for name in ("lon", "lat", "time", "source")] == [""] * 4
    assert float(rows[3]["score"]) == pytest.approx(0.46)


def test_the_same_query_again_keeps_existing_copies_and_writes_missing_ones(index, tmp_path):
    paths = copy_images(tmp_path / "copies", all_of(index), index)
    kept = paths[0].stat().st_mtime_ns
    paths[1].unlink()
    assert copy_images(tmp_path / "copies", all_of(index), index) == paths
    assert paths[0].stat().st_mtime_ns == kept
    assert paths[1].read_bytes() == index.image(all_of(index)[1].row)


@pytest.mark.parametrize("name", ["002_a1.png", "hits.csv"])
def test_a_file_with_other_content_is_kept_and_nothing_is_written(index, tmp_path, name):
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / name).write_bytes(b"mine")
    with pytest.raises(UsageError, match=f"{name} exists and has other content") as caught:
        copy_images(tmp_path / "copies", all_of(index), index)
    assert "another folder" in caught.value.hint
    assert [path.name for path in (tmp_path / "copies").iterdir()] == [name]
    assert (tmp_path / "copies" / name).read_bytes() == b"mine"


def test_neither_a_folder_nor_a_dangling_link_is_replaced(index, tmp_path):
    hits = all_of(index)
    (tmp_path / "copies" / "001_a0.jpg").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"001_a0\.jpg exists and has other content"):
        copy_images(tmp_path / "copies", hits, index)
    (tmp_path / "copies" / "001_a0.jpg").rmdir()
    (tmp_path / "copies" / "001_a0.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"001_a0\.jpg exists and has other content"):
        copy_images(tmp_path / "copies", hits, index)
    with pytest.raises(UsageError, match="cannot be written"):
        copy_images(index.folder / "index.json", hits, index)


def test_a_key_with_a_path_in_it_stays_in_the_folder(index, tmp_path):
    row = dataclasses.replace(all_of(index)[0].row, key="../../etc/é x" + "y" * 300)
    (path,) = copy_images(tmp_path / "copies", [Hit(1234, 0.5, row)], index)
    assert path.parent == tmp_path / "copies"
    assert path.name == "1234_.._.._etc___x" + "y" * 187 + ".jpg"


def test_missing_and_changed_images_are_named(index, tmp_path):
    hits = all_of(index)
    tar = index.shards.path / "00000.tar"
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(SearchIndexError, match="does not hold the image a0"):
        copy_images(tmp_path / "copies", hits, index)
    tar.unlink()
    with pytest.raises(SearchIndexError, match="cannot be read"):
        copy_images(tmp_path / "copies", hits, index)
    assert list((tmp_path / "copies").iterdir()) == []
