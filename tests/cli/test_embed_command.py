"""`dove embed` as a user runs it: every kind of input, several tasks, errors."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from tests.cli.test_commands import dove
from tests.data.parquet_files import write_rows
from tests.made import COLOURS, draw_shape

ON_CPU = ("--device", "cpu", "--workers", "0")


@pytest.fixture
def home(trained, shapes, tmp_path, monkeypatch):
    """A working folder with a run, shards, a folder of images, and a scene."""
    shutil.copytree(trained, tmp_path / "runs" / "first")
    shutil.copytree(shapes, tmp_path / "shards" / "shapes")
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for k in range(8):
        draw_shape(COLOURS[k % 6], "circle", shift=k // 6).save(tmp_path / "photos" / "deep" / f"{k}.jpg")
    values = np.random.default_rng(0).integers(1, 255, (3, 64, 64)).astype(np.uint8)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", count=3, height=64, width=64, dtype="uint8", crs="EPSG:32633",
        transform=from_origin(5e5, 5e6, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(values)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_becomes_an_index_of_its_name_and_its_images_are_found(home):
    (home / "photos" / "broken.jpg").write_bytes(b"no image")
    code, out, err = dove("embed", "photos", *ON_CPU, "--json")
    assert code == 0, err
    assert json.loads(out)["index"] == "index/photos"
    assert json.loads(out)["pictures"] == 8
    assert "embedding: left out 1 (image cannot be decoded), such as broken.jpg: " in err
    assert err.count("broken.jpg") == 1
    code, out, err = dove("query", "a red circle", "--top", "3", "--json", "--sheet", "a.png", "--device", "cpu")
    assert code == 0, err
    assert {Path(json.loads(line)["key"]).parent for line in out.splitlines()} == {Path("deep")}


def test_a_geotiff_is_cut_into_tiles_with_footprints(home):
    code, _, err = dove("embed", "scene.tif", "--tile", "32", "--stride", "16", *ON_CPU)
    assert code == 0, err
    assert "embedding: 9 images" in err
    code, out, err = dove("query", "a red circle", "--index", "scene", "--top", "1", "--json", "--device", "cpu")
    assert code == 0, err
    hit = json.loads(out)
    west, south, east, north = hit["box"]
    assert 15 - 1e-9 <= west < east < 15.01
    assert 45.14 < south < north < 45.16
    assert hit["shard"].startswith("scene.tif#window=")


def test_tasks_share_the_work_and_finish_makes_the_index(home, monkeypatch):
    words = ("embed", "photos", "--part-size", "3", "--out", "shared", *ON_CPU)
    code, out, err = dove(*words, "--task-id", "1", "--num-tasks", "2", "--json")
    assert (code, out) == (0, ""), err
    assert "2 of 3 parts are missing: part-00000.parquet, part-00002.parquet" in err
    code, _, err = dove(*words, "--finish")
    assert code == 4
    assert "2 of 3 parts" in err
    for name, value in {"ID": "4", "MIN": "4", "COUNT": "2"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    code, _, err = dove(*words)
    assert code == 0, err
    assert "SLURM array: task 0 of 2" in err
    assert "saved index/shared" in err
    (home / "index" / "shared" / "index.json").unlink()
    assert dove(*words, "--finish")[0] == 0
    assert (home / "index" / "shared" / "index.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["photos", "--shards", "shards/shapes"], 2, "both SOURCE and --shards"),
        (["--shards", "photos"], 4, "photos holds no shards"),
        (["nowhere"], 4, "nowhere does not exist"),
        (["scene.tif"], 2, "choose a tile size with --tile"),
        (["scene.tif", "--tile", "32", "--stride", "33"], 2, "--stride 33 would leave gaps"),
        (["photos", "--tile", "32"], 4, "has no .tif files"),
        (["photos", "--task-id", "1"], 2, "belong together"),
        (["photos", "--finish", "--num-tasks", "2"], 2, "--finish makes no embedding part"),
        (["photos", "--gpus", "0"], 2, "--gpus 0 is out of range"),
        (["/"], 2, "cannot derive an index name"),
    ],
)
def test_invalid_options_are_errors_and_nothing_is_written(home, words, code, message):
    found, out, err = dove("embed", *words, *ON_CPU)
    assert (found, out) == (code, ""), err
    assert message in err
    assert "hint: " in err
    assert not list(home.glob("index/*/part-*"))


def test_embed_uses_the_only_test_split_by_default(home):
    code, _, err = dove("embed", *ON_CPU)
    assert code == 0, err
    assert "using shards/shapes/test" in err
    assert "saved index/first" in err
    code, out, _ = dove("query", "a red circle", "--json", "--top", "1", "--sheet", "a.png", "--device", "cpu")
    assert code == 0
    assert Image.open(io.BytesIO((home / "a.png").read_bytes())).format == "PNG"
    assert json.loads(out)["shard"].endswith(".tar")


def test_a_parquet_file_becomes_an_index_of_its_name_and_a_sheet_shows_its_images(home):
    rows = [{"image": (home / f"photos/deep/{k}.jpg").read_bytes(), "caption": f"circle {k}"} for k in range(8)]
    write_rows(home / "circles.parquet", rows)
    code, out, err = dove("embed", "circles.parquet", *ON_CPU, "--json")
    assert code == 0, err
    assert json.loads(out)["index"] == "index/circles"
    words = ["--index", "circles", "--top", "3", "--rerank", "6", "--sheet", "a.png", "--copy-to", "hits"]
    code, out, err = dove("query", "a red circle", *words, "--device", "cpu", "--json")
    assert code == 0, err
    hits = [json.loads(line) for line in out.splitlines()]
    assert all(hit["shard"].startswith("circles.parquet#row=") for hit in hits)
    assert (home / "a.png").exists()
    copied = {path.read_bytes() for path in (home / "hits").glob("*.jpg")}
    assert len(copied) == 3
    assert copied <= {row["image"] for row in rows}
