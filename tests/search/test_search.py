"""Shards to parts, parts to an index, an index to hits."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dove_core.answers.sheet import write_sheet
from dove_core.config import EmbedConfig, QueryConfig, RankConfig, ShardConfig
from dove_core.data.reader import Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.errors import CheckpointError, DataError, SearchIndexError, UsageError
from dove_core.events import Advanced, Noted
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.search.query import Searcher
from dove_core.search.question import Question
from dove_core.training.loop import train
from tests.conftest import ALONE
from tests.made import SMALL, make_karpathy
from tests.training.test_loop import QUICK


@pytest.fixture(scope="module")
def index(trained, shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "shapes"
    return embed(trained / "best", shapes, folder, EmbedConfig(batch_size=7), ALONE)


@pytest.fixture(scope="module")
def searcher(index):
    return Searcher.open(index.folder, ALONE)


@pytest.fixture
def copied(index, tmp_path):
    return shutil.copytree(index.folder, tmp_path / "a" / "shapes")


def test_every_image_of_every_split_has_its_vector_and_its_metadata_in_one_row(index, trained, shapes):
    assert len(index) == 48 + 12 + 12
    embedder = Embedder(load_encoder(trained / "best"), ALONE)
    rows = index.rows(range(len(index)))
    for split in ("train", "test"):
        shards = Shards(shapes / split)
        for number in (0, len(shards) - 1):
            record = shards.read(number)
            place = next(k for k, row in enumerate(rows) if row.key == record.sample.key)
            assert rows[place].shard == f"{split}/{record.shard}"
            assert rows[place].caption == record.sample.captions["caption"][0]
            assert index.image(rows[place]) == record.image
            vector = embedder.embed_images([(record.image, "x")])[0].numpy()
            assert np.allclose(index.vectors[place], vector, atol=2e-3)


def test_search_is_exact_and_in_order(index, searcher):
    query = searcher.embedder.embed_texts(["a red circle"])[0].numpy()
    scores = index.vectors.astype(np.float32) @ query
    for top in (1, 10, len(index), 500):
        numbers, found = index.search(query, top)
        assert len(set(numbers)) == len(numbers) == min(top, len(index))
        assert (np.diff(scores[numbers]) < 2e-6).all()  # those within a millionth go by row
        assert (np.delete(scores, numbers) < scores[numbers[-1]] + 2e-6).all()
        assert np.allclose(found, scores[numbers])


def test_a_query_finds_what_the_one_embedding_path_finds(index, searcher):
    hits = searcher.ask("a red circle on grey ground", QueryConfig(top=5))
    query = searcher.embedder.embed_texts(["a red circle on grey ground"])[0].numpy()
    numbers, scores = index.search(query, 5)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert [hit.row for hit in hits] == index.rows(numbers.tolist())
    assert [hit.score for hit in hits] == pytest.approx(scores.tolist())


@pytest.mark.parametrize("rank_by", ["pair", "sum"])
def test_reranking_orders_the_best_by_roam_and_keeps_the_order_of_the_others(index, searcher, rank_by):
    plain = searcher.ask("a red circle", QueryConfig(top=20))
    hits = searcher.ask("a red circle", QueryConfig(top=12, rerank=8), RankConfig(rank_by=rank_by))
    captions = searcher.embedder.describe_texts(["a red circle"], exact=True)
    expected = []
    for hit in plain[:8]:
        images = searcher.embedder.describe_images([(index.image(hit.row), hit.row.key)])
        pair = float(searcher.embedder.score_pairs(images, captions))
        expected.append((pair + (hit.score if rank_by == "sum" else 0), hit.row.key))
    expected.sort(key=lambda pair: -round(pair[0], 5))  # equal images keep their order
    assert [hit.row.key for hit in hits[:8]] == [key for _, key in expected]
    assert [hit.score for hit in hits[:8]] == pytest.approx([score for score, _ in expected], abs=1e-4)
    assert [hit.row for hit in hits[8:]] == [hit.row for hit in plain[8:12]]


def test_an_image_finds_itself_first(index, searcher):
    row = index.rows([30])[0]
    hits = searcher.answer(Question(image=(index.image(row), "x")), QueryConfig(top=3))
    assert hits[0].row.key == row.key
    assert hits[0].score == pytest.approx(1, abs=1e-2)
    with pytest.raises(UsageError, match="--rerank"):
        searcher.answer(Question(image=(index.image(row), "x")), QueryConfig(rerank=5))
    with pytest.raises(DataError, match=r"no\.jpg is not an image"):
        searcher.answer(Question(image=(b"nothing", "no.jpg")))


def test_unknown_words_are_reported_and_a_query_of_unknown_words_only_is_refused(searcher):
    events = []
    searcher.ask("a red zeppelin", QueryConfig(), report=events.append)
    assert events == [Noted("words that the model has not learned: zeppelin")]
    with pytest.raises(UsageError, match="the model knows no word of 'zeppelin xyz'") as caught:
        searcher.ask("zeppelin xyz", QueryConfig())
    assert "circle" in caught.value.hint
    with pytest.raises(UsageError, match="has no words"):
        searcher.ask(" ?! ", QueryConfig())


def test_parts_are_geoparquet_that_pandas_reads(index):
    schema = pq.read_schema(index.folder / "part-00000.parquet")
    geo = json.loads(schema.metadata[b"geo"])
    assert geo["columns"][geo["primary_column"]]["encoding"] == "WKB"
    frame = pq.read_table(index.folder / "part-00000.parquet").to_pandas()
    assert list(frame.columns) == [
        "key", "vector", "caption", "place", "bbox", "time", "source", "gsd", "tags", "shard", "offset",
        "size", "content",
    ]  # fmt: skip
    assert frame["vector"][0].dtype == np.float16


def test_finished_parts_are_kept_and_only_missing_ones_made(index, copied, trained, shapes):
    kept = copied / "part-00001.parquet"
    before = kept.stat().st_mtime_ns
    (copied / "part-00000.parquet").unlink()
    (copied / "index.json").unlink()
    events = []
    again = embed(trained / "best", shapes, copied, EmbedConfig(), ALONE, report=events.append)
    done = sum(event.amount for event in events if isinstance(event, Advanced))
    assert done == index.manifest.counts[0]
    assert kept.stat().st_mtime_ns == before
    assert np.allclose(again.vectors, index.vectors, atol=2e-3)


def test_an_index_of_another_model_is_refused_everywhere(copied, shapes, tmp_path):
    train(shapes / "train", tmp_path / "run", SMALL, dataclasses.replace(QUICK, seed=9, epochs=1), ALONE)
    other = tmp_path / "run" / "best"
    with pytest.raises(SearchIndexError, match="was made by the model") as caught:
        embed(other, shapes, copied, EmbedConfig(), ALONE)
    assert "--overwrite" in caught.value.hint
    with pytest.raises(SearchIndexError, match="was made by the model"):
        Searcher.open(copied, ALONE, checkpoint=other)
    assert embed(other, shapes, copied, EmbedConfig(), ALONE, overwrite=True).manifest.fingerprint != ""
    assert Searcher.open(copied, ALONE).index.manifest.fingerprint == load_encoder(other).fingerprint


@pytest.mark.parametrize("name", ["index.json", "vectors.npy", "rows.arrow"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "one byte"])
def test_a_damaged_index_is_named(copied, name, damage):
    path = copied / name
    if damage == "missing":
        path.unlink()
    elif damage in ("empty", "one byte"):
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:1])
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SearchIndexError, match=name.replace(".", r"\.")) as caught:
        SearchIndex(copied).rows([0])
    assert "dove embed" in caught.value.hint


def test_a_damaged_part_is_named_and_made_again(index, copied, trained, shapes):
    part = copied / "part-00002.parquet"
    part.write_bytes(part.read_bytes()[:200])
    events = []
    again = embed(trained / "best", shapes, copied, EmbedConfig(), ALONE, report=events.append)
    assert Noted(f"{copied}: missing or damaged, and made again: part-00002.parquet") in events
    assert sorted(row.key for row in again.rows(range(72))) == sorted(row.key for row in index.rows(range(72)))


def test_a_damaged_part_of_an_index_that_was_never_whole_is_an_error(copied, trained, shapes):
    part = copied / "part-00002.parquet"
    part.write_bytes(part.read_bytes()[:200])
    (copied / "index.json").unlink()
    with pytest.raises(SearchIndexError, match=r"part-00002\.parquet is damaged"):
        embed(trained / "best", shapes, copied, EmbedConfig(), ALONE)


def test_a_checkpoint_that_moved_can_be_given(copied, trained, tmp_path):
    moved = shutil.copytree(trained / "best", tmp_path / "moved")
    manifest = json.loads((copied / "index.json").read_text())
    (copied / "index.json").write_text(json.dumps({**manifest, "checkpoint": "../gone"}))
    assert Searcher.open(copied, ALONE).ask("a red circle", QueryConfig())  # words need no checkpoint
    with pytest.raises(CheckpointError, match="gone is not a checkpoint"):
        Searcher.open(copied, ALONE).embedder  # noqa: B018
    assert len(Searcher.open(copied, ALONE, checkpoint=moved).index) == 72


def test_missing_and_changed_images_are_named(copied, shapes, tmp_path):
    manifest = json.loads((copied / "index.json").read_text())
    moved = shutil.copytree(shapes, tmp_path / "shards")
    (copied / "index.json").write_text(json.dumps({**manifest, "shards": str(moved)}))
    opened = SearchIndex(copied)
    row = opened.rows([0])[0]
    (moved / row.shard).write_bytes(b"")
    with pytest.raises(SearchIndexError, match="shorter than when it was embedded"):
        opened.image(row)
    (moved / row.shard).unlink()
    with pytest.raises(SearchIndexError, match="cannot be read"):
        SearchIndex(copied).image(row)


def test_a_sheet_shows_every_hit(index, searcher, tmp_path):
    hits = searcher.ask("a blue square", QueryConfig(top=7))
    write_sheet(tmp_path / "sheet.png", "a blue square", hits, index)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 5 * 240
        tile = np.array(sheet.crop((12, 47, 252, 287)).resize((48, 48)))
    expected = np.array(Image.open(io.BytesIO(index.image(hits[0].row))))
    assert np.abs(tile.astype(int) - expected.astype(int)).mean() < 12


def test_an_index_made_again_from_another_root_finds_its_images(trained, shapes, tmp_path):
    for root in (shapes / "test", shapes, shapes / "test"):
        opened = embed(trained / "best", root, tmp_path / "index", EmbedConfig(), ALONE, replace=True)
        for row in opened.rows(range(len(opened))):
            assert opened.image(row).startswith(b"\xff\xd8")


def test_a_shard_without_any_usable_image_gives_an_empty_part(trained, tmp_path):
    captions, images = make_karpathy(tmp_path / "source", {"test": 4})
    (images / "test_2.jpg").unlink()
    shard_captions(captions, images, tmp_path / "shards", ShardConfig(shard_size=1, max_bad=0.5, workers=1))
    opened = embed(trained / "best", tmp_path / "shards" / "test", tmp_path / "index", EmbedConfig(), ALONE)
    assert sorted(opened.manifest.counts) == [0, 1, 1, 1]
    assert len(opened.rows(range(3))) == 3


def test_shards_that_were_made_again_under_an_index_are_noticed_by_the_sheet(copied, trained, shapes, tmp_path):
    manifest = json.loads((copied / "index.json").read_text())
    moved = shutil.copytree(shapes, tmp_path / "shards")
    (copied / "index.json").write_text(json.dumps({**manifest, "shards": str(moved)}))
    opened = SearchIndex(copied)
    searcher = Searcher.open(copied, ALONE, checkpoint=trained / "best")
    hits = searcher.ask("a red circle", QueryConfig(top=2))
    tar = moved / hits[0].row.shard
    tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(SearchIndexError, match="does not hold the image"):
        write_sheet(tmp_path / "sheet.png", "x", hits, opened)


def test_an_index_reached_by_a_link_finds_its_images(index, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "link").symlink_to(index.folder)
    linked = SearchIndex(tmp_path / "far" / "link")
    assert linked.image(linked.rows([0])[0]) == index.image(index.rows([0])[0])
    assert linked.checkpoint.exists()
