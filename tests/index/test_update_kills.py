"""Updates of an index that are killed at any moment: readers find the old index or the new one, never another."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable

import numpy as np
import pytest
import torch

from dove_core.config import EmbedConfig
from dove_core.index.disk import SearchIndex
from dove_core.index.embed import embed
from tests.conftest import ALONE
from tests.index.test_updates import images_of, vectors_of, write_images
from tests.sources.test_inputs import encoded

SETTINGS = EmbedConfig(batch_size=4, part_size=3)
SEEDS = [seed if seed < 3 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(50)]


def in_process(work: Callable[[], object]) -> int:
    """Do some work in a forked process, and return its number; it ends with 0, or 1 after an error."""
    process = os.fork()
    if process:
        return process
    try:
        torch.set_num_threads(1)  # threads do not survive a fork
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


@pytest.fixture(scope="module")
def versions(trained, tmp_path_factory):
    """A folder with images before and after changes, the index of the first, and the seconds that an update takes."""
    home = tmp_path_factory.mktemp("versions")
    folder, before = write_images(home / "photos", range(12)), home / "before"
    embed(trained / "best", folder, before, SETTINGS, ALONE)
    old = images_of(SearchIndex(before))
    for k in (1, 5):
        (folder / f"{k:03d}.jpg").unlink()
    (folder / "008.jpg").write_bytes(encoded(60))
    write_images(folder, range(20, 25))
    after = shutil.copytree(before, home / "after")
    began = time.monotonic()
    process = in_process(lambda: embed(trained / "best", folder, after, SETTINGS, ALONE))
    assert os.waitpid(process, 0)[1] == 0
    seconds = time.monotonic() - began
    return folder, before, old, SearchIndex(after), seconds


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_update_leaves_the_old_index_or_the_new_one_and_is_finished_by_the_next(
    trained, versions, tmp_path, seed
):
    folder, before, old, after, seconds = versions
    out, draw = shutil.copytree(before, tmp_path / "before"), random.Random(seed)
    new = images_of(after)
    process = in_process(lambda: embed(trained / "best", folder, out, SETTINGS, ALONE))
    ends = time.monotonic() + draw.uniform(0, 1.1 * seconds)
    while time.monotonic() < ends:  # a reader, meanwhile
        rows = len(SearchIndex(out))
        assert rows in (len(old), len(new))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    index = SearchIndex(out)
    found = {row.key for row in index.rows(range(len(index)))}
    assert found in (old.keys(), new.keys())
    del index
    index = embed(trained / "best", folder, out, SETTINGS, ALONE)
    assert images_of(index) == new
    expected = vectors_of(after)
    assert all(np.array_equal(vector, expected[key]) for key, vector in vectors_of(index).items())
    parts = {f"part-{part:05d}.parquet" for part in index.manifest.parts}
    segments = {name for name, _ in index.manifest.segments}
    assert {path.name for path in out.iterdir()} == {*parts, *segments, "index.json", "words"}


def test_two_writers_at_once_end_with_one_whole_index(trained, versions, tmp_path):
    folder, before, _, after, _ = versions
    out = shutil.copytree(before, tmp_path / "before")
    work = lambda: embed(trained / "best", folder, out, SETTINGS, ALONE)  # noqa: E731
    processes = [in_process(work) for _ in range(3)]
    ends = [os.waitpid(process, 0)[1] for process in processes]
    assert 0 in ends, "the first one makes it; others are refused, or find it made"
    assert images_of(SearchIndex(out)) == images_of(after)
    assert not (out / ".writer").exists()
