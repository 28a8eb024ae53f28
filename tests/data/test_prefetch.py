"""Shards in a bucket are downloaded before they are read, and not too many of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dove_core.buckets import Bucket, file_system
from dove_core.config import CacheConfig
from dove_core.data.batch_plan import SequentialPlan, TrainingPlan
from dove_core.data.loader import load
from dove_core.data.prefetch import Prefetcher
from dove_core.data.reader import Shards
from dove_core.errors import DataError, UsageError
from tests.s3_server import BUCKET, s3_environment, s3_serving

pytest.importorskip("s3fs")
pytest.importorskip("moto")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_things_are_brought_in_order_as_far_ahead_as_allowed():
    brought, lock = list[int](), threading.Lock()

    def bring(thing: int) -> None:
        with lock:
            brought.append(thing)
        if thing == 3:
            raise DataError("cannot be brought")

    ahead = Prefetcher([[0, 1], [], [2], [3], [4, 5], [6]], bring, count=2)
    until(lambda: sorted(brought) == [0, 1])
    ahead.taken()
    until(lambda: sorted(brought) == [0, 1, 2, 3])
    time.sleep(0.05)
    assert len(brought) == 4
    ahead.taken()
    ahead.taken()
    until(lambda: sorted(brought) == [0, 1, 2, 3, 4])
    ahead.close()
    ahead.taken()
    time.sleep(0.05)
    assert len(brought) == 5


@pytest.fixture(scope="module")
def url(shapes) -> Iterator[str]:
    with s3_serving() as address, s3_environment(address):
        file_system("s3://").put(f"{shapes / 'train'}/", f"{BUCKET}/train/", recursive=True)
        yield f"s3://{BUCKET}/train"


def keys(records, epoch: int) -> list[tuple[str, bytes]]:
    return [(record.sample.key, record.image) for record in records]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("is_training", [True, False])
def test_a_bucket_gives_the_batches_of_a_folder(url, shapes, tmp_path, workers, is_training):
    found = []
    for place in (shapes / "train", Bucket(url, CacheConfig(str(tmp_path)))):
        shards = Shards(place)
        plan = TrainingPlan(shards.counts, 7, 2, seed=3) if is_training else SequentialPlan(3, len(shards), 5)
        found.append(list(load(shards, plan, keys, workers=workers)))
    assert found[0] == found[1]
    assert len(list(tmp_path.glob("*/*.tar"))) == 5


def test_the_next_shards_are_here_before_they_are_read(url, tmp_path):
    shards = Shards(Bucket(url, CacheConfig(str(tmp_path))))
    reading = load(shards, SequentialPlan(0, len(shards), 2), keys)
    next(reading)
    until(lambda: len(list(tmp_path.glob("*/*.tar"))) == 5)
    reading.close()


def test_a_cache_too_small_for_what_is_read_at_once_is_an_error_before_anything_is_read(url, tmp_path):
    shards = Shards(Bucket(url, CacheConfig(str(tmp_path), 1e-4)))  # three shards, and sidecars
    with pytest.raises(UsageError, match=r"5 shards of .* are read at once") as caught:
        next(load(shards, TrainingPlan(shards.counts, 7, 1, seed=3), keys))
    assert "--cache-size" in caught.value.hint
    assert len(list(load(shards, SequentialPlan(0, len(shards), 5), keys))) == 10
