"""Questions of several parts, filters, duplicates, and a fast start."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pty
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dove_core.config import EmbedConfig, FilterConfig, QueryConfig
from dove_core.data.sharding.image import decode_rgb
from dove_core.errors import UsageError
from dove_core.events import Event, Noted
from dove_core.index.embed import embed
from dove_core.index.rows import Row
from dove_core.search.dedup import distinct, overlap
from dove_core.search.query import Searcher
from dove_core.search.question import Question, read_query_image
from tests.cli.test_commands import dove
from tests.conftest import ALONE
from tests.data.test_image_depth import png

TOP = QueryConfig(top=6)


@pytest.fixture(scope="module")
def index(trained, shapes, tmp_path_factory):
    return embed(trained / "best", shapes, tmp_path_factory.mktemp("index") / "shapes", EmbedConfig(), ALONE)


@pytest.fixture(scope="module")
def searcher(index):
    return Searcher.open(index.folder, ALONE)


def vector_of(searcher, text):
    return searcher.embedder.embed_texts([text])[0].numpy()


def keys(hits):
    return [hit.row.key for hit in hits]


def test_words_an_image_and_examples_are_added(index, searcher):
    row, other = index.rows([4])[0], index.rows([9])[0]
    image = searcher.embedder.embed_images([(index.image(row), "x")])[0].numpy()
    text = vector_of(searcher, "a red circle")
    vectors = index.vectors.astype(np.float32)
    for question, direction in (
        (Question("a red circle", (index.image(row), "x")), text + image),
        (Question("a red circle", like=(row.key,)), text + vectors[4] / np.linalg.norm(vectors[4])),
        (Question(like=(row.key,), unlike=(other.key,)), vectors[4] - 0.5 * vectors[9]),
    ):
        hits = searcher.answer(question, TOP)
        scores = vectors @ (direction / np.linalg.norm(direction))
        assert [hit.score for hit in hits] == pytest.approx(sorted(scores)[:-7:-1], abs=1e-3)


def test_an_image_of_16_bits_finds_the_same_image_of_8_and_it_is_said_how_it_was_read(index, searcher):
    row = index.rows([4])[0]
    with Image.open(io.BytesIO(index.image(row))) as image:
        values = np.moveaxis(np.array(image.convert("RGB")), -1, 0).astype(np.uint16)
    for data, like in ((png(values * 257), 1.0), (png(values * 16 + 500), 0.8)):
        events = list[Event]()
        hits = searcher.answer(Question(image=(data, "deep.png")), TOP, report=events.append)
        assert hits[0].row.key == row.key
        assert hits[0].score > like - 0.01
        (note,) = [event.message for event in events if isinstance(event, Noted)]
        assert note.startswith("deep.png: a PNG with 16 bits a channel; its values")


def test_a_question_without_words_or_with_unknown_keys_is_refused(searcher):
    for question, words in (
        (Question(), "has no words"),
        (Question(unlike=("test_1",)), "has no words"),
        (Question(like=("none",)), "--like: the index has no image none"),
        (Question("red", unlike=("none",)), "--unlike"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            searcher.answer(question, TOP)
        assert caught.value.hint
    with pytest.raises(UsageError, match="--rerank"):
        searcher.answer(Question(like=("test_1",)), dataclasses.replace(TOP, rerank=5))


def test_hits_with_a_lower_score_than_the_least_are_left_out(searcher):
    hits = searcher.ask("a red circle", TOP)
    least = hits[2].score - 1e-4
    kept = searcher.ask("a red circle", dataclasses.replace(TOP, min_score=least))
    assert kept == hits[: len(kept)]
    assert 3 <= len(kept) == sum(hit.score >= least for hit in hits)
    assert searcher.ask("a red circle", dataclasses.replace(TOP, min_score=1.5)) == []


def test_filters_reach_the_search(searcher):
    with pytest.raises(UsageError, match="--source XX"):
        searcher.ask("a red circle", TOP, filters=FilterConfig(source="XX"))
    assert searcher.ask("a red circle", TOP, filters=FilterConfig(bbox="0,0,1,1")) == []
    assert searcher.ask("a red circle", dataclasses.replace(TOP, rerank=5), filters=FilterConfig(tag="x")) == []


def test_exact_and_coded_search_agree_on_a_small_index(searcher):
    exact = searcher.ask("a red circle", dataclasses.replace(TOP, exact=True))
    assert exact == searcher.ask("a red circle", TOP)


def test_of_duplicates_only_the_best_is_returned(index, searcher):
    many = searcher.ask("a red circle", QueryConfig(top=20))
    few = searcher.ask("a red circle", QueryConfig(top=20, dedup=True))
    vectors = {row.key: index.vectors[k].astype(np.float32) for k, row in enumerate(index.rows(range(len(index))))}
    assert few[0].row == many[0].row
    for k, hit in enumerate(few):
        for other in few[:k]:
            assert vectors[hit.row.key] @ vectors[other.row.key] < 0.98
    assert [hit.rank for hit in few] == list(range(1, len(few) + 1))


def test_footprints_overlap_by_the_share_of_the_smaller():
    def row(*box):
        return Row("a", None, "", 0, 0, box or None)

    assert overlap(row(0, 0, 2, 2), row(1, 0, 3, 2)) == pytest.approx(0.5)
    assert overlap(row(0, 0, 10, 10), row(1, 1, 2, 2)) == pytest.approx(1)
    assert overlap(row(0, 0, 1, 1), row(2, 2, 3, 3)) == overlap(row(), row(0, 0, 1, 1)) == 0
    assert overlap(row(179, 0, -179, 1), row(-180, 0, -178, 1)) == pytest.approx(0.5)
    far = np.eye(3, dtype=np.float16)
    rows = [row(0, 0, 2, 2), row(0.5, 0, 2.5, 2), row(9, 9, 10, 10)]
    assert distinct(rows, far, 5) == [0, 2]
    assert distinct(rows, far, 1) == [0]
    assert distinct([row(), row(), row()], np.ones((3, 1), np.float16), 5) == [0]


def test_words_are_answered_without_torch(index):
    code = (
        "import sys\nimport dove_core as dove\n"
        "assert len(dove.open_index(sys.argv[1]).search('a red circle')) == 10\n"
        "heavy = {'torch', 'pandas', 'faiss', 'pyarrow.compute', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(index.folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_of_queries_is_answered_line_by_line(index, tmp_path):
    (tmp_path / "queries.txt").write_text("a red circle\n\nxyzzy\na blue square\n")
    words = ("query", "--index", str(index.folder), "--queries", str(tmp_path / "queries.txt"), "--top", "3")
    code, out, err = dove(*words, "--json")
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["query"] for line in lines] == ["a red circle", "xyzzy", "a blue square"]
    assert [len(line["hits"]) for line in lines] == [3, 0, 3]
    assert "the model knows no word of 'xyzzy'" in err
    code, out, _ = dove(*words)
    assert code == 0
    assert out.index("a red circle") < out.index("a blue square")
    for wrong in (("--sheet", "x.png"), ("--like", "x")):
        assert dove(*words, *wrong)[0] == 2
    (tmp_path / "queries.txt").write_text("\n")
    assert dove(*words)[0] == 2


def test_the_files_of_an_answer_are_written_to_the_given_paths(index, tmp_path):
    names = {"--sheet": "a/x.png", "--html": "a/x.html", "--geojson": "b/x.json", "--geoparquet": "b/x.parquet"}
    places = [part for option, name in names.items() for part in (option, str(tmp_path / name))]
    code, _, err = dove(
        "query", "a red circle", "--index", str(index.folder), *places, "--copy-to", str(tmp_path / "copies")
    )
    assert code == 0, err
    assert all((tmp_path / name).exists() for name in names.values())
    assert len(list((tmp_path / "copies").glob("*.jpg"))) == 10
    assert "0 footprints; 10 hits have no footprint" in err


def test_an_empty_answer_is_not_an_error(index):
    code, out, err = dove("query", "a red circle", "--index", str(index.folder), "--bbox", "0,0,1,1")
    assert (code, out) == (0, "")
    assert "no hits" in err


def test_without_a_query_on_a_terminal_a_dialogue_starts(index, tmp_path):
    lines = ["a red circle", ":top 3", ":like 2", ":unlike test_1", ":nonsense", ":max-gsd x", ":show",
             f":geojson {tmp_path / 'x.json'}", ":reset", ":like 1", ":help", ":quit"]  # fmt: skip
    main, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "dove_cli", "query", "--index", str(index.folder)],
        stdin=end, stdout=end, stderr=end, env={**os.environ, "TERM": "dumb", "COLUMNS": "120"},
    ) as process:  # fmt: skip
        os.close(end)
        os.write(main, "".join(line + "\n" for line in lines).encode())
        shown = b""
        while True:
            try:
                part = os.read(main, 1 << 16)
            except OSError:  # the other end is closed
                break
            shown += part
    os.close(main)
    text = shown.decode()
    assert process.returncode == 0, text
    assert "72 images" in text
    assert ":nonsense is not a command or an option" in text
    assert ":max-gsd x is not valid: expected a number" in text
    assert ":top 3" in text
    assert "unlike: test_1" in text
    assert "there is no hit 1" in text  # forgotten by :reset
    assert (tmp_path / "x.json").exists()


def test_an_image_of_pillow_of_any_mode_becomes_rgb_or_keeps_its_depth():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"):
        data, name = read_query_image(Image.new(mode, (5, 4)))
        with Image.open(io.BytesIO(data)) as image:
            assert (image.mode, image.size, name) == ("RGB", (5, 4), "your image")
    values = np.arange(20, dtype=np.uint16).reshape(4, 5) * 1000 + 1000
    for kind in (np.uint16, np.int32, np.float32):
        data, name = read_query_image(Image.fromarray(values.astype(kind)))
        seen = np.array(decode_rgb(data))
        assert (seen.shape, name) == ((4, 5, 3), "your image")
        assert (np.diff(seen[..., 0].ravel()[1:-1].astype(int)) > 10).all()
