"""Updates of indexes of each kind of input: captions beside images, damaged images, scenes, any family of models."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.transform import from_origin

from dove_core.config import EmbedConfig, PushConfig
from dove_core.encoding.load import load_encoder
from dove_core.errors import SearchIndexError
from dove_core.events import Noted, Updated
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.index.milvus.push import push_index
from dove_core.index.milvus.remote import RemoteIndex
from dove_core.index.verify import verify_index
from tests.clip_models import make_clip
from tests.conftest import ALONE
from tests.data.parquet_files import write_rows
from tests.index.test_updates import SETTINGS, Model, assert_answers_as_new, images_of, vectors_of, write_images
from tests.sources.test_inputs import encoded

TILES = EmbedConfig(batch_size=4, part_size=3, tile=32)


@pytest.fixture
def model(trained, monkeypatch):
    return Model(trained / "best", monkeypatch)


def captions_of(index: SearchIndex) -> dict[str, str | None]:
    return {row.key: row.caption for row in index.rows(range(len(index)))}


def write_scene(path, seed: int):
    """Write a scene of 64 by 96 pixels: six tiles of 32."""
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(seed).integers(1, 255, (3, 64, 96)).astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=64, width=96, dtype="uint8", crs="EPSG:32633",
        transform=from_origin(5e5, 5e6, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(values)
    return path


def test_a_changed_caption_beside_an_image_is_read_and_the_image_keeps_its_vector(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(5)), tmp_path / "index"
    for k in (0, 1, 4):
        (folder / f"{k:03d}.txt").write_text(f"a place of number {k}")
    first = vectors_of(model.embed(folder, out=out))
    (folder / "001.txt").write_text("another place")
    (folder / "002.json").write_text('{"caption": "a new caption"}')
    (folder / "004.txt").unlink()
    index = model.embed(folder, out=out)
    assert model.encoded == 0
    assert captions_of(index) == {
        "000.jpg": "a place of number 0", "001.jpg": "another place", "002.jpg": "a new caption", "003.jpg": None,
        "004.jpg": None,
    }  # fmt: skip
    assert all(np.array_equal(vector, first[key]) for key, vector in vectors_of(index).items())
    events = []
    embed(model.checkpoint, folder, out, SETTINGS, ALONE, report=events.append)
    assert [event for event in events if isinstance(event, Updated)] == [Updated(str(out), 0, 0, 0, 0, 5)]
    assert Noted("2 of 5 images have no caption") in events, "also for what was embedded earlier"


def test_an_image_that_could_not_be_used_takes_no_new_ones_with_it(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(3)), tmp_path / "index"
    (folder / "001.jpg").write_bytes(encoded(1)[:200])
    assert images_of(model.embed(folder, out=out)).keys() == {"000.jpg", "002.jpg"}
    (folder / "000.jpg").unlink()
    write_images(folder, range(3, 5))
    index = model.embed(folder, out=out)
    assert images_of(index).keys() == {"002.jpg", "003.jpg", "004.jpg"}
    (folder / "001.jpg").write_bytes(encoded(1))
    assert len(images_of(model.embed(folder, out=out))) == 4


def test_scenes_come_change_and_go(model, tmp_path):
    folder, out = tmp_path / "scenes", tmp_path / "index"
    for seed in (1, 2):
        write_scene(folder / f"{seed}.tif", seed)
    first = vectors_of(model.embed(folder, out=out, settings=TILES))
    write_scene(folder / "3.tif", 3)
    (folder / "1.tif").unlink()
    os.utime(folder / "2.tif")
    index = model.embed(folder, out=out, settings=TILES)
    assert model.encoded == 6, "those of the new scene"
    assert model.update == Updated(str(out), 6, 0, 6, 0, 6)
    found = vectors_of(index)
    assert {key for key in found if key.startswith("2")} == {key for key in first if key.startswith("2")}
    assert all(np.array_equal(vector, first[key]) for key, vector in found.items() if key in first)
    photos = write_images(tmp_path / "photos", range(3))
    assert len(model.embed(photos, out=out, add=True)) == 15
    index = model.embed(folder, photos, out=out, settings=TILES)
    assert model.update == Updated(str(out), 0, 0, 0, 0, 15)
    assert len(images_of(index)) == 15
    assert verify_index(out, ALONE) == (15, [])


def test_parquet_files_and_single_scenes_are_added_one_after_another(model, tmp_path):
    out = tmp_path / "index"
    for number, name in enumerate("ab"):
        rows = [{"image": encoded(2 * number + k), "filename": f"{name}{k}.jpg"} for k in range(2)]
        write_rows(tmp_path / f"{name}.parquet", rows)
    model.embed(tmp_path / "a.parquet", out=out)
    model.embed(tmp_path / "b.parquet", out=out, add=True)
    assert model.update == Updated(str(out), 2, 0, 0, 0, 2)
    model.embed(write_scene(tmp_path / "s.tif", 1), out=out, settings=TILES, add=True)
    index = model.embed(write_scene(tmp_path / "t.tif", 2), out=out, settings=TILES, add=True)
    assert model.update == Updated(str(out), 6, 0, 0, 0, 10)
    assert len(images_of(index)) == 16
    everything = [tmp_path / name for name in ("a.parquet", "b.parquet", "s.tif", "t.tif")]
    model.embed(*everything, out=out, settings=TILES)
    assert model.update == Updated(str(out), 0, 0, 0, 0, 16)


def test_an_index_of_a_clip_model_is_brought_up_to_date(model, tmp_path):
    make_clip(tmp_path / "clip")
    model.checkpoint = tmp_path / "clip"
    folder, out = write_images(tmp_path / "photos", range(5)), tmp_path / "index"
    first = vectors_of(model.embed(folder, out=out))
    write_images(folder, range(5, 8))
    (folder / "000.jpg").rename(folder / "moved.jpg")
    index = model.embed(folder, out=out)
    assert (model.encoded, model.update) == (3, Updated(str(out), 3, 0, 0, 1, 4))
    assert np.array_equal(vectors_of(index)["moved.jpg"], first["000.jpg"])
    assert_answers_as_new(index, model.embed(folder, out=tmp_path / "new"))


def test_another_model_needs_overwrite_and_then_readers_of_the_old_index_keep_it(model, trained, tmp_path):
    make_clip(tmp_path / "clip")
    folder, out = write_images(tmp_path / "photos", range(5)), tmp_path / "index"
    old = model.embed(folder, out=out)
    model.checkpoint = tmp_path / "clip"
    with pytest.raises(SearchIndexError, match="was made by the model"):
        model.embed(folder, out=out)
    index = model.embed(folder, out=out, overwrite=True)
    assert index.fingerprint == load_encoder(model.checkpoint).fingerprint != old.fingerprint
    assert old.words.digest() != index.words.digest()
    assert len(images_of(old)) == len(images_of(index)) == 5


def test_processes_share_an_update_and_use_what_is_known(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(6)), tmp_path / "index"
    first = vectors_of(model.embed(folder, out=out))
    (folder / "deep").mkdir()
    for path in list(folder.glob("*.jpg")):
        path.rename(folder / "deep" / path.name)
    write_images(folder, range(6, 9))
    index = model.embed(folder, out=out, settings=EmbedConfig(batch_size=4, part_size=3, gpus=2))
    assert model.update == Updated(str(out), 3, 0, 0, 6, 0)
    found = vectors_of(index)
    assert all(np.array_equal(found[f"deep/{key}"], vector) for key, vector in first.items())
    del index
    model.embed(folder, out=out)
    assert not (out / "vectors.npy").exists(), "no process holds the old segment"


def test_the_layout_of_clip_retrieval_follows_an_update(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(9)), tmp_path / "index"
    settings = EmbedConfig(batch_size=4, part_size=3, layout="clip-retrieval")
    model.embed(folder, out=out)
    model.embed(folder, out=out, settings=settings)
    assert len(list((out / "metadata").iterdir())) == 3, "also where nothing else has changed"
    for k in range(3):
        (folder / f"{k:03d}.jpg").unlink()
    index = model.embed(folder, out=out, settings=settings)
    assert sorted(path.name for path in (out / "img_emb").iterdir()) == ["img_emb_0000.npy", "img_emb_0001.npy"]
    tables = [pq.read_table(path) for path in sorted((out / "metadata").iterdir())]
    keys = [key for table in tables for key in table["key"].to_pylist()]
    assert keys == [row.key for row in index.rows(range(6))]


def test_a_collection_of_milvus_lite_follows_an_update(model, tmp_path):
    folder, out, to = write_images(tmp_path / "photos", range(6)), tmp_path / "index", f"{tmp_path}/m.db"
    model.embed(folder, out=out)
    assert push_index(out, to).written == 6
    write_images(folder, range(6, 8))
    (folder / "000.jpg").unlink()
    index = model.embed(folder, out=out)
    with pytest.raises(SearchIndexError, match="another version of the index"):
        push_index(out, to)
    push_index(out, to, PushConfig(), overwrite=True)
    remote = RemoteIndex.open(f"{to}/index")
    try:
        assert len(remote) == 7
        for key, vector in vectors_of(index).items():
            rows, _ = remote.search(vector.astype(np.float32), 1)
            assert remote.rows(rows.tolist())[0].key == key
    finally:
        remote.close()


def test_tiles_are_not_replaced_by_those_of_another_size_unless_this_is_asked_for(model, tmp_path):
    scenes, out = tmp_path / "scenes", tmp_path / "index"
    write_scene(scenes / "north.tif", 1)
    write_scene(scenes / "south.tif", 2)
    model.embed(scenes, out=out, settings=TILES)
    others = {
        "with --tile 32; this call is with --tile 16": replace(TILES, tile=16),
        "with --tile 32; this call is with --tile 32 --stride 16": replace(TILES, stride=16),
        "with --tile 32; this call is with --tile 32 --bands 3,2,1": replace(TILES, bands="3,2,1"),
        "with --tile 32; this call is without --tile": replace(TILES, tile=0),
    }
    for message, settings in others.items():
        for add in (False, True):
            with pytest.raises(SearchIndexError, match=message) as caught:
                model.embed(scenes, out=out, settings=settings, add=add)
            assert caught.value.hint == (
                "give --tile 32, replace what the index has with --replace, or choose another folder with --out"
            )
    assert len(SearchIndex(out)) == 12
    assert len(model.embed(scenes, out=out, settings=replace(TILES, tile=0), replace=True)) == 2
    with pytest.raises(SearchIndexError, match="without --tile; this call is with --tile 32") as caught:
        model.embed(scenes, out=out, settings=TILES)
    assert "leave out --tile" in caught.value.hint
    again = model.embed(scenes, out=out, settings=TILES, replace=True)
    assert_answers_as_new(again, model.embed(scenes, out=tmp_path / "new", settings=TILES))


def test_an_index_that_does_not_say_how_its_scenes_were_cut_takes_any_tiles(model, tmp_path):
    scenes, out = tmp_path / "scenes", tmp_path / "index"
    write_scene(scenes / "north.tif", 1)
    model.embed(scenes, out=out, settings=TILES)
    manifest = json.loads((out / "index.json").read_text())
    del manifest["inputs"][0]["cut"]
    (out / "index.json").write_text(json.dumps(manifest))
    assert len(model.embed(scenes, out=out, settings=replace(TILES, tile=16))) == 24
