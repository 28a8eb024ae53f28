"""The nearest rows: exact if there are few rows, with codes and a bound of their error if there are many."""

from __future__ import annotations

import numpy as np
import pytest

from dove_core.errors import SearchIndexError
from dove_core.index import nearest as module
from dove_core.index.codes import Codes, build_codes, scan
from dove_core.index.nearest import best, nearest, nearest_many

COUNT, WIDTH = 20_000, 64


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def vectors():
    """Vectors in clusters away from the origin, like those of images."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((200, WIDTH))
    rows = centres[random.integers(200, size=COUNT)] + 0.5 * random.standard_normal((COUNT, WIDTH))
    return unit(rows + random.standard_normal(WIDTH)).astype(np.float16)


@pytest.fixture(scope="module")
def codes(vectors, tmp_path_factory):
    path = tmp_path_factory.mktemp("codes") / "codes.faiss"
    build_codes(path, vectors)
    return Codes(path)


@pytest.fixture
def many(monkeypatch):
    """Make few rows count as many."""
    monkeypatch.setattr(module, "FEW", 100)
    monkeypatch.setattr(module, "FIRST", 64)


def queries(vectors, kind, count=40):
    random = np.random.default_rng(1)
    near = vectors[random.integers(COUNT, size=count)].astype(np.float32)
    far = random.standard_normal((count, WIDTH)).astype(np.float32)
    mixed = {"near": near + 0.02 * far, "apart": 0.3 * near + far / 8, "random": far}
    return unit(mixed[kind]).astype(np.float32)


def naive(vectors, query, count, keep=None):
    scores = vectors.astype(np.float32) @ query
    rows = [k for k in range(len(vectors)) if keep is None or keep[k]]
    return sorted(rows, key=lambda k: (-scores[k], k))[:count]


@pytest.mark.parametrize("kind", ["near", "apart", "random"])
@pytest.mark.parametrize("share", [None, 0.5, 0.02, 0.002])
def test_codes_find_the_rows_of_an_exact_search(vectors, codes, many, kind, share):
    keep = None if share is None else np.random.default_rng(2).random(COUNT) < share
    right = 0
    for query in queries(vectors, kind):
        rows, scores = nearest(vectors, query, 10, lambda: codes, keep)
        assert len(rows) == 10
        assert keep is None or keep[rows].all()
        assert np.allclose(scores, vectors[rows].astype(np.float32) @ query, atol=1e-6)
        assert (np.diff(scores) <= 0).all()
        right += len({*rows.tolist()} & {*naive(vectors, query, 10, keep)})
    assert right >= 0.99 * 400, kind


@pytest.mark.parametrize("every", [None, 2, 7, COUNT // 4])  # the last leaves fewer rows than are wanted
@pytest.mark.parametrize("coded", [True, False])
def test_several_queries_at_once_have_the_results_of_single_queries(vectors, codes, many, every, coded):
    keep = None if every is None else np.arange(COUNT) % every == 0
    opens = (lambda: codes) if coded else None
    asked = np.concatenate([queries(vectors, "near", 5), queries(vectors, "random", 3)])
    together = nearest_many(vectors, asked, 10, opens, keep)
    for query, (rows, scores) in zip(asked, together, strict=True):
        alone = nearest(vectors, query, 10, opens, keep)
        assert rows.tolist() == alone[0].tolist()
        assert np.allclose(scores, alone[1])


def test_a_query_far_from_all_data_is_compared_with_all_rows(vectors, codes, many, monkeypatch):
    asked = []

    class Spy:
        def nearest(self, queries, count):
            asked.append(count)
            return codes.nearest(queries, count)

    for kind, most in (("near", 1), ("random", 3)):
        asked.clear()
        query = queries(vectors, kind)[0]
        rows, _ = nearest(vectors, query, 10, Spy)
        assert rows.tolist() == naive(vectors, query, 10)
        assert 1 <= len(asked) <= most
        assert asked == sorted(asked)
        assert max(asked) <= COUNT // 32  # comparing all rows is faster than more


@pytest.mark.parametrize("share", [None, 0.5])
def test_without_codes_the_answer_is_exact_and_equal_scores_are_sorted_by_row(vectors, many, share):
    doubled = np.concatenate([vectors[:500], vectors[:500]])
    keep = None if share is None else np.random.default_rng(2).random(1000) < share
    for query in queries(vectors, "apart", 10):
        rows, _ = nearest(doubled, query, 7, None, keep)
        assert rows.tolist() == naive(doubled, query, 7, keep)


def test_few_rows_need_no_codes(vectors):
    def refuse():
        raise AssertionError("codes were opened")

    query = queries(vectors, "near")[0]
    assert nearest(vectors[:90], query, 5, refuse)[0].tolist() == naive(vectors[:90], query, 5)
    keep = np.zeros(COUNT, bool)
    keep[[5, 3, 9]] = True
    assert sorted(nearest(vectors, query, 5, refuse, keep)[0].tolist()) == [3, 5, 9]
    assert nearest(vectors, query, 5, refuse, np.zeros(COUNT, bool))[0].tolist() == []


@pytest.mark.parametrize("share", [100, 777, 10_000])
@pytest.mark.parametrize("kept", [1.0, 0.3, 0.001])
def test_scanning_is_exact_for_any_number_of_threads_and_any_filter(vectors, monkeypatch, share, kept):
    monkeypatch.setattr("dove_core.index.codes._SHARE", share)
    monkeypatch.setattr("faiss.omp_get_max_threads", lambda: 7)
    keep = np.random.default_rng(8).random(5000) < kept
    monkeypatch.setattr("dove_core.index.codes._BLOCK", 300)
    asked = queries(vectors, "near", 5)
    alone = [scan(vectors[:5000], query[None], 9, keep)[0] for query in asked]
    for query, own, together in zip(asked, alone, scan(vectors[:5000], asked, 9, keep), strict=True):
        assert set(own.tolist()) == set(together.tolist()) == set(naive(vectors[:5000], query, 9, keep))
    for query, own in zip(asked, scan(vectors[:5000], asked, 9), strict=True):
        assert set(own.tolist()) == set(naive(vectors[:5000], query, 9))


def test_a_scan_of_fewer_rows_than_wanted_finds_all_of_them(vectors):
    keep = np.zeros(5000, bool)
    keep[[3, 4999]] = True
    assert set(scan(vectors[:5000], vectors[:1].astype(np.float32), 9, keep)[0].tolist()) == {3, 4999}


def test_of_equal_scores_the_first_rows_are_taken():
    rows, scores = best(np.array([9, 4, 7, 2, 5]), np.array([1.0, 2.0, 1.0, 1.0, 0.0]), 3)
    assert rows.tolist() == [4, 2, 7]
    assert scores.tolist() == [2, 1, 1]


@pytest.mark.parametrize("content", [None, b"", b"no index at all", "cut"])
def test_damaged_codes_are_named(tmp_path, vectors, content):
    path = tmp_path / "codes.faiss"
    if content == "cut":
        build_codes(path, vectors[:2000])
        path.write_bytes(path.read_bytes()[:5000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SearchIndexError, match=r"codes\.faiss cannot be read") as caught:
        Codes(path)
    assert "--exact" in caught.value.hint


def test_codes_are_small(tmp_path, vectors):
    build_codes(tmp_path / "codes.faiss", vectors)
    assert (tmp_path / "codes.faiss").stat().st_size < COUNT * (WIDTH / 8 + 10)
