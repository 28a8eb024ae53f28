"""The whole way in a bucket, through the command line, against an S3 server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core.buckets import Bucket, file_system
from dove_core.config import CacheConfig, ComputeConfig, VerifyConfig
from dove_core.index.verify import verify_index
from tests.cli.test_commands import SMALL_OPTIONS, dove
from tests.data.mirror import archive
from tests.made import make_karpathy
from tests.s3_server import BUCKET, s3_environment, s3_serving

pytest.importorskip("s3fs")
pytest.importorskip("moto")
ROOT = f"s3://{BUCKET}"
TABLES = {
    "train": "train_top50pct_filtered_by_CLIP_openai",
    "val": "val_5K_filtered_by_CLIP_openai",
    "test": "test_30K_filtered_by_CLIP_openai",
}
MODEL = ("model.safetensors", "model.json", "vocabulary.json")
ON_CPU = ["--device", "cpu", "--workers", "0"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address, s3_environment(address):
        yield address


def put_release(folder: Path) -> None:
    """Put captions and an archive of images into the bucket, under SkyScript's own names."""
    captions, images = make_karpathy(folder, {"train": 40, "val": 10, "test": 10})
    rows: dict[str, list[str]] = {split: ["filepath,title,title_multi_objects"] for split in TABLES}
    for one in json.loads(captions.read_text())["images"]:
        text = one["sentences"][0]["raw"]
        rows[one["split"]].append(f'images2/{one["filename"]},{text},"{text}, by a road"')
    files = file_system(ROOT)
    for split, name in TABLES.items():
        files.pipe_file(f"{BUCKET}/sky/dataframe/SkyScript_{name}.csv", "\n".join([*rows[split], ""]).encode())
    members = {f"images2/{path.name}": path.read_bytes() for path in sorted(images.iterdir())}
    files.pipe_file(f"{BUCKET}/sky/images2.zip", archive(members))


@pytest.mark.slow
def test_the_whole_way_from_a_release_in_a_bucket_to_hits(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOVE_CACHE", str(tmp_path / "cache"))
    put_release(tmp_path / "source")
    done("fetch", "--mirror", f"{ROOT}/sky", "--parts", "2", "--no-meta", "--no-checksum", "--yes", "--out", "data/sky")
    done("shard", "sky", "--out", f"{ROOT}/shards/sky", "--shard-size", "8", "--workers", "1")
    shards, run, index = f"{ROOT}/shards/sky", f"{ROOT}/runs/sky", f"{ROOT}/index/sky"

    out, err = done("train", "--shards", f"{shards}/train", "--run", run, *SMALL_OPTIONS, "--epochs", "1", "--json")
    assert f"choosing best/ on {shards}/val" in err
    assert json.loads(out)["run"] == run
    kept = Bucket(run).facts()
    for name in ("settings.json", "metrics.jsonl", "commands.txt", "curves.png", "last/training.pt"):
        assert name in kept
    assert {f"{folder}/{name}" for folder in ("last", "best") for name in MODEL} <= kept.keys()
    code, _, err = dove("train", "--shards", f"{shards}/train", "--run", run, *SMALL_OPTIONS)
    assert code == 7
    assert f"{run} holds a trained run" in err
    monkeypatch.setenv("DOVE_CACHE", str(tmp_path / "another machine"))
    out, _ = done("train", "--resume", "--run", run, "--epochs", "2", *ON_CPU, "--json")
    assert [row["epoch"] for row in json.loads(out)["history"]] == [2]
    assert Bucket(run).read("metrics.jsonl").count(b"\n") == 2
    assert not [name for name in Bucket(run).facts() if ".old" in name]

    words = ["eval", "--shards", f"{shards}/test", "--checkpoint", f"{run}/best", *ON_CPU, "--json"]
    out, _ = done(*words)
    result = json.loads(out)
    assert (result["shards"], result["checkpoint"], result["seen"]) == (f"{shards}/test", f"{run}/best", "")
    out, err = done(*words)
    assert "stored result" in err
    assert json.loads(out)["metrics"] == result["metrics"]

    done("embed", "--shards", shards, "--checkpoint", f"{run}/best", "--out", index, "--batch-size", "8", *ON_CPU)
    there = Bucket(index).facts()
    assert {"index.json", "rows.arrow", "vectors.npy", "words/model.json", "part-00000.parquet"} <= there.keys()
    made = json.loads(Bucket(index).read("index.json"))
    assert (made["checkpoint"], made["shards"]) == ("../../runs/sky/best", "../../shards/sky")
    assert verify_index(Bucket(index), ComputeConfig(device="cpu", workers=0), VerifyConfig(sample=4)) == (4, [])

    monkeypatch.setenv("DOVE_CACHE", str(tmp_path / "a third machine"))
    ask = ["query", "a red circle on grey ground", "--index", index, "--device", "cpu", "--json"]
    out, _ = done(*ask, "--sheet", "a.png", "--html", "a.html", "--copy-to", "copies")
    hits = [json.loads(line) for line in out.splitlines()]
    assert len(hits) == 10
    assert (tmp_path / "a.png").exists() and (tmp_path / "a.html").exists()
    cached = sorted((tmp_path / "a third machine").rglob("*.tar"))
    assert cached == []  # images are read by range
    copies = sorted(path.name for path in (tmp_path / "copies").iterdir())
    assert len(copies) == 11
    with Bucket(f"{shards}/train", CacheConfig()).local_files(["00000.tar"]) as tar:
        whole = (tar.folder / "00000.tar").read_bytes()
    from_it = [k for k, hit in enumerate(hits) if hit["shard"] == "train/00000.tar"]
    for k in from_it:
        assert (tmp_path / "copies" / copies[k]).read_bytes() in whole
    out, _ = done(*ask, "--rerank", "10")
    assert len(out.splitlines()) == 10


def done(*words: str) -> tuple[str, str]:
    """Run a command that ends well; return what it writes."""
    code, out, err = dove(*words)
    assert code == 0, err
    return out, err
