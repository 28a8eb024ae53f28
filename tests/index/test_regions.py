"""Stored regions: re-ranking with them reads no images and returns the order of the model."""

from __future__ import annotations

import numpy as np
import pytest

from dove_core.config import EmbedConfig, QueryConfig, RankConfig
from dove_core.errors import SearchIndexError
from dove_core.index.embed import embed
from dove_core.index.regions import StoredRegions, region_records, regions_name, write_regions
from dove_core.places import Folder
from dove_core.search.query import Searcher
from tests.conftest import ALONE

RERANK = QueryConfig(top=12, rerank=12)


@pytest.fixture(scope="module")
def index(trained, shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index") / "shapes"
    return embed(trained / "best", shapes / "train", folder, EmbedConfig(batch_size=7, regions=True), ALONE)


def test_stored_regions_differ_only_by_rounding(tmp_path):
    random = np.random.default_rng(0)
    parts = [random.standard_normal((count, 4, 16)).astype(np.float32) * 3 for count in (3, 0, 5)]
    fused = [random.standard_normal((len(part), 16)).astype(np.float32) for part in parts]
    for number, (part, own) in enumerate(zip(parts, fused, strict=True)):
        write_regions(Folder(tmp_path), number, region_records(part, own))
    paths = [tmp_path / regions_name(number) for number in range(3)]
    regions, vectors = StoredRegions(paths, [3, 0, 5]).read(np.array([7, 0, 3]))
    whole, all_fused = np.concatenate(parts), np.concatenate(fused)
    scale = np.abs(whole[[7, 0, 3]]).max(axis=2, keepdims=True) / 127
    assert (np.abs(regions - whole[[7, 0, 3]]) <= 0.51 * scale + 2e-3 * np.abs(regions)).all()
    assert np.allclose(vectors, all_fused[[7, 0, 3]], atol=2e-3)


def test_reranking_from_regions_agrees_with_reading_the_images_again(index, trained, shapes, tmp_path):
    plain = embed(trained / "best", shapes / "train", tmp_path / "plain", EmbedConfig(batch_size=7), ALONE)
    assert plain.regions is None
    assert index.regions is not None
    for rank_by in ("pair", "sum"):
        kept, read = (
            Searcher.open(one.folder, ALONE).ask("a red circle", RERANK, RankConfig(rank_by=rank_by))
            for one in (index, plain)
        )
        scores = {hit.row.key: hit.score for hit in read}
        assert {hit.row.key for hit in kept} == set(scores)
        assert [hit.score for hit in kept] == pytest.approx([scores[hit.row.key] for hit in kept], abs=5e-3)


def test_reranking_from_regions_needs_neither_shards_nor_torch(index, tmp_path):
    import json
    import shutil
    import subprocess
    import sys

    moved = shutil.copytree(index.folder, tmp_path / "alone")
    manifest = json.loads((moved / "index.json").read_text())
    (moved / "index.json").write_text(json.dumps({**manifest, "shards": "gone", "checkpoint": "gone"}))
    code = (
        "import sys\nfrom pathlib import Path\nfrom dove_core import ComputeConfig, QueryConfig, RankConfig, Searcher\n"
        "searcher = Searcher.open(Path(sys.argv[1]), ComputeConfig())\n"
        "assert len(searcher.ask('a red circle', QueryConfig(rerank=20), RankConfig())) == 10\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(moved)]).returncode == 0


@pytest.mark.parametrize("damage", ["cut", "other", "short"])
def test_damaged_regions_are_named(tmp_path, damage):
    path = tmp_path / regions_name(0)
    write_regions(Folder(tmp_path), 0, region_records(np.ones((3, 4, 16), np.float32), np.ones((3, 16), np.float32)))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:60])
    elif damage == "other":
        np.save(path, np.zeros(3))
    with pytest.raises(SearchIndexError, match=r"regions-00000\.npy") as caught:
        StoredRegions([path], [4 if damage == "short" else 3]).read(np.array([0]))
    assert "--regions" in caught.value.hint
