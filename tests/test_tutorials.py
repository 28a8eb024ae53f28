"""Tutorials are followed word by word, with small stand-ins for what must be downloaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from tests.cli.test_commands import dove
from tests.clip_models import make_clip
from tests.test_docs import PAGES, commands_in

GEOTIFFS = "docs/tutorials/geotiffs.md"


def write_scene(path: Path, west: float, north: float) -> None:
    """Write a scene of 768 x 768 pixels with four bands of 16 bits, 10 m a pixel at this place, and a time."""
    values = np.random.default_rng(0).integers(300, 3000, (4, 768, 768), dtype=np.uint16)
    path.parent.mkdir(exist_ok=True)
    side = 10 / 111_000
    with rasterio.open(
        path, "w", driver="GTiff", width=768, height=768, count=4, dtype="uint16", crs="EPSG:4326",
        transform=from_origin(west, north, side, side),
    ) as target:  # fmt: skip
        target.write(values)
        target.update_tags(TIFFTAG_DATETIME="2019:07:03 10:20:31")


@pytest.mark.slow
def test_geotiffs_are_searched_as_the_tutorial_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "scenes/north.tif", 8.5, 47.0)
    write_scene(tmp_path / "scenes/south.tif", 8.5, 46.5)
    Image.new("RGB", (64, 64), "green").save("example.png")
    code, _, err = dove("embed", "scenes/", "--tile", "256")
    assert code == 5
    [shown] = re.findall(r"\$ dove embed scenes/ --tile 256\n(error: .*\nhint: .*\n)", PAGES[GEOTIFFS])
    assert err == shown
    make_clip(tmp_path / "models/remoteclip-vit-b32")
    followed = [
        words for words in commands_in(PAGES[GEOTIFFS]) if words[0] != "fetch" and ".SAFE" not in " ".join(words)
    ]
    assert len(followed) >= 10
    for words in followed:
        code, _, err = dove(*words)
        assert code == 0, f"{' '.join(words)}\n{err}"
        assert "no hits" not in err, words
    assert {path.name for path in Path("index").iterdir()} == {"scenes", "scenes-128", "scenes-rgb"}
    features = json.loads(Path("fields.geojson").read_text())["features"]
    assert len(features) == 2 * 3 * 3
    named = re.findall(r"with the properties (.+?) \(the scene", PAGES[GEOTIFFS])[0]
    assert set(re.findall(r"`(\w+)`", named)) == set(features[0]["properties"])
    assert features[0]["properties"]["time"] == "2019-07-03T10:20"
    assert Path("fields.png").exists() and Path("solar.html").exists() and Path("fields.parquet").exists()
