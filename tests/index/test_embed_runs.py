"""Embedding that is killed, resumed, or shared by processes and machines makes the same bytes."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from dove_core.config import ComputeConfig, EmbedConfig
from dove_core.data.reader import Shards
from dove_core.encoding.compute import limit_to_share, worker_count
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.encoding.preprocess import CenterSquare, normalise
from dove_core.errors import CheckpointError, DataError, SearchIndexError, UsageError
from dove_core.events import Advanced, Noted, Saved, Skipped, Started, silent
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.index.part_plan import PartPlan, PlannedPart
from dove_core.index.parts import PartMark
from dove_core.index.tasks import Job, embed_share
from dove_core.places import Folder
from dove_core.processes import Resources, Share
from dove_core.sources.folder import ImageFolder
from tests.clip_models import RESNET, make_clip
from tests.conftest import ALONE
from tests.made import COLOURS, draw_shape
from tests.sources.test_inputs import encoded, make_tar

SETTINGS = EmbedConfig(batch_size=4, part_size=3, tile=0)
SCRIPT = """
import sys
from pathlib import Path
from dove_core.config import ComputeConfig, EmbedConfig
from dove_core.index.part_plan import PartPlan
from dove_core.index.embed import embed

compute = ComputeConfig(device="cpu", workers=0, amp=False)
print("ready", flush=True)
embed(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), EmbedConfig(batch_size=4, part_size=3), compute)
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 60 images, one of them broken: 20 parts of three."""
    folder = tmp_path_factory.mktemp("photos")
    for k in range(60):
        draw_shape(COLOURS[k % 6], "circle", shift=k // 6).save(folder / f"{k:02d}.jpg")
    (folder / "41.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def whole(trained, photos, tmp_path_factory):
    """The index of the photos, made without interruption."""
    return embed(trained / "best", photos, tmp_path_factory.mktemp("whole"), SETTINGS, ALONE).folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of an index's files, without its manifest, which has paths, and the text side."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "index.json"}


def times(folder: Path) -> dict[str, int]:
    """Return when each part was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}


@pytest.fixture(scope="module", params=["dove", "clip"])
def checkpoint(request, trained, tmp_path_factory):
    """A checkpoint of each family."""
    if request.param == "dove":
        return trained / "best"
    folder = tmp_path_factory.mktemp("clip") / "model"
    make_clip(folder)
    return folder


@pytest.fixture(scope="module")
def whole_of_family(checkpoint, photos, tmp_path_factory):
    """The index of the photos by that checkpoint, made without interruption."""
    return embed(checkpoint, photos, tmp_path_factory.mktemp("whole"), SETTINGS, ALONE).folder


