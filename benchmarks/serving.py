"""`dove serve` under 8 clients beside the bare search of the same index.

    python -m benchmarks.serving --rows 1000000
    python -m benchmarks.serving --rows 1000000 --clip-retrieval OTHER_VENV/bin/python

The index is that of `benchmarks.one_shot`: vectors of 512 dimensions in clusters, with places, times and tags.
Questions are words, whose embeddings are far from all images as the model has random weights, and keys of images, which
are near. `bare` is `Searcher.answer` called by as many threads in a process of its own, `served` is `GET /search` of
one server process with persistent connections. They take turns, so that a change of the machine's speed meets both.

Embeddings are asked by the protocol of clip-retrieval, `POST /knn-service`; with `--clip-retrieval` its own server
answers them too, in turn, from the same vectors (see `benchmarks.clip_retrieval_server`).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.clip_retrieval_server import INDEX, prepare
from benchmarks.one_shot import WORDS, make_index
from dove_core.config import QueryConfig
from dove_core.index.disk import SearchIndex
from dove_core.search.query import Searcher
from dove_core.search.question import Question

TOP = 10
Asked = dict[str, Any]


def questions(kind: str, count: int, vectors: np.ndarray, seed: int) -> list[Asked]:
    """Return parameters of requests; embeddings lie near those of images."""
    random = np.random.default_rng(seed)
    if kind == "words":
        return [{"q": " ".join(random.choice(WORDS, 4))} for _ in range(count)]
    numbers = random.integers(len(vectors), size=count)
    if kind == "keys":
        return [{"like": f"a{number}_US_19"} for number in numbers]
    near = vectors[numbers].astype(np.float32)
    near += 0.5 * random.standard_normal(near.shape, dtype=np.float32) / near.shape[1] ** 0.5
    return [{"embedding_input": one.tolist()} for one in near / np.linalg.norm(near, axis=1, keepdims=True)]


def timed(ask: Callable[[Asked], None], asked: Sequence[Asked], clients: int) -> list[float]:
    """Ask from several threads; return the seconds of each question, and of all together at the end."""

    def one(question: Asked) -> float:
        began = time.perf_counter()
        ask(question)
        return time.perf_counter() - began

    with ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        return [*pool.map(one, asked), time.perf_counter() - began]


def bare(index: Path, clients: int) -> None:
    """Answer lines of questions on standard input by lines of seconds; the process of the bare search."""
    searcher = Searcher.open(index)
    threadpool_limits(limits=1, user_api="blas")  # as the server has

    def ask(question: Asked) -> None:
        if "embedding_input" in question:
            numbers, _ = searcher.index.search(np.array(question["embedding_input"], np.float32), TOP)
            if len(searcher.index.rows(numbers.tolist())) != TOP:
                raise SystemExit("an answer has too few hits")
            return
        like = (question["like"],) if "like" in question else ()
        if len(searcher.answer(Question(question.get("q", ""), like=like), QueryConfig(top=TOP))) != TOP:
            raise SystemExit("an answer has too few hits")

    for line in sys.stdin:
        print(json.dumps(timed(ask, json.loads(line), clients)), flush=True)


class Client:
    """A client of a server, with a connection for each thread that is kept."""

    def __init__(self, address: str, index: str) -> None:
        self._address, self._index, self._free = address, index, list[http.client.HTTPConnection]()

    def ask(self, question: Asked) -> None:
        """Ask and read the answer; embeddings by clip-retrieval's protocol."""
        while self._free:
            line = self._free.pop()
            try:
                self._ask(line, question)
            except ConnectionError:
                line.close()  # it was idle for too long
            else:
                return
        self._ask(http.client.HTTPConnection(self._address, timeout=600), question)

    def _ask(self, line: http.client.HTTPConnection, question: Asked) -> None:
        if "embedding_input" in question:
            body = {"indice_name": self._index, "modality": "image", "num_images": TOP, "deduplicate": False}
            line.request("POST", "/knn-service", json.dumps({**question, **body, "num_result_ids": TOP}))
        else:
            line.request("GET", "/search?" + urlencode({**question, "limit": TOP}))
        answer = line.getresponse()
        found = json.loads(answer.read())
        if answer.status != 200 or len(found if isinstance(found, list) else found["features"]) != TOP:
            raise SystemExit(f"the server answered {answer.status}")
        self._free.append(line)

    def wait(self, seconds: float = 300) -> None:
        """Return as soon as the server accepts connections."""
        host, port = self._address.split(":")
        until = time.monotonic() + seconds
        while True:
            try:
                return socket.create_connection((host, int(port))).close()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)


