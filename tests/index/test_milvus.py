"""A collection in Milvus returns the answers of the index on disk.

All tests run with Milvus Lite and the client for servers. If DOVE_TEST_MILVUS is set to http://HOST:19530, they run
against that server too.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dove_core.config import EmbedConfig, FilterConfig, PushConfig, QueryConfig, RankConfig, VerifyConfig
from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.encoding.load import load_encoder
from dove_core.errors import DataError, SearchIndexError, UsageError
from dove_core.events import Started
from dove_core.index.build import build_index
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from dove_core.index.milvus.address import CollectionAddress, collection_name, is_address, parse_address
from dove_core.index.milvus.agreement import compare_answers
from dove_core.index.milvus.collection import Collection
from dove_core.index.milvus.push import push_index
from dove_core.index.milvus.remote import RemoteIndex
from dove_core.index.milvus.schema import tag_elements, tags_of
from dove_core.index.parts import PartMark, write_part
from dove_core.places import Folder
from dove_core.search.query import Searcher
from dove_core.search.question import Question
from tests.cli.test_commands import dove
from tests.conftest import ALONE

ROOT = Path(__file__).parents[2]
SERVER = os.environ.get("DOVE_TEST_MILVUS", "")
WHERE = [
    "lite",
    pytest.param("server", marks=pytest.mark.skipif(not SERVER, reason="DOVE_TEST_MILVUS names no server")),
]
COUNTS = [700, 40, 0, 460]
SOURCES = ["CH", "US", "S2", 'o"dd', "it's", "back\\slash", "\u00fcn\u00ef \U0001f6f0", None]
KEYS = ["highway", "bridge", "na=me", "%3D", 'q"uote', "\u8def", "a\\b"]
VALUES = ["motorway", "yes", 'x "highway": "motorway"', "a=b", "%", "\u00e9t\u00e9", "back\\", "it's"]
TIMES = ["2019", "2019-07", "2019-07-03", "2019-07-03T10:20", "2020-12", "2021-01-01", None]


def sample_of(number, random):
    west, south = random.uniform(-180, 180), random.uniform(-90, 85)
    east, north = west + 10 ** random.uniform(-3, 1), south + random.uniform(0.001, 4)
    box = (float(west), float(south), float(east - 360 * (east > 180)), float(north)) if random.random() < 0.9 else None
    tags = {str(random.choice(KEYS)): str(random.choice(VALUES)) for _ in range(random.integers(4))}
    captions = {"title": (f'a "{number}" \u00e9',)} if number % 5 else {}
    gsd = None if number % 3 else float(random.choice([0.1, 0.6, 10.0]))
    return Sample(f"k{number % 1150}", "", captions, box, random.choice(TIMES), random.choice(SOURCES), gsd, tags)


def make_index(folder, checkpoint, counts, dim=32, seed=0):
    """Write an index of random vectors, some of them equal, with metadata of all kinds and without images."""
    random, first = np.random.default_rng(seed), 0
    folder.mkdir(parents=True)
    mark = PartMark(load_encoder(checkpoint).fingerprint, "", str(seed))
    for part, count in enumerate(counts):
        samples = [sample_of(first + k, random) for k in range(count)]
        vectors = random.normal(size=(count, dim)) + 3 * np.eye(dim)[random.integers(0, 4, count)]
        vectors[5:9] = vectors[4:5]
        records = [Record(k, f"{part}.tar", 512 * k, 99, b"", sample) for k, sample in enumerate(samples)]
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        write_part(Folder(folder), part, records, unit, field="title", mark=mark)
        first += count
    encoder = load_encoder(checkpoint)
    assert encoder.dim == dim
    build_index(Folder(folder), encoder, list(counts), checkpoint=Folder(checkpoint), shards=Folder(folder))
    return folder


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("index") / "places", trained / "best", COUNTS)


@pytest.fixture(scope="module", params=WHERE)
def server(request, tmp_path_factory):
    return SERVER if request.param == "server" else str(tmp_path_factory.mktemp("lite") / "local.db")


@pytest.fixture
def name(server):
    """A new name for a collection, which is dropped afterwards."""
    address = CollectionAddress(server, f"dove_test_{secrets.token_hex(4)}")
    yield str(address)
    collection = Collection(address, create=True)
    if collection.exists():
        collection.drop()


@pytest.fixture(scope="module")
def pushed(server, folder):
    """The address of the index's collection."""
    to = f"{server}/dove_test_{secrets.token_hex(4)}"
    events = []
    done = push_index(folder, to, PushConfig(), report=events.append)
    assert (str(done.address), done.rows, done.written) == (to, 1200, 1200)
    assert Started("pushing", 1200, "rows", 0) in events
    yield to
    Collection(parse_address(to)).drop()


