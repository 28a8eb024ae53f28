"""Searches that learn from marks: what is confirmed comes first, what is rejected is gone, and the rest is reported."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dove_core as dove
from dove_core.config import EmbedConfig, QueryConfig
from dove_core.errors import UsageError
from dove_core.events import Noted
from dove_core.index.embed import embed
from dove_core.review.learn import LearnedSearch, learn
from dove_core.review.marks import Mark
from dove_core.review.store import Marks, marks_path
from dove_core.search.query import Searcher
from dove_core.search.question import Question
from tests.conftest import ALONE

ROOT = Path(__file__).parents[2]
DOVE = [sys.executable, "-m", "dove_cli"]


@pytest.fixture(scope="module")
def index(trained, shapes, tmp_path_factory):
    return embed(trained / "best", shapes, tmp_path_factory.mktemp("work") / "index" / "shapes", EmbedConfig(), ALONE)


@pytest.fixture(scope="module")
def searcher(index):
    return Searcher.open(index.folder, ALONE)


def with_word(searcher, word):
    """Return the keys of images with a word in their caption, and of those without it."""
    rows = searcher.index.rows(range(len(searcher.index)))
    return [[row.key for row in rows if (word in (row.caption or "")) == wanted] for wanted in (True, False)]


def asked(searcher, marks, text="a red circle", **query):
    notes = []
    refine = LearnedSearch(searcher.index, marks, notes.append)
    hits = searcher.answer(Question(text), QueryConfig(**query), refine=refine)
    return hits, [note.message for note in notes if isinstance(note, Noted)]


@pytest.mark.parametrize("colour", ["green", "yellow"])
def test_marks_of_a_kind_bring_the_rest_of_that_kind_to_the_front(searcher, colour):
    right, wrong = with_word(searcher, colour)
    text, count = "a red circle", len(right)
    marks = [Mark(key, text, "confirm") for key in right[:6]] + [Mark(key, text, "reject") for key in wrong[:12]]
    plain = searcher.ask(text, QueryConfig(top=count))
    hits, notes = asked(searcher, marks, top=count)
    rest = set(right[6:])
    assert len(rest & {hit.row.key for hit in hits}) > len(rest & {hit.row.key for hit in plain})
    assert notes == ["ranked by 6 confirmed and 12 rejected images"]
    assert len(hits) == count
    assert not {hit.row.key for hit in hits} & set(wrong[:12])  # rejected images are no hits
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_learned_direction_ranks_as_the_regression_and_the_query_together_do(searcher):
    from sklearn.linear_model import LogisticRegression

    index, marked, confirmed = searcher.index, np.array([3, 8, 20]), np.array([True, False, True])
    vectors = np.asarray(index.vectors, np.float32)
    direction = vectors[5] / np.linalg.norm(vectors[5])
    others = np.delete(vectors, marked, axis=0)
    scale = np.sqrt(((others - others.mean(0)) ** 2).sum(1).mean())
    scaled = (np.concatenate([vectors[marked], others]) - others.mean(0)) / scale
    labels = [*confirmed, *[False] * len(others)]
    model = LogisticRegression(C=10, max_iter=1000).fit(scaled, labels, [1.0] * 3 + [5 / len(others)] * len(others))
    by_query, by_marks = vectors @ direction, vectors @ model.coef_[0]
    keep = np.delete(np.arange(len(vectors)), marked)
    expected = by_query / by_query[keep].std() + np.sqrt(0.3) * by_marks / by_marks[keep].std()
    found = vectors @ learn(index, direction, marked, confirmed)
    assert np.corrcoef(found, expected)[0, 1] > 0.9999


def test_marks_that_cannot_be_used_are_reported(searcher):
    (one, other, *_), _ = with_word(searcher, "cross")
    text = "a red circle"
    _, notes = asked(searcher, [Mark("gone", text, "confirm"), Mark(one, "A red  Circle", "confirm")])
    assert notes == [
        "1 marked images are not in the index; their marks are kept",
        "ranked by 1 confirmed and 0 rejected images",
    ]
    hits, notes = asked(searcher, [Mark(one, "a blue square", "confirm")])
    assert notes == ["no marks for 'a red circle'; there are marks for: a blue square"]
    assert hits == searcher.ask(text)
    hits, notes = asked(searcher, [Mark(searcher.ask(text)[0].row.key, text, "reject")])
    assert notes == ["no image is confirmed for 'a red circle': ranked by the query, without rejected images"]
    assert [hit.row for hit in hits[:9]] == [hit.row for hit in searcher.ask(text)[1:]]
    taken_back = [Mark(one, text, "confirm"), Mark(one, text, "withdraw")]
    hits, notes = asked(searcher, taken_back)
    assert hits == searcher.ask(text)
    assert notes[0].startswith("no marks for 'a red circle'")
    split = [Mark(other, text, "confirm", who="eva"), Mark(other, text, "reject", who="ben")]
    _, notes = asked(searcher, [*split, Mark(one, text, "confirm")])
    assert notes[0] == "1 marked images are not used: as many confirm as reject them"


def test_several_queries_are_each_ranked_by_their_own_marks(searcher):
    right, _ = with_word(searcher, "cross")
    marks = [Mark(key, "a red circle", "confirm") for key in right[:5]]
    refine = LearnedSearch(searcher.index, marks)
    answers = dict(searcher.answer_all(["a red circle", "a blue square"], refine=refine))
    assert answers["a red circle"] == searcher.answer(Question("a red circle"), refine=refine)
    assert answers["a blue square"] == searcher.ask("a blue square")


def test_without_scikit_learn_the_error_says_what_to_install(searcher, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(UsageError, match="scikit-learn") as caught:
        asked(searcher, [Mark(searcher.index.rows([0])[0].key, "a red circle", "confirm")])
    assert caught.value.hint == "install it with `pip install 'dove-eo[review]'`"


def test_marks_lie_beside_the_index_and_survive_that_it_is_removed_and_made_again(trained, shapes, tmp_path):
    folder = tmp_path / "index" / "mine"
    embed(trained / "best", shapes / "test", folder, EmbedConfig(), ALONE)
    index = dove.open_index(folder)
    key = index.rows([0])[0].key
    mark = index.mark(key, "a red circle", "confirm", note="clear", who="eva")
    assert index.marks.path == tmp_path / "index" / "mine.marks.sqlite"
    assert mark.model == index.searcher.index.fingerprint
    with pytest.raises(UsageError, match="has no image nowhere"):
        index.mark("nowhere", "a red circle", "confirm")
    shutil.rmtree(folder)
    embed(trained / "best", shapes / "test", folder, EmbedConfig(), ALONE)
    again = dove.open_index(f"{folder}/")
    assert again.marks.current() == [mark]
    by_file, by_list = (again.search("a red circle", marks=marks) for marks in (again.marks.path, [mark]))
    assert [hit.row for hit in by_file] == [hit.row for hit in by_list]
    assert by_file.notes[-1] == "ranked by 1 confirmed and 0 rejected images"


def test_the_commands_import_rank_and_export_marks(index, tmp_path):
    work, best = index.folder.parents[1], index.rows([0, 1])
    marks = [Mark(best[0].key, "a red circle", "confirm"), Mark(best[1].key, "a red circle", "reject")]
    lines = [f"{mark.key},{mark.query},{mark.verdict}" for mark in marks]
    (tmp_path / "in.csv").write_text("\n".join(["key,query,verdict", *lines, "gone,a red circle,confirm", ""]))

    def run(*words):
        return subprocess.run([*DOVE, *words], capture_output=True, text=True, cwd=work, env=None, check=False)

    done = run("query", "a red circle", "--marks", "auto")
    assert done.returncode == 4 and "shapes.marks.sqlite does not exist" in done.stderr
    assert "hint: add marks first: dove marks import FILE.csv" in done.stderr
    done = run("marks", "import", str(tmp_path / "in.csv"))
    assert done.returncode == 0, done.stderr
    assert "3 of 3 marks are new" in done.stderr and "1 of 3 marked images are not in the index" in done.stderr
    for marks_file in ("auto", str(tmp_path / "in.csv")):
        done = run("query", "a red circle", "--marks", marks_file, "--json", "--top", "72")
        assert "ranked by 1 confirmed and 1 rejected images" in done.stderr
        keys = [json.loads(line)["key"] for line in done.stdout.splitlines()]
        assert len(keys) == len(index) - 1
        assert best[1].key not in keys
    done = run("marks", "export", str(tmp_path / "out.geojson"))
    assert "3 marks, 1 of them of images that are not in the index" in done.stderr
    features = json.loads((tmp_path / "out.geojson").read_text())["features"]
    assert [one["properties"]["in_index"] for one in features] == [True, True, False]
    assert all(one["geometry"] is None for one in features)  # shapes have no footprints
    assert run("marks", "export", str(tmp_path / "out.csv")).returncode == 0
    done = run("marks", "import", str(tmp_path / "out.csv"))
    assert "0 of 3 marks are new" in done.stderr
    done = run("marks", "export", str(tmp_path / "out.xls"))
    assert done.returncode == 2 and "hint: write marks.csv or marks.geojson" in done.stderr
    assert marks_path(index) == Marks(work / "index" / "shapes.marks.sqlite").path


def test_marks_in_geojson_have_the_footprint_of_their_image(index):
    from dove_core.answers.geo import marks_geojson_of

    class Placed:
        """The index with a footprint for each row."""

        find = index.find

        def rows(self, numbers):
            return [dataclasses.replace(row, box=(10.0, 50.0, 11.0, 51.0)) for row in index.rows(numbers)]

    mark = Mark(index.rows([0])[0].key, "a red circle", "confirm", when="2026-11-28")
    [feature] = marks_geojson_of([mark], Placed())["features"]
    assert feature["bbox"] == (10.0, 50.0, 11.0, 51.0)
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["properties"]["verdict"] == "confirm"
    assert feature["properties"]["caption"]