@contextmanager
def running(*command: str, python: str = sys.executable, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([python, "-m", *command], text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def clip_retrieval(index: Path, python: str | None) -> Iterator[Client | None]:
    """Run clip-retrieval's server on the vectors of an index."""
    if python is None:
        yield None
        return
    work = index.parent / "clip-retrieval"
    prepare(index, work)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running("benchmarks.clip_retrieval_server", str(work), str(port), python=python, **quiet):
        client = Client(f"127.0.0.1:{port}", INDEX)
        client.wait()
        yield client


def compare(index: Path, python: str | None, clients: int, count: int, rounds: int) -> None:
    pipe, vectors = subprocess.PIPE, np.asarray(SearchIndex(index).vectors)
    served = running("dove_cli", "serve", str(index), "--port", "0", "--no-access-log", stderr=pipe)
    other = running("benchmarks.serving", "--bare", str(index), "--clients", str(clients), stdin=pipe, stdout=pipe)
    with served as server, other as process, clip_retrieval(index, python) as foreign:
        address = next(found[1] for line in server.stderr or () if (found := re.search(r"at http://(\S+)", line)))

        def ask_bare(asked: list[Asked]) -> list[float]:
            assert process.stdin is not None and process.stdout is not None
            print(json.dumps(asked), file=process.stdin, flush=True)
            return list(json.loads(process.stdout.readline()))

        ways: dict[str, Callable[[Any], list[float]]] = {
            "bare": ask_bare,
            "served": partial(timed, Client(address, index.name).ask, clients=clients),
        }
        print(f"\n{len(vectors)} rows, {clients} clients, load {os.getloadavg()[0]:.1f}")
        print("| questions | way | p50 ms | p99 ms | ratio of p50 | questions/s | ratio |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for kind in ("words", "keys", "embeddings"):
            if kind == "embeddings" and foreign is not None:
                ways["clip-retrieval"] = partial(timed, foreign.ask, clients=clients)
            drawn = [questions(kind, count, vectors, k) for k in range(rounds + 1)]
            print_rows(kind, ways, drawn)


def print_rows(kind: str, ways: Mapping[str, Callable[[Any], list[float]]], drawn: list[list[Asked]]) -> None:
    """Ask in turn, and print a row for each way."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    total = dict.fromkeys(ways, 0.0)
    for k, asked in enumerate(drawn):
        for way, ask in ways.items():
            found = ask(asked)
            if k:  # the first round fills caches
                taken[way] += found[:-1]
                total[way] += found[-1]
    base = statistics.median(taken["bare"])
    for way, times in taken.items():
        half, most = statistics.median(times), sorted(times)[int(0.99 * len(times))]
        figures = f"{1e3 * half:.1f} | {1e3 * most:.1f} | {half / base:.2f} | {len(times) / total[way]:.1f}"
        print(f"| {kind} | {way} | {figures} | {total['bare'] / total[way]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--questions", type=int, default=200, help="questions of each kind in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clip-retrieval", default=None, metavar="PYTHON", help="an interpreter that has it")
    parser.add_argument("--bare", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare(arguments.bare, arguments.clients)
        return
    with tempfile.TemporaryDirectory() as name:
        make_index(Path(name), arguments.rows, "")
        compare(
            Path(name) / "index", arguments.clip_retrieval, arguments.clients, arguments.questions, arguments.rounds
        )


if __name__ == "__main__":
    main()
