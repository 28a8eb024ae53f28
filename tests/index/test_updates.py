"""An index is brought up to date: only new and changed images are encoded, and readers see a whole index."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from dove_core.config import EmbedConfig
from dove_core.errors import SearchIndexError, UsageError
from dove_core.events import Updated
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.index.locks import writing
from dove_core.places import Folder
from tests.conftest import ALONE
from tests.index.test_embed_runs import write_scene
from tests.sources.test_inputs import encoded, make_tar

SETTINGS = EmbedConfig(batch_size=4, part_size=3)


def write_images(folder: Path, numbers: range) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in numbers:
        (folder / f"{k:03d}.jpg").write_bytes(encoded(k))
    return folder


class Model:
    """Calls `embed`, and counts the images that were encoded."""

    def __init__(self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.checkpoint, self.encoded = checkpoint, 0
        from dove_core.encoding.embedder import Embedder

        encode = Embedder._normalised

        def counted(embedder, pixels):
            self.encoded += len(pixels)
            return encode(embedder, pixels)

        monkeypatch.setattr(Embedder, "_normalised", counted)

    def embed(self, *sources, out, settings=SETTINGS, **words):
        events, self.encoded = [], 0
        index = embed(self.checkpoint, list(sources), out, settings, ALONE, report=events.append, **words)
        (self.update,) = [event for event in events if isinstance(event, Updated)] or [None]
        return index


@pytest.fixture
def model(trained, monkeypatch):
    return Model(trained / "best", monkeypatch)


def images_of(index: SearchIndex) -> dict[str, bytes]:
    """Return the image of each row, by key, and check that there is one row of each key."""
    rows = index.rows(range(len(index)))
    found = {row.key: image for row, image in zip(rows, index.images(rows), strict=True)}
    assert len(found) == len(rows)
    return found


def vectors_of(index: SearchIndex) -> dict[str, np.ndarray]:
    keys = [row.key for row in index.rows(range(len(index)))]
    return dict(zip(keys, index.vectors_of(range(len(index))), strict=True))


def assert_answers_as_new(index: SearchIndex, new: SearchIndex) -> None:
    """Check that two indexes have the same rows, and give the same answers."""
    mine, other = vectors_of(index), vectors_of(new)
    assert mine.keys() == other.keys()
    for key, vector in mine.items():
        assert np.allclose(vector.astype(np.float32), other[key].astype(np.float32), atol=2e-3)
    for vector in list(other.values())[:3]:
        scores = [one.search(vector.astype(np.float32), 5)[1] for one in (index, new)]
        assert np.allclose(*scores, atol=5e-3)


def test_only_new_and_changed_images_are_encoded_and_moved_ones_keep_their_vector(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(12)), tmp_path / "index"
    first = vectors_of(model.embed(folder, out=out))
    assert (model.encoded, model.update) == (12, None)
    (folder / "new.jpg").write_bytes(encoded(50))
    (folder / "004.jpg").write_bytes(encoded(51))
    (folder / "007.jpg").unlink()
    (folder / "deep").mkdir()
    (folder / "002.jpg").rename(folder / "deep" / "moved.jpg")
    os.utime(folder / "010.jpg")
    index = model.embed(folder, out=out)
    assert model.update == Updated(str(out), added=1, changed=1, removed=1, moved=1, kept=9)
    assert model.encoded == 2
    found = vectors_of(index)
    assert np.array_equal(found["deep/moved.jpg"], first["002.jpg"])
    assert np.array_equal(found["010.jpg"], first["010.jpg"])
    assert images_of(index) == {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")
    }
    assert_answers_as_new(index, model.embed(folder, out=tmp_path / "new"))
    before = (out / "index.json").read_bytes()
    model.embed(folder, out=out)
    assert model.encoded == 0
    assert model.update == Updated(str(out), 0, 0, 0, 0, 12)
    assert (out / "index.json").read_bytes() == before
    assert {path.name for path in out.glob("part-*")} == {f"part-{k:05d}.parquet" for k in index.manifest.parts}
    assert [path.name for path in out.glob("segment-*")] == [name for name, _ in index.manifest.segments]


def test_inputs_of_all_kinds_make_one_index(model, shapes, tmp_path):
    folder = write_images(tmp_path / "photos", range(4))
    make_tar(tmp_path / "tars" / "a.tar", {f"t{k}.jpg": encoded(20 + k) for k in range(3)})
    (tmp_path / "scenes").mkdir()
    scene = write_scene(tmp_path / "scenes" / "s.tif")
    inputs = [folder, tmp_path / "tars" / "a.tar", shapes / "test", scene.parent]
    index = model.embed(*inputs, out=tmp_path / "index", settings=EmbedConfig(batch_size=4, tile=32))
    assert len(index) == 4 + 3 + 12 + 6
    found = images_of(index)
    assert found["000.jpg"] == encoded(0)
    assert found["t1"] == encoded(21)
    shutil.move(tmp_path / "tars", tmp_path / "elsewhere")
    with pytest.raises(SearchIndexError, match=r"a\.tar"):
        images_of(index)


def test_an_input_is_added_without_looking_at_the_others(model, tmp_path):
    first, second = write_images(tmp_path / "a", range(5)), write_images(tmp_path / "b", range(3, 9))
    for path in second.iterdir():
        path.rename(path.with_name(f"b{path.name}"))
    out = tmp_path / "index"
    model.embed(first, out=out)
    shutil.move(first, tmp_path / "away")
    index = model.embed(second, out=out, add=True)
    assert model.update == Updated(str(out), 6, 0, 0, 0, 5)
    assert model.encoded == 4, "two of them are in the index already"
    shutil.move(tmp_path / "away", first)
    assert len(images_of(index)) == 11
    model.embed(second, out=out, add=True)
    assert model.update == Updated(str(out), 0, 0, 0, 0, 11)
    (second / "b004.jpg").unlink()
    model.embed(first, second, out=out)
    assert model.update == Updated(str(out), 0, 0, 1, 0, 10)
    make_tar(tmp_path / "1.tar", {"t.jpg": encoded(40)})
    make_tar(tmp_path / "2.tar", {"u.jpg": encoded(41)})
    model.embed(tmp_path / "1.tar", out=out, add=True)
    index = model.embed(tmp_path / "2.tar", out=out, add=True)
    assert model.update == Updated(str(out), 1, 0, 0, 0, 11)
    assert images_of(index)["u"] == encoded(41)


def test_other_input_is_refused_and_both_are_named(model, tmp_path):
    first, second = write_images(tmp_path / "a", range(3)), write_images(tmp_path / "b", range(3, 6))
    out = tmp_path / "index"
    model.embed(first, out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    for inputs in ([second], [first, second]):
        with pytest.raises(SearchIndexError, match=rf"made from {first}, not from .*{second}") as caught:
            model.embed(*inputs, out=out)
        assert "--add" in caught.value.hint
        assert "--replace" in caught.value.hint
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    with pytest.raises(UsageError, match="--add keeps what --replace"):
        model.embed(second, out=out, add=True, replace=True)
    index = model.embed(second, out=out, replace=True)
    assert model.update == Updated(str(out), 3, 0, 3, 0, 0)
    assert images_of(index).keys() == {"003.jpg", "004.jpg", "005.jpg"}
    for name in ("1", "2"):
        make_tar(tmp_path / f"{name}.tar", {f"{name}.jpg": encoded(int(name))})
    tars = tmp_path / "tars"
    model.embed(tmp_path / "1.tar", out=tars)
    assert len(model.embed(tmp_path / "1.tar", tmp_path / "2.tar", out=tars)) == 2, (
        "files of one kind may grow in number"
    )
    with pytest.raises(SearchIndexError, match=r"made from .*1\.tar, .*2\.tar, not from .*2\.tar"):
        model.embed(tmp_path / "2.tar", out=tars)
    (tmp_path / "1.tar").unlink()
    assert len(model.embed(tmp_path / "2.tar", out=tars)) == 1, "a file that is gone leaves the index"


def test_regions_of_kept_and_moved_images_stay(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(6)), tmp_path / "index"
    settings = EmbedConfig(batch_size=4, part_size=3, regions=True)
    index = model.embed(folder, out=out, settings=settings)
    first = dict(zip(vectors_of(index), index.regions.records(np.arange(6)), strict=True))
    (folder / "001.jpg").rename(folder / "moved.jpg")
    (folder / "new.jpg").write_bytes(encoded(9))
    del index
    index = model.embed(folder, out=out)
    assert model.encoded == 1
    found = dict(zip(vectors_of(index), index.regions.records(np.arange(7)), strict=True))
    for key, record in found.items():
        if key != "new.jpg":
            assert record == first["001.jpg" if key == "moved.jpg" else key]


def test_an_index_of_the_version_before_is_read_and_brought_up_to_date(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(7)), tmp_path / "index"
    model.embed(folder, out=out)
    as_of_format_2(out)
    assert len(images_of(SearchIndex(out))) == 7
    (folder / "new.jpg").write_bytes(encoded(9))
    index = model.embed(folder, out=out)
    assert model.encoded <= 2
    assert len(images_of(index)) == 8
    assert json.loads((out / "index.json").read_text())["format"] == 3
    with pytest.raises(SearchIndexError, match="made from"):
        model.embed(write_images(tmp_path / "other", range(2)), out=out)


def as_of_format_2(out: Path) -> None:
    """Turn a new index into one of the version before: other manifest, parts without contents and files."""
    import pyarrow.parquet as pq

    manifest = json.loads((out / "index.json").read_text())
    kept = {name: manifest[name] for name in ("fingerprint", "dim", "counts", "checkpoint", "shards")}
    (out / "index.json").write_text(json.dumps({"format": 2, **kept}))
    (out / "contents.npy").unlink()
    for path in out.glob("part-*.parquet"):
        table = pq.read_table(path)
        known = {name: value for name, value in table.schema.metadata.items() if name != b"dove_files"}
        pq.write_table(table.drop_columns(["content"]).replace_schema_metadata(known), path, compression="zstd")


def test_an_open_index_stays_whole_and_its_files_go_when_it_is_closed(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(6)), tmp_path / "index"
    settings = EmbedConfig(batch_size=4, part_size=3, regions=True)
    model.embed(folder, out=out, settings=settings)
    opened = SearchIndex(out)
    (folder / "002.jpg").unlink()
    assert len(model.embed(folder, out=out)) == 5
    assert len(opened.rows(range(6))) == 6, "rows are opened only now"
    assert opened.words.digest()
    assert len(opened.regions.records(np.arange(6))) == 6
    assert (out / "part-00000.parquet").exists()
    del opened
    model.embed(folder, out=out)
    assert model.update == Updated(str(out), 0, 0, 0, 0, 5)
    assert not (out / "part-00000.parquet").exists()
    assert not (out / "vectors.npy").exists()


def test_a_second_writer_is_refused_and_told_who_writes(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(3)), tmp_path / "index"
    out.mkdir()
    with writing(Folder(out), "other work", shared=False):
        with pytest.raises(SearchIndexError, match=rf"being written by process {os.getpid()} of .* on .*, since \d\d:"):
            model.embed(folder, out=out)
        assert not list(out.glob("part-*"))
    with writing(Folder(out), "a", shared=True), writing(Folder(out), "a", shared=True):
        with pytest.raises(SearchIndexError, match="being written"), writing(Folder(out), "b", shared=True):
            pass
        with pytest.raises(SearchIndexError, match="being written"), writing(Folder(out), "a", shared=False):
            pass
    assert len(model.embed(folder, out=out)) == 3
    assert not (out / ".writer").exists()


def test_readers_find_a_whole_index_while_it_is_made_again_and_again(model, tmp_path):
    folder, out = write_images(tmp_path / "photos", range(6)), tmp_path / "index"
    model.embed(folder, out=out)
    ended, problems, rounds = threading.Event(), list[Exception](), [0]

    def read() -> None:
        while not ended.is_set():
            try:
                index = SearchIndex(out)
                vector = index.vectors_of([0])[0].astype(np.float32)
                rows, _ = index.search(vector, 3)
                assert len(index.rows(rows.tolist())) == 3
                rounds[0] += 1
            except Exception as error:
                problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for k in range(10, 16):
            (folder / f"{k:03d}.jpg").write_bytes(encoded(k))
            (folder / f"{k - 10:03d}.jpg").unlink()
            model.embed(folder, out=out)
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert not problems
    assert rounds[0] > 10


def test_rows_of_several_segments_are_searched_as_those_of_one(model, tmp_path, monkeypatch):
    monkeypatch.setattr("dove_core.index.build.FEW", 0)
    monkeypatch.setattr("dove_core.index.build._MERGED", 0)
    folder, out = write_images(tmp_path / "photos", range(8)), tmp_path / "index"
    model.embed(folder, out=out)
    for first in (8, 12):
        write_images(folder, range(first, first + 4))
        index = model.embed(folder, out=out)
    assert [name for name, _ in index.manifest.segments] == ["", "segment-00001", "segment-00002"]
    assert_answers_as_new(index, model.embed(folder, out=tmp_path / "new"))
    queries = index.vectors.astype(np.float32)
    many = index.search_many(queries, 4)
    for query, (rows, scores) in zip(queries, many, strict=True):
        exact = np.sort(queries @ query)[::-1][:4]
        assert np.allclose(scores, exact, atol=1e-4)
        assert np.allclose(queries[rows] @ query, scores, atol=1e-4)
    keep = np.arange(16) % 2 == 0
    assert all(row % 2 == 0 for row in index.search(queries[3], 8, keep=keep)[0])
    assert index.find(["013.jpg"]) == {"013.jpg": 13}