@pytest.fixture(scope="module")
def imaged(trained, shapes, server, tmp_path_factory):
    """An index whose images exist, and the address of its collection."""
    folder = tmp_path_factory.mktemp("index") / "shapes"
    embed(trained / "best", shapes, folder, EmbedConfig(), ALONE)
    to = f"{server}/dove_test_{secrets.token_hex(4)}"
    push_index(folder, to, PushConfig())
    yield folder, to
    Collection(parse_address(to)).drop()


@pytest.fixture(scope="module")
def both(folder, pushed):
    return Searcher.open(folder, ALONE), Searcher.open(pushed, ALONE)


def assert_same(one, other):
    assert [hit.row for hit in other] == [hit.row for hit in one]
    assert [hit.score for hit in other] == pytest.approx([hit.score for hit in one], abs=1e-5)


FILTERS = [
    {}, {"bbox": "-10,-20,40,50"}, {"bbox": "170,-90,-170,90"}, {"bbox": "-180,-90,180,90"},
    {"bbox": "179.9,-90,180,0"},
    {"bbox": "1e-7,-0.0,5e-05,90"}, {"near": "10,20", "within": "2000km"}, {"near": "-80,179", "within": "900mi"},
    {"near": "89.9,0", "within": "3000km"}, {"near": "0,-179.9", "within": "1500nmi"}, {"near": "1,2", "within": "1m"},
    {"datetime": "2019"}, {"datetime": "../2019-06"}, {"datetime": "2020-06/.."}, {"datetime": "2019-07-03T10:20:30Z"},
    {"source": "CH"}, {"source": 'US, o"dd'}, {"source": "it's,back\\slash"}, {"source": "\u00fcn\u00ef \U0001f6f0"},
    {"max_gsd": 0.6}, {"max_gsd": 0.05}, {"max_gsd": float("inf")},
    {"tag": "highway=motorway"}, {"tag": "highway"}, {"tag": "bridge,highway"},
    {"tag": 'highway=x "highway": "motorway"'},
    {"tag": "uote"}, {"tag": "na=me"}, {"tag": "%3D"},
    {"tag": "%3D=a=b"}, {"tag": 'q"uote=back\\'}, {"tag": "\u8def=\u00e9t\u00e9"},
    {"tag": "a\\b"}, {"tag": "highway=it's"}, {"tag": ","},
    {"bbox": "-90,-60,90,60", "datetime": "2019", "source": "CH,US", "tag": "highway"},
]  # fmt: skip


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_every_filter_selects_the_same_rows_as_on_disk(both, filters):
    here, there = both
    for text in ("a red circle", "a blue square on grey ground"):
        found = [one.ask(text, QueryConfig(), RankConfig(), FilterConfig(**filters)) for one in both]
        assert_same(*found)
    everything = [one.ask("red", QueryConfig(top=1200), RankConfig(), FilterConfig(**filters)) for one in both]
    assert_same(*everything)
    keep = here.index.kept(FilterConfig(**filters))
    assert len(everything[1]) == (1200 if keep is None else keep.sum())
    assert len(there.index) == 1200