def test_a_killed_run_resumes_and_makes_the_bytes_of_an_uninterrupted_one(
    checkpoint, photos, whole_of_family, tmp_path
):
    out = tmp_path / "index"
    command = [sys.executable, "-c", SCRIPT, str(checkpoint), str(photos), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while len(list(out.glob("part-*.parquet"))) < 3:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = times(out)
    assert 3 <= len(done) < 20
    assert not (out / "index.json").exists()
    (out / f".part-00009.parquet.{'0' * 8}-1-{'0' * 8}.tmp").write_bytes(b"a file of another machine")
    embed(checkpoint, photos, out, SETTINGS, ALONE)
    assert done.items() <= times(out).items(), "finished parts are not touched"
    left = contents(out)
    assert left.pop(f".part-00009.parquet.{'0' * 8}-1-{'0' * 8}.tmp")
    assert left == contents(whole_of_family)


def test_two_processes_of_any_family_make_the_same_bytes_as_one(checkpoint, photos, whole_of_family, tmp_path):
    embed(checkpoint, photos, tmp_path / "index", dataclasses.replace(SETTINGS, gpus=2), ALONE)
    assert contents(tmp_path / "index") == contents(whole_of_family)


def test_several_processes_make_the_same_bytes_and_report_as_one(trained, photos, whole, tmp_path):
    events, children = [], set()

    def report(event):
        events.append(event)
        children.update(process.pid for process in multiprocessing.active_children())

    settings = dataclasses.replace(SETTINGS, gpus=2)
    embed(trained / "best", photos, tmp_path / "index", settings, ALONE, report=report)
    assert contents(tmp_path / "index") == contents(whole)
    assert len(children) == 2
    assert events[0] == Started("embedding", 60, "images", done=0)
    assert sum(event.amount for event in events if isinstance(event, Advanced)) == 60
    assert [event.count for event in events if isinstance(event, Skipped)] == [1]
    assert events[-1] == Saved(str(tmp_path / "index"))


@pytest.mark.slow
def test_several_processes_share_shards(trained, shapes, tmp_path):
    alone = embed(trained / "best", shapes, tmp_path / "one", SETTINGS, ALONE)
    shared = embed(trained / "best", shapes, tmp_path / "two", dataclasses.replace(SETTINGS, gpus=3), ALONE)
    assert contents(alone.folder) == contents(shared.folder)


def test_an_error_in_a_process_is_raised_and_finished_parts_stay(trained, shapes, tmp_path):
    moved = shutil.copytree(shapes / "train", tmp_path / "train")
    (moved / "00003.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"00003\.tar") as caught:
        embed(trained / "best", moved, tmp_path / "index", dataclasses.replace(SETTINGS, gpus=2), ALONE)
    assert "dove shard" in caught.value.hint
    assert "part-00000.parquet" in {path.name for path in (tmp_path / "index").iterdir()}
    assert not (tmp_path / "index" / "index.json").exists()


def test_more_processes_than_gpus_are_an_error_before_any_file_changes(trained, photos, whole, tmp_path, monkeypatch):
    out = shutil.copytree(whole, tmp_path / "index")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--gpus 2: this machine has no GPU"):
            embed(trained / "best", photos, out, EmbedConfig(gpus=2), ComputeConfig(device="auto"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="--gpus 3: this machine has 2") as caught:
        embed(trained / "best", photos, out, EmbedConfig(gpus=3), ComputeConfig(device="cuda"))
    assert caught.value.hint == "use at most --gpus 2"
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    limit_to_share("auto", 1, 2)
    assert taken == [1]
    assert contents(out) == contents(whole)


def test_processes_on_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert [worker_count(-1, gpu, n) for n in (1, 4, 8, 64)] == [16, 15, 7, 1]
    assert [worker_count(-1, cpu, n) for n in (1, 64)] == [2, 1]
    assert worker_count(3, gpu, 8) == 3
    threads = torch.get_num_threads()
    try:
        limit_to_share("cpu", 1, 2)
        assert torch.get_num_threads() == max(1, threads // 2)
    finally:
        torch.set_num_threads(threads)


def test_machines_share_the_parts_and_the_last_one_makes_the_index(trained, photos, whole, tmp_path):
    out = tmp_path / "index"
    with pytest.raises(DataError, match=r"20 of 20 parts are missing: part-00000\.parquet, .* and more"):
        embed(trained / "best", photos, out, SETTINGS, ALONE, share=Share(none=True))
    events = []
    assert embed(trained / "best", photos, out, SETTINGS, ALONE, share=Share(1, 3), report=events.append) is None
    assert events[0] == Started("embedding", 21, "images", done=0)
    (noted,) = [event.message for event in events if isinstance(event, Noted)]
    assert "13 of 20 parts are missing: part-00000.parquet" in noted
    assert "dove embed --finish" in noted
    assert embed(trained / "best", photos, out, SETTINGS, ALONE, share=Share(2, 3)) is None
    with pytest.raises(SearchIndexError, match=r"index\.json does not exist"):
        SearchIndex(out)
    kept = times(out)
    assert len(kept) == 13
    index = embed(trained / "best", photos, out, SETTINGS, ALONE, share=Share(0, 3))
    assert len(index) == 59
    assert contents(out) == contents(whole)
    assert kept.items() <= times(out).items()
    (out / "index.json").unlink()
    (out / "vectors.npy").unlink()
    embed(trained / "best", photos, out, SETTINGS, ALONE, share=Share(none=True))
    assert contents(out) == contents(whole)


def test_finishing_with_missing_parts_leaves_the_index_unchanged(trained, photos, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "index")
    (out / "part-00004.parquet").unlink()
    with pytest.raises(DataError, match=r"1 of 20 parts are missing: part-00020\.parquet"):
        embed(trained / "best", photos, out, SETTINGS, ALONE, share=Share(none=True))
    assert len(SearchIndex(out)) == 59


def test_tasks_share_an_update_and_the_last_one_publishes_it(trained, photos, tmp_path):
    out, moved = tmp_path / "index", shutil.copytree(photos, tmp_path / "photos")
    embed(trained / "best", moved, out, SETTINGS, ALONE)
    for number in (60, 61, 62, 63):  # two parts
        draw_shape(COLOURS[number % 6], "circle", shift=number // 6).save(moved / f"{number}.jpg")
    before = times(out)
    assert embed(trained / "best", moved, out, SETTINGS, ALONE, share=Share(0, 2)) is None
    assert times(out).keys() - before.keys() == {"part-00020.parquet"}
    assert len(SearchIndex(out)) == 59
    assert len(embed(trained / "best", moved, out, SETTINGS, ALONE, share=Share(1, 2))) == 63
    assert before.items() <= times(out).items()


def remade_parts(trained, source, out, settings, *, replace=False) -> list[int]:
    """Embed, and return the numbers of the parts that were made."""
    before = times(out)
    embed(trained / "best", source, out, settings, ALONE, replace=replace)
    after = times(out)
    return [int(name[5:10]) for name in sorted(after) if before.get(name) != after[name]]


def test_a_part_is_made_again_when_its_input_has_changed(trained, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "folder"
    folder.mkdir()
    for k in range(9):
        (folder / f"{k}.jpg").write_bytes(encoded(k))
    assert remade_parts(trained, folder, out, SETTINGS) == [0, 1, 2]
    assert remade_parts(trained, folder, out, SETTINGS) == []
    os.utime(folder / "4.jpg")
    assert remade_parts(trained, folder, out, SETTINGS) == [3, 4], "the other two of its part, and this one"
    (folder / "9.jpg").write_bytes(encoded(9))
    assert remade_parts(trained, folder, out, SETTINGS) == [5]
    (folder / "3.jpg").unlink()
    assert remade_parts(trained, folder, out, SETTINGS) == [6]
    assert {int(name[5:10]) for name in times(out)} == {0, 2, 4, 5, 6}, "parts without rows in the index are removed"
    tars, out = tmp_path / "tars", tmp_path / "tarred"
    for k in range(3):
        make_tar(tars / f"{k}.tar", {f"{k}.jpg": encoded(k)})
    assert remade_parts(trained, tars, out, SETTINGS) == [0, 1, 2]
    os.utime(tars / "1.tar")
    assert remade_parts(trained, tars, out, SETTINGS) == [3]
    assert {int(name[5:10]) for name in times(out)} == {0, 2, 3}


def write_scene(path: Path) -> Path:
    values = np.random.default_rng(1).integers(1, 3000, (4, 64, 96)).astype(np.uint16)
    with rasterio.open(
        path, "w", driver="GTiff", count=4, height=64, width=96, dtype="uint16", crs="EPSG:32633",
        transform=from_origin(5e5, 5e6, 10, 10), compress="deflate",
    ) as dataset:  # fmt: skip
        dataset.write(values)
    return path


def test_loader_processes_do_not_change_the_bytes(trained, tmp_path):
    write_scene(tmp_path / "a.tif")
    make_tar(tmp_path / "a.tar", {f"{k}.jpg": encoded(k) for k in range(12)})
    for name, settings in (("a.tif", EmbedConfig(tile=32, stride=8, batch_size=4)), ("a.tar", SETTINGS)):
        found = []
        for workers in (0, 2):
            compute = dataclasses.replace(ALONE, workers=workers)
            out = tmp_path / f"{name}-{workers}"
            found.append(contents(embed(trained / "best", tmp_path / name, out, settings, compute).folder))
        assert found[0] == found[1]


def test_a_batch_is_queued_before_the_previous_one_is_read(trained, photos, monkeypatch):
    embedder = Embedder(load_encoder(trained / "best"), ALONE)
    queued, encode = list[int](), embedder._encode
    monkeypatch.setattr(embedder, "_encode", lambda pixels: queued.append(len(pixels)) or encode(pixels))
    batches = embedder.embed_samples(ImageFolder(photos, 10, "caption").open(0), batch_size=4)
    assert [(len(batch.vectors), len(queued)) for batch in batches] == [(4, 2), (4, 3), (2, 3)]


def test_batches_for_a_gpu_are_copied_from_pinned_memory(trained, photos, shapes, monkeypatch):
    embedder, pins = Embedder(load_encoder(trained / "best"), ALONE), list[bool]()
    monkeypatch.setattr(
        "dove_core.encoding.embedder.load", lambda *_, pin_memory, **__: pins.append(pin_memory) or iter(())
    )
    for kind in ("cpu", "cuda"):
        embedder.device = torch.device(kind)
        list(embedder.embed_samples(ImageFolder(photos, 10, "caption").open(0), batch_size=4))
        list(embedder.embed_shards(Shards(shapes / "val"), batch_size=4))
    assert pins == [False, False, True, True]


def test_tiles_are_made_again_when_their_settings_change(trained, tmp_path):
    scenes, out, settings = tmp_path / "scenes", tmp_path / "index", EmbedConfig(tile=32, part_size=4)
    scenes.mkdir()
    for name in ("a.tif", "b.tif"):
        write_scene(scenes / name)
    assert remade_parts(trained, scenes, out, settings) == [0, 1, 2, 3]
    assert pq.read_table(out / "part-00001.parquet")["key"].to_pylist() == ["a_32_32", "a_64_32"]
    assert remade_parts(trained, scenes, out, settings) == []
    os.utime(scenes / "b.tif")
    assert remade_parts(trained, scenes, out, settings) == [4, 5]
    others = dataclasses.replace(settings, bands="4,3,2"), dataclasses.replace(settings, stride=16)
    assert remade_parts(trained, scenes, out, others[0], replace=True) == [6, 7, 8, 9]
    assert len(remade_parts(trained, scenes, out, others[1], replace=True)) == 8


def test_overwriting_keeps_finished_parts_of_the_same_model(trained, photos, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "index")
    (out / "part-00003.parquet").unlink()
    (out / "part-00005.parquet").write_bytes(b"damaged")
    (out / "index.json").unlink()
    with pytest.raises(SearchIndexError, match=r"part-00005\.parquet is damaged"):
        embed(trained / "best", photos, out, SETTINGS, ALONE)
    before = times(out)
    embed(trained / "best", photos, out, SETTINGS, ALONE, overwrite=True)
    after = times(out)
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {"part-00003.parquet", "part-00005.parquet"}


def test_parts_of_another_version_are_made_again(trained, photos, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "index")
    table = pq.read_table(out / "part-00002.parquet")
    old = {b"dove": b'{"fingerprint": "x", "shard": "a", "shard_sha256": "b"}'}
    pq.write_table(table.replace_schema_metadata(old), out / "part-00002.parquet")
    assert remade_parts(trained, photos, out, SETTINGS) == [20]
    (out / "part-00003.parquet").write_bytes(b"damaged")
    assert remade_parts(trained, photos, out, SETTINGS) == [21]
    assert len(SearchIndex(out)) == 59


def test_a_checkpoint_replaced_during_embedding_is_an_error(trained, photos, tmp_path):
    source = ImageFolder(photos, 3, "caption")
    marks = [PartMark("another model", one.name, one.digest) for one in source.inputs()]
    plan = PartPlan(Folder(tmp_path), [PlannedPart(k, mark) for k, mark in enumerate(marks)], False)
    job = Job(Folder(trained / "best"), [source], plan, SETTINGS, ALONE)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(CheckpointError, match="was replaced during embedding"):
            embed_share(job, Resources(), (0, [0]), report=silent)
    finally:
        torch.set_num_threads(threads)
    assert not list(tmp_path.iterdir())


def test_regions_are_stored_for_each_part_if_requested(trained, photos, tmp_path):
    out, wanted = tmp_path / "index", dataclasses.replace(SETTINGS, regions=True)
    assert embed(trained / "best", photos, out, SETTINGS, ALONE).regions is None
    index = embed(trained / "best", photos, out, wanted, ALONE)
    assert len(list(out.glob("regions-*.npy"))) == 20
    regions, fused = index.regions.read(np.array([0, 30, 58]))
    embedder = Embedder(load_encoder(trained / "best"), ALONE)
    pixels = torch.stack([CenterSquare(32).fit(index.image(row), "x") for row in index.rows([0, 30, 58])])
    with torch.no_grad():
        images, expected = embedder.encoder.model.encode_regions(normalise(pixels))
    assert np.abs(regions - expected.numpy()).max() < np.abs(expected.numpy()).max() / 100
    assert np.allclose(fused, images.fused.numpy(), atol=2e-3)
    assert remade_parts(trained, photos, out, wanted) == []
    (out / "regions-00003.npy").unlink()
    assert remade_parts(trained, photos, out, SETTINGS) == []
    assert remade_parts(trained, photos, out, wanted) == [3]


@pytest.mark.slow
def test_a_compiled_model_embeds_the_same_and_last_batches_are_padded(trained, photos, whole, tmp_path):
    found = embed(trained / "best", photos, tmp_path / "index", SETTINGS, dataclasses.replace(ALONE, compile="on"))
    assert np.allclose(found.vectors, SearchIndex(whole).vectors, atol=2e-3)
    assert found.rows(range(59)) == SearchIndex(whole).rows(range(59))


def test_the_model_is_compiled_for_many_images_and_used_uncompiled_if_that_fails(
    trained, photos, whole, tmp_path, monkeypatch
):
    def fail(*_):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr("dove_core.encoding.embedder.torch.compile", lambda encode: fail)
    events = []
    embed(trained / "best", photos, tmp_path / "few", SETTINGS, ALONE, report=events.append)
    assert not any(isinstance(event, Noted) and "compiled" in event.message for event in events)
    monkeypatch.setattr("dove_core.index.tasks.MANY", 60)
    found = embed(trained / "best", photos, tmp_path / "many", SETTINGS, ALONE, report=events.append)
    assert "cannot be compiled here: no compiler; " in " ".join(e.message for e in events if isinstance(e, Noted))
    assert contents(found.folder) == contents(whole)
    events.clear()
    make_clip(tmp_path / "vit")
    embed(tmp_path / "vit", photos, tmp_path / "transformer", SETTINGS, ALONE, report=events.append)
    assert not any(isinstance(event, Noted) and "compiled" in event.message for event in events)
    make_clip(tmp_path / "resnet", RESNET)
    embed(tmp_path / "resnet", photos, tmp_path / "convolutions", SETTINGS, ALONE, report=events.append)
    assert "cannot be compiled here: no compiler; " in " ".join(e.message for e in events if isinstance(e, Noted))
    off = dataclasses.replace(ALONE, compile="off")
    with pytest.raises(UsageError, match="cannot be compiled here: no compiler"):
        embed(trained / "best", photos, tmp_path / "on", SETTINGS, dataclasses.replace(off, compile="on"))
    events.clear()
    embed(trained / "best", photos, tmp_path / "off", SETTINGS, off, report=events.append)
    assert not any(isinstance(event, Noted) and "compiled" in event.message for event in events)
