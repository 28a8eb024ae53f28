"""Freed memory stays in the process where this is wanted, and only there."""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dove_core import allocator
from dove_core.config import EmbedConfig, TrainConfig
from dove_core.data.reader import Shards
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder
from dove_core.events import Advanced
from dove_core.index.embed import embed
from dove_core.training.loop import train
from tests.conftest import ALONE
from tests.made import SMALL

ROOT = Path(__file__).parents[1]
SIZE = 64 << 20
STEPS = """
import json, os
from dove_core.allocator import freed_memory_kept
from tests.test_allocator import is_kept, resident
found = [is_kept()]
with freed_memory_kept():
    with freed_memory_kept():
        found.append(is_kept())
    found.append(is_kept())
    before = resident()
    with freed_memory_kept():
        pass
    returned = [before - resident()]
    found.append(is_kept())
    before = resident()
returned.append(before - resident())
found.append(is_kept())
with freed_memory_kept(False):
    found.append(is_kept())
os.environ["MALLOC_TRIM_THRESHOLD_"] = "1000000"
with freed_memory_kept():
    found.append(is_kept())
print(json.dumps([found, returned]))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch):
    for name in allocator._OWN:
        monkeypatch.delenv(name, raising=False)


def is_kept() -> bool:
    """Tell whether a block costs no page faults, after others like it: the first ones may split what is free."""
    pages, found = SIZE // resource.getpagesize(), 0
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        b"x" * SIZE
        found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert found < pages // 100 or found > pages // 2, found
    return found < pages // 100


def resident() -> int:
    """Return the bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_freed_blocks_are_used_again_within_a_context_and_returned_at_its_end():
    output = subprocess.run([sys.executable, "-c", STEPS], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found, returned = json.loads(output)
    assert found == [False, True, True, True, False, False, False]
    assert min(returned) > SIZE // 2


def test_training_on_a_cpu_keeps_freed_memory(shapes, tmp_path):
    seen = []

    def report(event: object) -> None:
        if isinstance(event, Advanced) and not seen:
            seen.append(is_kept())

    training = TrainConfig(weights="none", epochs=1, batch_size=16)
    train(shapes / "train", tmp_path / "run", SMALL, training, ALONE, report=report)
    assert seen == [True]


def test_encoding_a_split_on_a_cpu_keeps_freed_memory(trained, shapes):
    embedder = Embedder(load_encoder(trained / "best"), ALONE)
    for _ in embedder.embed_shards(Shards(shapes / "test"), batch_size=8):
        assert is_kept()


def test_embedding_on_a_cpu_keeps_freed_memory(trained, shapes, tmp_path):
    seen = []

    def report(event: object) -> None:
        if isinstance(event, Advanced) and not seen:
            seen.append(is_kept())

    embed(trained / "best", shapes / "test", tmp_path / "index", EmbedConfig(batch_size=8), ALONE, report=report)
    assert seen == [True]