INJECTIONS = [
    'x" or id >= 0 or key == "', "x' or id >= 0 or key == '", 'x\\" or id >= 0 or key == \\"', "x\\", '"', "\\\\\"",
    "x\n", "\t",
    "x\r\n", '") or (id >= 0', "{x}", "%", "\x00", "\u2028", "\U0001f6f0\u202e", "]", "id", "$meta", "/* */", "\\u0022",
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS, ids=ascii)
def test_no_text_can_inject_an_expression(both, text):
    for filters in ({"tag": text}, {"tag": f"highway={text}"}, {"source": text}, {"source": f"{text} CH"}):
        found = []
        for one in both:
            try:
                found.append(one.ask("red", QueryConfig(top=1200), RankConfig(), FilterConfig(**filters)))
            except UsageError as error:
                found.append(error.message)
        assert isinstance(found[0], str) == isinstance(found[1], str)
        if isinstance(found[0], str):
            assert found[0] == found[1]
        else:
            assert_same(*found)
    assert both[1].index.find([text, "k7"]) == {"k7": 7}


def test_invalid_filters_have_the_same_error_as_on_disk(both):
    for filters in ({"bbox": "1,2,3"}, {"near": "1,2"}, {"datetime": "yesterday"}, {"source": "XX"}, {"tag": "=x"}):
        errors = []
        for one in both:
            with pytest.raises(UsageError) as caught:
                one.ask("red", QueryConfig(), RankConfig(), FilterConfig(**filters))
            errors.append((caught.value.message, caught.value.hint))
        assert errors[0] == errors[1]


def test_examples_dedup_min_score_and_several_queries_return_the_hits_of_the_index_on_disk(both):
    for question, query in (
        (Question(like=("k5", "k900"), unlike=("k30",)), QueryConfig(top=20)),
        (Question("a red circle", like=("k3",)), QueryConfig(top=7, min_score=0.2)),
        (Question("a red circle"), QueryConfig(top=30, dedup=True)),
        (Question("a red circle"), QueryConfig(exact=True)),
    ):
        assert_same(*(one.answer(question, query, RankConfig()) for one in both))
    texts = ["red", "blue square", "a green cross", "circle"]
    filters = FilterConfig(bbox="-100,-60,100,60")
    answers = [list(one.answer_all(texts, QueryConfig(), RankConfig(), filters)) for one in both]
    for (text, here), (other, there) in zip(*answers, strict=True):
        assert text == other
        assert_same(here, there)
    with pytest.raises(UsageError, match="the index has no image nonsense"):
        both[1].answer(Question(like=("nonsense",)), QueryConfig(), RankConfig())
    with pytest.raises(UsageError, match="at most 16,384 rows"):
        both[1].ask("red", QueryConfig(top=20_000), RankConfig())


def test_every_output_of_a_query_equals_that_of_the_index_on_disk(imaged, tmp_path):
    outputs = []
    for number, index in enumerate(map(str, imaged)):
        made = tmp_path / str(number)
        common = ("a red circle", "--index", index, "--device", "cpu")
        files = [("--sheet", "s.png"), ("--geojson", "g.json"), ("--copy-to", "copies"), ("--html", "p.html")]
        words = [word for option, name in files for word in (option, str(made / name))]
        code, out, err = dove("query", *common, "--json", *words)
        assert code == 0, err
        table = dove("query", *common)[1]
        reranked = [
            json.loads(line)["key"] for line in dove("query", *common, "--rerank", "20", "--json")[1].splitlines()
        ]
        image = str(next((made / "copies").glob("001_*.jpg")))
        alike = [
            json.loads(line)["key"] for line in dove("query", "--image", image, *common[1:], "--json")[1].splitlines()
        ]
        found = [{**json.loads(line), "score": 0} for line in out.splitlines()]
        copies = sorted((path.name, path.read_bytes()) for path in (made / "copies").glob("*.jpg"))
        seen = [(made / name).read_bytes() for name in ("s.png", "g.json")]
        outputs.append([found, table, reranked, alike, copies, seen])
        assert len(found) == len(reranked) == len(copies) == 10
    assert outputs[0] == outputs[1]


