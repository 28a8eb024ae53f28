"""A run in a bucket has a complete checkpoint whenever it is killed, and resumes on any machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dove_core import buckets
from dove_core.buckets import Bucket, file_system
from dove_core.config import CacheConfig, TrainConfig
from dove_core.encoding.checkpoint import settled_place
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError, DownloadError, TrainingError
from dove_core.training.loop import resume, train
from dove_core.training.run import load_state
from dove_core.training.storage import RunStorage
from tests.conftest import ALONE
from tests.cutting_proxy import linked
from tests.made import SMALL
from tests.s3_server import BUCKET, s3_environment, s3_serving

pytest.importorskip("s3fs")
pytest.importorskip("moto")
NAMES = ("model.safetensors", "vocabulary.json", "training.pt", "model.json")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_serving() as address, s3_environment(address):
        yield address


def write(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).write_text(text)


def test_a_checkpoint_is_replaced_so_that_a_complete_one_is_always_there(server, tmp_path, monkeypatch):
    """Every request that changes the bucket fails once and ends the process; another one resumes."""
    cache = CacheConfig(str(tmp_path / "cache"))
    storage = RunStorage(Bucket(f"s3://{BUCKET}/{tmp_path.name}", cache), cache)
    write(storage.path / "last", "0")
    storage.upload("last")
    changes, dies_at = 0, -1

    def dying(method):
        def request(self, *arguments):
            nonlocal changes
            changes += 1
            if changes == dies_at:
                raise KeyboardInterrupt
            return method(self, *arguments)

        return request

    for name in ("put", "copy", "remove"):
        monkeypatch.setattr(Bucket, name, dying(getattr(Bucket, name)))
    before, finished = "0", 0
    for version in range(1, 20):
        write(storage.path / "last", str(version))
        changes, dies_at = 0, version
        try:
            storage.upload("last")
            finished += 1
        except KeyboardInterrupt:
            pass
        place = settled_place(storage.location / "last")
        found = {place.read(name).decode() for name in ("model.safetensors", "vocabulary.json", "model.json")}
        assert found <= {before, str(version)} and len(found) == 1
        (before,) = found
        elsewhere = RunStorage(storage.location, CacheConfig(str(tmp_path / f"cache{version}")))
        elsewhere.download()
        assert {(elsewhere.path / "last" / name).read_text() for name in NAMES} == {before}
    assert finished > 3
    assert not [name for name in Bucket(str(storage.location)).facts() if ".old/" in name]


@pytest.mark.slow
def test_training_resumes_from_the_bucket_after_the_network_failed(server, shapes, tmp_path, monkeypatch):
    import s3fs

    file_system("s3://").put(f"{shapes / 'train'}/", f"{BUCKET}/train/", recursive=True)
    monkeypatch.setattr(buckets, "_PAUSES", (0.01,))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    training = TrainConfig(weights="none", epochs=2, batch_size=24, learning_rate=1e-3, save_steps=1)
    whole = tmp_path / "whole"
    train(shapes / "train", whole, SMALL, training, ALONE)
    with linked(server) as (address, link):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        s3fs.S3FileSystem.clear_instance_cache()
        cache = CacheConfig(str(tmp_path / "cache"))
        run = Bucket(f"s3://{BUCKET}/{tmp_path.name}/run", cache)

        def report(event: object) -> None:
            if str(getattr(event, "path", "")).endswith("/last") and link.left is None:
                link.left = 0

        with pytest.raises(DownloadError, match="cannot be reached"):
            train(Bucket(f"s3://{BUCKET}/train", cache), run, SMALL, training, ALONE, cache=cache, report=report)
        link.left = None
        with pytest.raises(TrainingError, match=r"run holds a trained run"):
            train(Bucket(f"s3://{BUCKET}/train", cache), run, SMALL, training, ALONE, cache=cache)
        other = CacheConfig(str(tmp_path / "another machine"))
        result = resume(Bucket(run.url, other), ALONE, changes={}, cache=other)
        assert result is not None and result.steps == 4
        storage = RunStorage(Bucket(run.url, other), other)
        assert load_state(storage.path)[0].steps == 4
        assert load_encoder(run / "last").fingerprint == load_encoder(whole / "last").fingerprint
        lines = [json.loads(line) for line in run.read("metrics.jsonl").splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2]
        with pytest.raises(CheckpointError, match="does not exist"):
            resume(run.parent / "another", ALONE, changes={}, cache=cache)
    s3fs.S3FileSystem.clear_instance_cache()
