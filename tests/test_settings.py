"""Every setting has an effect: each is changed once, and the outcome must change."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dove_core import config
from dove_core.bounds import Settings
from dove_core.config import (
    CacheConfig,
    ComputeConfig,
    EmbedConfig,
    EvalConfig,
    ExecutorConfig,
    FetchConfig,
    FilterConfig,
    FineTuneConfig,
    LaunchConfig,
    ModelConfig,
    PushConfig,
    QueryConfig,
    RankConfig,
    ShardConfig,
    TrainConfig,
    VerifyConfig,
    ZeroShotConfig,
)
from dove_core.data.fetching.fetch import fetch
from dove_core.data.manifest import read_manifest
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.compute import decodes_on_gpu, mixed_dtype, worker_count
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.errors import DataError, DownloadError, UsageError
from dove_core.evaluation.encode import encode_split
from dove_core.evaluation.evaluate import evaluate
from dove_core.evaluation.rows import score_rows
from dove_core.events import Advanced, Saved
from dove_core.index.embed import embed
from dove_core.search.query import Searcher
from dove_core.training.loop import train
from tests.conftest import ALONE
from tests.data.mirror import QUICK, Mirror
from tests.http_server import serving
from tests.made import SMALL, draw_shape, make_karpathy
from tests.training.test_clip import TUNING

BASE = TrainConfig(weights="none", epochs=2, batch_size=12, learning_rate=1e-3, grad_clip=5.0)
STEPS = dataclasses.replace(BASE, batch_size=6, max_steps=3)  # stops and saves once in the first epoch
INFONCE = dataclasses.replace(STEPS, objective="infonce")

TRAINING: dict[str, tuple[TrainConfig, Any]] = {
    "weights": (STEPS, "file"),
    "input_scaling": (STEPS, "unit"),
    "epochs": (BASE, 3),
    "batch_size": (STEPS, 8),
    "learning_rate": (STEPS, 2e-3),
    "backbone_rate": (STEPS, 0.1),
    "weight_decay": (STEPS, 0.5),
    "warmup": (STEPS, 0.5),
    "warmup_steps": (STEPS, 3),
    "grad_clip": (STEPS, 0.01),
    "lambda_g": (STEPS, 1.0),
    "objective": (STEPS, "infonce"),
    "margin": (STEPS, 0.4),
    "negatives": (STEPS, "hardest"),
    "temperature": (INFONCE, 0.2),
    "freeze_backbone": (STEPS, True),
    "unfreeze_after": (dataclasses.replace(BASE, freeze_backbone=True), 1),
    "accumulate": (STEPS, 2),
    "average": (STEPS, 0.9),
    "random_rotation": (STEPS, False),
    "crop_scale": (STEPS, 0.3),
    "jitter": (STEPS, 0.3),
    "min_word_count": (STEPS, 10),
    "validate_every": (BASE, 2),
    "save_steps": (BASE, 1),
    "max_steps": (STEPS, 2),
    "seed": (STEPS, 1),
}
SEVERAL_CAPTIONS: dict[str, TrainConfig] = {
    "captions_per_picture": STEPS,
    "paired_captions": dataclasses.replace(STEPS, captions_per_picture=2),
}
MODEL: dict[str, tuple[ModelConfig, Any]] = {
    "backbone": (SMALL, "resnet34"),
    "image_size": (SMALL, 48),
    "embed_dim": (SMALL, 16),
    "heads": (SMALL, 2),
    "word_dim": (SMALL, 8),
    "max_tokens": (SMALL, 3),
    "region_grid": (SMALL, 3),
    "center_box": (SMALL, "center"),
    "center_box_frac": (dataclasses.replace(SMALL, center_box="center"), 0.9),
    "dropout": (SMALL, 0.5),
    "caption_field": (dataclasses.replace(SMALL, caption_field="title"), "title_multi_objects"),
}


@pytest.fixture(scope="module")
def titled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a CSV with two caption fields, 24 training images."""
    folder = tmp_path_factory.mktemp("titled")
    (folder / "images").mkdir()
    rows = ["filepath,title,title_multi_objects"]
    for k in range(24):
        colour, shape = ("red", "green", "blue")[k % 3], ("circle", "square")[k % 2]
        draw_shape(colour, shape, shift=k // 6).save(folder / "images" / f"{k}.jpg")
        rows.append(f'{k}.jpg,{colour} {shape},"{colour} of {shape}, surrounded by landuse of ground {k}"')
    (folder / "titles_train.csv").write_text("\n".join(rows))
    shard_captions(folder / "titles_train.csv", folder / "images", folder / "shards", ShardConfig(workers=1))
    return folder / "shards" / "train"


def trace(shards: Path, run: Path, model: ModelConfig, training: TrainConfig) -> tuple[Any, ...]:
    """Train; return the weights' digest, the metrics without times, and the number of saves."""
    events: list[Any] = []
    train(shards, run, model, training, ALONE, validation=shards, report=events.append)
    weights = hashlib.sha256((run / "last" / "model.safetensors").read_bytes()).hexdigest()
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    seen = [{k: v for k, v in row.items() if k not in ("waiting", "samples_per_second")} for row in rows]
    return weights, seen, sum(isinstance(event, Saved) for event in events)


@pytest.fixture(scope="module")
def traces(titled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Traces of runs with unchanged settings, computed on first use."""
    made: dict[Any, Any] = {}

    def of(model: ModelConfig, training: TrainConfig) -> tuple[Any, ...]:
        if (model, training) not in made:
            made[model, training] = trace(titled, tmp_path_factory.mktemp("base") / "run", model, training)
        return made[model, training]

    return of  # type: ignore[return-value]


@pytest.mark.parametrize("name", TRAINING)
def test_every_training_setting_changes_something(name, titled, traces, tmp_path):
    base, value = TRAINING[name]
    if value == "file":
        import torchvision

        torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "w.pth")
        value = str(tmp_path / "w.pth")
    model = dataclasses.replace(SMALL, caption_field="title")
    changed = trace(titled, tmp_path / "run", model, dataclasses.replace(base, **{name: value}))
    assert changed != traces(model, base)


@pytest.mark.parametrize("name", SEVERAL_CAPTIONS)
def test_every_setting_for_several_captions_changes_something(name, shapes, tmp_path):
    base = SEVERAL_CAPTIONS[name]
    changed = dataclasses.replace(base, **{name: 2})
    one, other = (trace(shapes / "train", tmp_path / str(k), SMALL, own) for k, own in enumerate((base, changed)))
    assert one != other


@pytest.mark.parametrize("name", MODEL)
def test_every_model_setting_changes_something(name, titled, traces, tmp_path):
    base, value = MODEL[name]
    model = base if name == "caption_field" else dataclasses.replace(base, caption_field="title_multi_objects")
    changed = trace(titled, tmp_path / "run", dataclasses.replace(model, **{name: value}), STEPS)
    assert changed != traces(model, STEPS)


def test_equal_settings_give_equal_runs(titled, traces, tmp_path):
    model = dataclasses.replace(SMALL, caption_field="title")
    assert trace(titled, tmp_path / "run", model, BASE) == traces(model, BASE)


SHARDING = {
    "shard_size": 5, "seed": 1, "max_bad": 0.01, "verify": "header", "image_size": 16, "image_format": "webp",
    "quality": 40,
}  # fmt: skip


@pytest.mark.parametrize("name", SHARDING)
def test_every_sharding_setting_changes_something(name, tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"train": 20})
    (images / "train_3.jpg").unlink()
    draw_shape("red", "cross").save(images / "train_5.jpg", "PNG")  # not a JPEG, despite its name
    damaged = bytearray((images / "train_7.jpg").read_bytes())
    damaged[damaged.index(b"\xff\xda") + 6] = 0x33  # both ends are intact, but the scan needs a table that is not there
    (images / "train_7.jpg").write_bytes(damaged)
    base = ShardConfig(max_bad=0.2, workers=1)
    changed = dataclasses.replace(base, **{name: SHARDING[name]})
    shard_captions(captions, images, tmp_path / "a", base)
    if name == "max_bad":
        with pytest.raises(DataError, match="2 of 20"):
            shard_captions(captions, images, tmp_path / "b", changed)
        return
    shard_captions(captions, images, tmp_path / "b", changed)
    assert read_manifest(tmp_path / "a" / "train").shards != read_manifest(tmp_path / "b" / "train").shards


FETCHING = {
    "split": "test", "captions": "laion-top50", "parts": "2", "meta": False, "limit": 5, "checksum": False,
    "connections": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", FETCHING)
def test_every_fetching_setting_changes_something(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        mirror = Mirror(server, padding=3 * 2**20)
        for served in server.files.values():
            served.latency = 0.02
        release = mirror.release({"images2.zip": "0" * 32 if name == "checksum" else None})
        seen = []
        for config in (FetchConfig(), dataclasses.replace(FetchConfig(), **{name: FETCHING[name]})):
            folder = tmp_path / str(len(seen))
            server.asked.clear()
            server.most_at_work = 0
            try:
                fetch(release, folder, config, retry=QUICK)
            except DownloadError as error:
                seen.append(error.message.replace(str(folder), ""))
                continue
            files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
            sizes = {path: (folder / path).stat().st_size for path in files}
            ranges = sorted(asked.headers.get("Range", "") for asked in server.asked)
            # The server may count a request for a moment longer than the client: two are counted with one connection.
            seen.append((sizes, ranges, server.most_at_work > 2))
    assert seen[0] != seen[1]


def test_every_compute_setting_changes_something(trained, shapes, monkeypatch):
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--device cuda"):
            Embedder(load_encoder(trained / "best"), ComputeConfig(device="cuda"))
    assert not decodes_on_gpu(torch.device("cpu"), "auto")
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for cores, local, expected in ((2, 1, (2, 1)), (64, 4, (2, 15)), (64, 1, (2, 16)), (1, 4, (1, 1))):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, cores=cores: set(range(cores)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
        assert (worker_count(-1, cpu), worker_count(-1, gpu)) == expected
        assert worker_count(3, cpu) == worker_count(3, gpu) == 3
    monkeypatch.undo()
    with pytest.raises(UsageError, match="--decode gpu: training runs on the CPU"):
        decodes_on_gpu(torch.device("cpu"), "gpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert mixed_dtype(torch.device("cpu"), True) is torch.bfloat16
    assert mixed_dtype(torch.device("cpu"), False) is None
    assert mixed_dtype(torch.device("cpu"), True, training=True) is None
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    assert mixed_dtype(torch.device("cpu"), True, training=True) is torch.bfloat16
    found = []
    for amp in (True, False):
        embedder = Embedder(load_encoder(trained / "best"), ComputeConfig(device="cpu", amp=amp, workers=0))
        found.append(embedder.describe_texts(["a red circle on grey ground"], exact=True).query.dtype)
    assert found == [torch.bfloat16, torch.float32]
    # workers: tests/data/test_loader.py


def test_every_evaluation_setting_changes_something(trained, shapes):
    embedder = Embedder(load_encoder(trained / "best"), ALONE)
    from dove_core.data.reader import Shards

    split = encode_split(embedder, Shards(shapes / "train"), batch_size=16, exact=True)
    base = score_rows(embedder, split, EvalConfig(), RankConfig())
    assert score_rows(embedder, split, EvalConfig(rerank=2), RankConfig())["reranked"] != base["reranked"]
    assert "reranked" not in score_rows(embedder, split, EvalConfig(rerank=0), RankConfig())
    assert "pairwise" not in score_rows(embedder, split, EvalConfig(pairwise=False), RankConfig())
    assert score_rows(embedder, split, EvalConfig(), RankConfig(rank_by="pair"))["pairwise"] != base["pairwise"]
    assert base["global"].interval is not None
    assert score_rows(embedder, split, EvalConfig(bootstrap=0), RankConfig())["global"].interval is None
    assert split.protocol("auto") == "captions-5"  # two captions an image
    unique = score_rows(embedder, split, EvalConfig(protocol="unique-text"), RankConfig())["global"]
    assert unique.mean_recall > base["global"].mean_recall  # equal captions of other images are hits
    assert list(unique.text_to_image) == [1, 5, 10, 100]
    prefixed = encode_split(embedder, Shards(shapes / "train"), batch_size=16, exact=True, prefix="a red image of ")
    assert not torch.allclose(prefixed.captions.embedding, split.captions.embedding)
    steps = []
    for size in (64, 6):
        events: list[Any] = []
        settings = EvalConfig(batch_size=size, pairwise=False)
        evaluate(trained / "best", shapes / "val", settings, RankConfig(), ALONE, report=events.append)
        steps.append(sum(isinstance(event, Advanced) for event in events))
    assert steps == [1, 2]


def test_every_embedding_and_query_setting_changes_something(trained, shapes, tmp_path):
    steps = []
    for size in (64, 4):
        events: list[Any] = []
        embed(trained / "best", shapes / "val", tmp_path / str(size), EmbedConfig(size), ALONE, report=events.append)
        steps.append(sum(isinstance(event, Advanced) for event in events))
    assert steps == [2, 4]
    assert embed(trained / "best", shapes / "val", tmp_path / "regions", EmbedConfig(regions=True), ALONE).regions
    # gpus: tests/index/test_embed_runs.py
    searcher = Searcher.open(tmp_path / "4", ALONE)
    plain = searcher.ask("a red circle", QueryConfig(), RankConfig())
    assert len(plain) == 10
    assert len(searcher.ask("a red circle", QueryConfig(top=3), RankConfig())) == 3
    assert searcher.ask("a red circle", QueryConfig(rerank=10), RankConfig()) != plain


@pytest.mark.parametrize(
    ("name", "value", "counts"),
    [("tile", 16, [6]), ("stride", 8, [3]), ("part_size", 1, [1, 1]), ("bands", "3,2,1", [2])],
)
def test_every_tile_setting_changes_something(name, value, counts, trained, tmp_path):
    import numpy as np
    import rasterio

    path, values = tmp_path / "a.tif", np.random.default_rng(0).integers(1, 255, (3, 32, 48)).astype(np.uint8)
    where = {"crs": "EPSG:4326", "transform": rasterio.transform.from_origin(10, 50, 0.001, 0.001)}
    with rasterio.open(path, "w", driver="GTiff", count=3, height=32, width=48, dtype="uint8", **where) as dataset:
        dataset.write(values)
    base = EmbedConfig(tile=32)
    plain = embed(trained / "best", path, tmp_path / "plain", base, ALONE)
    changed = embed(trained / "best", path, tmp_path / "changed", dataclasses.replace(base, **{name: value}), ALONE)
    assert (plain.manifest.counts, changed.manifest.counts) == ([2], counts)
    assert name == "part_size" or not np.array_equal(plain.vectors, changed.vectors)


def test_every_setting_is_tested():
    tested = {
        TrainConfig: {*TRAINING, *SEVERAL_CAPTIONS, "max_broken"},  # max_broken, compile: tests/training/test_loop.py
        FineTuneConfig: {*TUNING, "grad_checkpointing"},  # tests/training/test_clip.py
        ModelConfig: set(MODEL),
        FetchConfig: set(FETCHING),
        ShardConfig: {*SHARDING, "workers"},  # workers: tests/data/test_shard_runs.py
        ComputeConfig: {"device", "amp", "decode", "compile", "workers"},
        EvalConfig: {
            "protocol",
            "prefix",
            "bootstrap",
            "rerank",
            "pairwise",
            "batch_size",
            "gpus",
            "caption_field",
        },  # test_encode.py
        CacheConfig: {"cache_folder", "cache_size"},  # tests/test_cache.py
        ExecutorConfig: {"executor", "ray_address"},  # tests/test_executors.py
        LaunchConfig: {"gpus", "restarts"},  # tests/training/test_world.py, test_kills.py
        RankConfig: {"rank_by"},
        ZeroShotConfig: {"label_field", "templates", "class_names"},  # test_zero_shot.py, test_material.py
        EmbedConfig: {
            "batch_size",
            "gpus",
            "regions",
            "tile",
            "stride",
            "part_size",
            "bands",
            "layout",
        },  # test_verify.py
        PushConfig: {"vector_index"},  # tests/index/test_milvus.py
        VerifyConfig: {"sample", "top", "seed"},  # tests/index/test_verify.py, test_milvus.py
        QueryConfig: {"top", "rerank", "exact", "min_score", "dedup"},  # test_question.py, test_nearest.py
        FilterConfig: {"bbox", "near", "within", "datetime", "source", "max_gsd", "tag"},  # test_filters.py
    }
    kinds = {value for value in vars(config).values() if dataclasses.is_dataclass(value)} - {Settings}
    assert kinds == set(tested)
    for kind, names in tested.items():
        assert {field.name for field in dataclasses.fields(kind)} == names