def test_the_text_side_comes_from_the_recorded_or_the_given_checkpoint_or_the_only_run(
    imaged, trained, tmp_path, monkeypatch
):
    folder, to = imaged
    words = ("query", "a red circle", "--index", to, "--json")
    as_pushed = dove(*words)[1]
    assert as_pushed == dove(*words, "--checkpoint", str(folder / "words"))[1]
    address = parse_address(to)
    card = Collection(address).card()
    elsewhere = CollectionAddress(address.server, f"dove_test_{secrets.token_hex(4)}")
    monkeypatch.chdir(tmp_path)
    moved = shutil.copytree(folder, tmp_path / "moved")
    manifest = json.loads((moved / "index.json").read_text())
    (moved / "index.json").write_text(json.dumps({**manifest, "checkpoint": "gone"}))
    push_index(moved, str(elsewhere), PushConfig())
    assert Collection(elsewhere).card().content == card.content
    code, _, err = dove("query", "a red circle", "--index", str(elsewhere))
    assert code == 5
    assert "--checkpoint" in err
    shutil.copytree(trained, tmp_path / "runs" / "only")
    code, out, err = dove("query", "a red circle", "--index", str(elsewhere), "--json")
    assert (code, out) == (0, as_pushed)
    assert "using runs/only/best" in err
    Collection(elsewhere).drop()


def test_missing_images_are_an_error_that_names_their_folder(both, pushed, tmp_path):
    with pytest.raises(SearchIndexError, match="cannot be read"):
        both[1].ask("red", QueryConfig(rerank=5), RankConfig())
    moved = Searcher.open(pushed, ALONE, shards=tmp_path / "gone")
    with pytest.raises(SearchIndexError, match="has no images") as caught:
        moved.ask("red", QueryConfig(rerank=5), RankConfig())
    assert "--shards" in caught.value.hint


def test_the_command_prints_recall_for_each_filter(folder, pushed):
    code, out, err = dove("index", "verify", str(folder), "--against", pushed, "--sample", "6", "--json")
    assert code == 0, err
    found = json.loads(out)["filters"]
    assert set(found) == {"none", "bbox", "near", "datetime", "source", "max-gsd", "tag"}
    assert all(one == {"queries": 6, "recall": 1.0, "wrong": 0} for one in found.values())
    code, out, _ = dove("index", "verify", str(folder), "--against", pushed, "--sample", "2", "--top", "3")
    assert code == 0
    assert "recall@3" in out
    assert out.count("1.0000") == 7


def test_exact_search_in_an_approximate_index_is_an_error(folder, name):
    push_index(folder, name, PushConfig(vector_index="hnsw"))
    found = compare_answers(folder, name, VerifyConfig(sample=4))
    assert [one.queries for one in found] == [4] * 7
    assert found[0].recall > 0.5
    searcher = Searcher.open(name, ALONE)
    assert len(searcher.ask("red", QueryConfig(), RankConfig())) == 10
    with pytest.raises(UsageError, match="approximate vector index hnsw"):
        searcher.ask("red", QueryConfig(exact=True), RankConfig())


def test_wrong_vectors_are_found(folder, name):
    push_index(folder, name, PushConfig())
    collection = Collection(parse_address(name))
    entities = collection.read(range(300), ["*"])
    vectors = np.roll([entity.pop("vector") for entity in entities], 1, axis=0)
    collection.write(
        [{**entity, "vector": vector} for entity, vector in zip(entities, vectors, strict=True)], again=True
    )
    code, out, err = dove("index", "verify", str(folder), "--against", name, "--sample", "5", "--json")
    assert code == 6
    assert json.loads(out)["filters"]["none"]["wrong"] > 0
    assert "have a different score" in err


def test_a_second_push_writes_nothing_and_overwrite_writes_everything(folder, pushed, name):
    assert push_index(folder, name, PushConfig()).written == 1200
    assert push_index(folder, name, PushConfig()).written == 0
    events = []
    assert push_index(folder, name, PushConfig(), overwrite=True, report=events.append).written == 1200
    assert any("replacing" in getattr(event, "message", "") for event in events)
    with pytest.raises(SearchIndexError, match="has the vector index flat, not hnsw"):
        push_index(folder, name, PushConfig(vector_index="hnsw"))


