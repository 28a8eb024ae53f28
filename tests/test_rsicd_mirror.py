"""Real images in SkyScript's own form: a mirror of it made of RSICD, served over HTTP, fetched, sharded, trained on.

Needs RSICD (`RSICD_images.zip`, `dataset_rsicd.json`) in the folder that the variable DOVE_RSICD names.
"""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from dove_core.data.fetching.catalog import SKYSCRIPT
from dove_core.data.manifest import read_manifest
from tests.cli.test_commands import dove
from tests.http_server import Served, serving

PARTS = (2, 3, 4, 5, 6, 7)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("DOVE_RSICD" not in os.environ, reason="DOVE_RSICD does not name RSICD's folder"),
]


def mirror_of(folder: Path) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return every file of such a release by its path, and the number of rows of each split."""
    images = json.loads((folder / "dataset_rsicd.json").read_text())["images"]
    streams = {part: io.BytesIO() for part in PARTS}
    zips = {part: zipfile.ZipFile(stream, "w") for part, stream in streams.items()}
    rows: dict[str, list[list[str]]] = {"train": [], "val": [], "test": []}
    with zipfile.ZipFile(folder / "RSICD_images.zip") as archive_in:
        inside = {Path(name).name: name for name in archive_in.namelist()}
        for number, image in enumerate(images):
            part, name = PARTS[number % len(PARTS)], image["filename"]
            zips[part].writestr(f"images{part}/{name}", archive_in.read(inside[name]))
            split = "test" if image["split"] == "val" and number % 2 else image["split"]
            captions = [sentence["raw"] for sentence in image["sentences"]]
            rows[split].append([f"images{part}/{name}", captions[0], captions[1]])
    for archive in zips.values():
        archive.close()
    files = {f"images{part}.zip": stream.getvalue() for part, stream in streams.items()}
    for file in SKYSCRIPT.files:
        if file.kind == "table" and "openai-top50" in file.captions:
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow(["filepath", "title", "title_multi_objects"])
            writer.writerows(rows[file.split])
            files[file.path] = text.getvalue().encode()
    return files, {split: len(found) for split, found in rows.items()}


def test_rsicd_as_a_mirror_of_skyscript_is_fetched_sharded_and_learned(tmp_path, monkeypatch):
    files, rows = mirror_of(Path(os.environ["DOVE_RSICD"]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        server.files.update({f"sky/{path}": Served(body) for path, body in files.items()})
        words = ["fetch", "--mirror", server.url("sky/"), "--no-checksum", "--no-meta", "--yes"]
        code, _, err = dove(*words)
        assert code == 0, err
        code, _, err = dove(*words, "--split", "test", "--limit", "100", "--out", "some")
        assert code == 0, err
    assert all((tmp_path / "data/skyscript" / path).read_bytes() == body for path, body in files.items())
    code, _, err = dove("shard", "--image-size", "96")
    assert code == 0, err
    for split, count in rows.items():
        assert read_manifest(tmp_path / "shards/skyscript" / split).rows == count
    code, _, err = dove("shard", "--captions", next(map(str, Path("some/dataframe").glob("*test*.csv"))),
                        "--images", "some", "--name", "some", "--max-bad", "0")  # fmt: skip
    assert code == 0, err
    assert read_manifest(tmp_path / "shards/some/test").samples == 100
    small = [
        "--backbone",
        "resnet18",
        "--image-size",
        "64",
        "--weights",
        "none",
        "--embed-dim",
        "128",
        "--region-grid",
        "3",
    ]
    code, out, err = dove(
        "train", *small, "--shards", "shards/skyscript/train", "--objective", "infonce", "--lambda-g", "1",
        "--learning-rate", "1e-3", "--epochs", "1", "--max-steps", "60", "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["steps"] == 60
    losses = [line for line in err.splitlines() if line.startswith("training: ")]
    assert losses, err
