"""Indexes whose images have places, times and tags, and keys that are hard to write in a URL; servers of them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.encoding.load import load_encoder
from dove_core.index.build import build_index
from dove_core.index.parts import PartMark, write_part
from dove_core.places import Folder
from tests.made import COLOURS, SHAPES, draw_shape

fetch, send = partial(httpx.get, timeout=120), partial(httpx.post, timeout=120)
KEYS = [
    "plain",
    "a/slash",
    "with space",
    "ünï/çode 図",
    "up/../down",
    "100%25,&=?#+",
    "<script>alert(1)</script>",
    "...",
]
PARIS, SUVA, TAVEUNI = (2.345, 48.855, 2.355, 48.865), (178.4, -18.2, 178.5, -18.1), (179.9, -17.0, -179.8, -16.8)
METADATA: list[dict[str, Any]] = [
    {"box": PARIS, "time": "2020-07-03T10:20:30", "source": "S2", "gsd": 10.0, "tags": {"highway": "motorway"}},
    {"box": SUVA, "time": "2019", "source": "CH", "gsd": 0.5, "tags": {"name": "<b>é</b>"}},
    {"box": TAVEUNI, "time": "2021-01-02", "source": "US", "gsd": 0.1},
    {},
]


def make_index(folder: Path, best: Path, *, count: int = 24, shift: int = 0, bare: bool = False) -> Path:
    """Make an index of drawn images with the vectors of their captions; `shift` changes which vector is whose.

    A `bare` index has no places, times and tags.
    """
    encoder = load_encoder(best)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records, offset, texts = [], 0, []
    with (folder / "images" / "00000.tar").open("wb") as shard:
        for k in range(count):
            stream = io.BytesIO()
            colour, shape = COLOURS[k % len(COLOURS)], SHAPES[k // len(COLOURS) % len(SHAPES)]
            draw_shape(colour, shape).save(stream, "JPEG")
            key = KEYS[k] if k < len(KEYS) else f"key-{k}"
            texts.append(f"a {colour} {shape} on grey ground")
            caption = (f"{texts[-1]} <img src=x onerror=alert(1)>",)
            sample = Sample(key, f"{k}.jpg", {"title": caption}, **({} if bare else METADATA[k % len(METADATA)]))
            records.append(Record(k, "00000.tar", offset, shard.write(stream.getvalue()), b"", sample))
            offset += records[-1].size
    vectors = np.roll(encoder.encode_texts(texts).detach().numpy(), shift, axis=0)
    mark = PartMark(encoder.fingerprint, "00000.tar", str(shift))
    write_part(Folder(folder), 0, records, vectors, field="title", mark=mark)
    build_index(Folder(folder), encoder, [count], checkpoint=Folder(best), shards=Folder(folder / "images"))
    return folder


class Process:
    """A running `dove serve`: its address, its log on standard error, and its access log on standard output."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.out, self.err = folder / "serve.out", folder / "serve.err"
        command = [sys.executable, "-m", "dove_cli", "serve", "--port", "0", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.running = subprocess.Popen(command, stdout=out, stderr=err, cwd=folder, env=environment)

    def wait(self) -> str:
        """Return the address, once the server answers."""
        for _ in range(600):
            found = re.search(r"at (http://\S+)", self.err.read_text())
            if found:
                self.url = found[1]
                fetch(f"{self.url}/healthz").raise_for_status()
                return self.url
            assert self.running.poll() is None, self.err.read_text()
            try:
                self.running.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        raise TimeoutError(self.err.read_text())

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.running.send_signal(number)
        return self.running.wait(60)

    def lines(self) -> list[dict[str, Any]]:
        """Return the access log."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[Process]:
    """Run `dove serve` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    process = Process(folder, *arguments)
    try:
        process.wait()
        yield process
    finally:
        if process.running.poll() is None:
            process.running.kill()
            process.running.wait()


@pytest.fixture(scope="session")
def indexed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with index/places and index/more, of one model."""
    folder = tmp_path_factory.mktemp("serve")
    make_index(folder / "index" / "places", trained / "best")
    make_index(folder / "index" / "more", trained / "best", count=6, shift=1)
    return folder


@pytest.fixture(scope="session")
def server(indexed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server of both indexes, which the tests of a session share."""
    folder = tmp_path_factory.mktemp("server")
    names = [str(indexed / "index" / name) for name in ("places", "more")]
    with served(folder, *names, "--client-timeout", "2", "--max-upload", "0.5", "--max-pixels", "1") as process:
        yield process