def test_a_killed_push_resumes(folder, server, name, tmp_path):
    to = name if server == SERVER else f"{tmp_path / 'killed.db'}/places"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom dove_core.config import PushConfig\n"
        "from dove_core.events import Advanced\nfrom dove_core.index.milvus.push import push_index\nseen = []\n"
        "def report(event):\n    seen.extend([event] if isinstance(event, Advanced) else [])\n"
        "    if len(seen) == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "push_index(Path(sys.argv[1]), sys.argv[2], PushConfig(), report=report)\n"
    )
    command = [sys.executable, "-c", script, str(folder), to]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120)
    assert done.returncode == -9, done.stderr
    with pytest.raises(SearchIndexError, match="has 500 of 1200 rows") as caught:
        Searcher.open(to, ALONE)
    assert "run `dove index push` again" in caught.value.hint
    push_index(folder, to, PushConfig())
    assert all((one.recall, one.wrong) == (1.0, 0) for one in compare_answers(folder, to, VerifyConfig(sample=3)))


def test_a_push_writes_only_parts_with_missing_rows(folder, name):
    push_index(folder, name, PushConfig())
    collection = Collection(parse_address(name))
    with collection._translate_errors():
        collection._client.delete(collection.address.collection, filter="id >= 720 and id < 800")
    events = []
    done = push_index(folder, name, PushConfig(), report=events.append)
    assert done.written == 500  # parts of 40 and 460 rows; that of 700 is whole
    assert Started("pushing", 1200, "rows", 700) in events
    assert collection.count() == 1200


def test_a_collection_of_another_model_or_another_program_is_an_error(folder, trained, name, tmp_path):
    other = shutil.copytree(trained / "best", tmp_path / "other")
    content = json.loads((other / "vocabulary.json").read_text())
    (other / "vocabulary.json").write_text(json.dumps({**content, "words": [*content["words"][:-1], "zebra"]}))
    push_index(folder, name, PushConfig())
    searcher = Searcher.open(name, ALONE, checkpoint=other)
    with pytest.raises(SearchIndexError, match="was made by the model") as caught:
        searcher.ask("red", QueryConfig(), RankConfig())
    assert "--checkpoint" in caught.value.hint
    with pytest.raises(SearchIndexError, match="was made by the model"):
        searcher.answer(Question(image=(b"", "x")))
    index = make_index(tmp_path / "places", other, [30])
    with pytest.raises(SearchIndexError, match="was made by the model") as caught:
        push_index(index, name, PushConfig())
    assert "--overwrite" in caught.value.hint
    with pytest.raises(SearchIndexError, match="another model or another version"):
        compare_answers(index, name, VerifyConfig())
    with pytest.raises(SearchIndexError, match="another version of the index"):
        push_index(make_index(tmp_path / "grown", trained / "best", [30]), name, PushConfig())
    assert push_index(index, name, PushConfig(), overwrite=True).rows == 30
    collection = Collection(parse_address(name))
    collection.drop()
    with collection._translate_errors():
        collection._client.create_collection(collection.address.collection, dimension=4)
    for overwrite in (False, True):
        with pytest.raises(SearchIndexError, match="was not made by `dove index push`"):
            push_index(index, name, PushConfig(), overwrite=overwrite)


def test_a_text_too_long_for_milvus_is_an_error_that_names_its_image(trained, name, tmp_path):
    folder = make_index(tmp_path / "long", trained / "best", [3])
    records = [Record(0, "a.tar", 0, 9, b"", Sample("long", "", {"title": ("\u00e9" * 40_000,)}))]
    mark = PartMark(load_encoder(trained / "best").fingerprint, "", "")
    write_part(Folder(folder), 0, records, np.eye(1, 32), field="title", mark=mark)
    model = Folder(trained / "best")
    build_index(Folder(folder), load_encoder(model), [1], checkpoint=model, shards=Folder(folder))
    with pytest.raises(DataError, match="long has more than 65,535 bytes in a text"):
        push_index(folder, name, PushConfig())


def test_an_unreachable_server_is_an_error_that_names_it(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        server = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for words in (
            ("query", "red", "--index", f"{server}/places"),
            ("index", "push", str(folder), "--to", server),
            ("index", "verify", str(folder), "--against", f"{server}/places"),
        ):
            code, out, err = dove(*words)
            assert (code, out) == (6, "")
            assert f"{server} cannot be reached" in err.replace("\n", "")
            assert "check that the server runs" in err


def test_a_server_that_does_not_answer_is_an_error(folder):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(SearchIndexError, match="cannot be reached"):
            RemoteIndex.open(f"http://127.0.0.1:{deaf.getsockname()[1]}/places")


def test_a_missing_collection_is_an_error_that_lists_the_others(pushed, server, tmp_path):
    with pytest.raises(SearchIndexError, match="has no collection nothing") as caught:
        Searcher.open(f"{server}/nothing", ALONE)
    assert parse_address(pushed).collection in caught.value.message
    with pytest.raises(SearchIndexError, match="is not a Milvus Lite database"):
        Searcher.open(f"{tmp_path}/none.db/places", ALONE)
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(UsageError, match="has no collection name"):
        Searcher.open(server, ALONE)


def test_a_database_open_in_another_process_is_an_error(folder, tmp_path):
    to = f"{tmp_path / 'busy.db'}/places"
    push_index(folder, to, PushConfig())
    command = [sys.executable, "-m", "dove_cli", "query", "red", "--index", to]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 6
    assert "one process at a time" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_package_is_named_with_the_command_that_installs_it(folder, monkeypatch):
    for package in ("pymilvus", "milvus_lite"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            code, _, err = dove("index", "push", str(folder), "--to", "local.db")
        assert code == 2
        assert package.replace("_", "-") in err
        assert "hint: pip install pymilvus milvus-lite" in err


def test_a_query_on_disk_imports_no_client(folder):
    code = (
        "import sys\nfrom dove_cli.main import app\nsys.argv = ['dove', 'query', 'red', '--index', sys.argv[1]]\n"
        "try: app()\nexcept SystemExit as end: assert not end.code\n"
        "sys.exit(str({'pymilvus', 'grpc', 'torch'} & set(sys.modules) or ''))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stderr.strip() == "", done.stderr


def test_addresses_are_parsed_and_names_made_valid():
    assert parse_address("http://milvus:19530/sky") == CollectionAddress("http://milvus:19530", "sky")
    assert parse_address("https://a.b:443/", collection="x") == CollectionAddress("https://a.b:443", "x")
    assert parse_address("local.db/sky") == CollectionAddress("local.db", "sky")
    assert parse_address("file:///data/a.db/sky") == CollectionAddress("/data/a.db", "sky")
    assert parse_address("a/b.db", collection="x") == CollectionAddress("a/b.db", "x")
    for text in (
        "http://h:1/a/b",
        "http://h:1/a-b",
        "http://h:1/1a",
        "http:///x",
        "http://h:99999/x",
        "http://h:/x",
        "file:///a/b",
        "a.db/b/c",
        "http://h:1",
    ):
        with pytest.raises(UsageError) as caught:
            parse_address(text)
        assert caught.value.hint
    assert all(map(is_address, ("http://h/x", "x.db", "x.db/y", "file:///z.db/y")))
    assert not any(map(is_address, ("file:///z", "s3://bucket/index", "index", "a/b")))
    assert not any(map(is_address, ("index/a", "a", "db", "a.db.old")))
    assert [collection_name(name) for name in ("sky", "sky-test.1", "1a")] == ["sky", "sky_test_1", "_1a"]


def test_tags_are_read_as_they_were_written():
    tags = {"a": "b", "a=b": "c=d", "%3D": "%", "": "x", "é": ""}
    assert tags_of(tag_elements(tags)) == tags


def test_rows_and_vectors_of_a_collection_equal_those_on_disk(folder, both):
    index = SearchIndex(folder)
    numbers = [0, 699, 700, 1199]
    assert both[1].index.rows(numbers) == index.rows(numbers)
    assert np.array_equal(both[1].index.vectors_of(numbers), index.vectors[numbers].astype(np.float32))
