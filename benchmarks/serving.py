"""`dove serve` under 8 clients beside the bare search of the same index.

    python -m benchmarks.serving --rows 1000000

The index is that of `benchmarks.one_shot`: vectors of 512 dimensions in clusters, with places, times and tags.
Questions are words, whose embeddings are far from all images as the model has random weights, and keys of images, which
are near. `bare` is `Searcher.answer` called by as many threads in a process of its own, `served` is `GET /search` of
one server process with persistent connections. They take turns, so that a change of the machine's speed meets both.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from benchmarks.one_shot import WORDS, make_index
from dove_core.config import QueryConfig
from dove_core.search.query import Searcher
from dove_core.search.question import Question

TOP = 10


def questions(kind: str, count: int, rows: int, seed: int) -> list[dict[str, str]]:
    """Return parameters of requests."""
    random = np.random.default_rng(seed)
    if kind == "words":
        return [{"q": " ".join(random.choice(WORDS, 4))} for _ in range(count)]
    return [{"like": f"a{number}_US_19"} for number in random.integers(rows, size=count)]


def timed(ask: Callable[[dict[str, str]], None], asked: Sequence[dict[str, str]], clients: int) -> list[float]:
    """Ask from several threads; return the seconds of each question, and of all together at the end."""

    def one(question: dict[str, str]) -> float:
        began = time.perf_counter()
        ask(question)
        return time.perf_counter() - began

    with ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        return [*pool.map(one, asked), time.perf_counter() - began]


def bare(index: Path, clients: int) -> None:
    """Answer lines of questions on standard input by lines of seconds; the process of the bare search."""
    searcher = Searcher.open(index)

    def ask(question: dict[str, str]) -> None:
        like = (question["like"],) if "like" in question else ()
        if len(searcher.answer(Question(question.get("q", ""), like=like), QueryConfig(top=TOP))) != TOP:
            raise SystemExit("an answer has too few hits")

    for line in sys.stdin:
        print(json.dumps(timed(ask, json.loads(line), clients)), flush=True)


class Client:
    """A client of the server, with a connection for each thread that is kept."""

    def __init__(self, address: str) -> None:
        self._address, self._free = address, list[http.client.HTTPConnection]()

    def ask(self, question: dict[str, str]) -> None:
        line = self._free.pop() if self._free else http.client.HTTPConnection(self._address, timeout=600)
        line.request("GET", "/search?" + urlencode({**question, "limit": TOP}))
        answer = line.getresponse()
        if answer.status != 200 or len(json.loads(answer.read())["features"]) != TOP:
            raise SystemExit(f"the server answered {answer.status}")
        self._free.append(line)


@contextmanager
def running(*command: str, **options: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-m", *command], text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def compare(index: Path, rows: int, clients: int, count: int, rounds: int) -> None:
    pipe = subprocess.PIPE
    served = running("dove_cli", "serve", str(index), "--port", "0", "--no-access-log", stderr=pipe)
    other = running("benchmarks.serving", "--bare", str(index), "--clients", str(clients), stdin=pipe, stdout=pipe)
    with served as server, other as process:
        address = next(found[1] for line in server.stderr or () if (found := re.search(r"at http://(\S+)", line)))
        client = Client(address)

        def ask_bare(asked: list[dict[str, str]]) -> list[float]:
            assert process.stdin is not None and process.stdout is not None
            print(json.dumps(asked), file=process.stdin, flush=True)
            return list(json.loads(process.stdout.readline()))

        print(f"\n{rows} rows, {clients} clients, load {os.getloadavg()[0]:.1f}")
        print("| questions | way | p50 ms | p99 ms | ratio of p50 | questions/s | ratio |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for kind in ("words", "keys"):
            taken: dict[str, list[float]] = {"bare": [], "served": []}
            total = dict.fromkeys(taken, 0.0)
            for k in range(rounds + 1):
                asked = questions(kind, count, rows, k)
                for way, found in (("bare", ask_bare(asked)), ("served", timed(client.ask, asked, clients))):
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
    parser.add_argument("--bare", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare(arguments.bare, arguments.clients)
        return
    with tempfile.TemporaryDirectory() as name:
        make_index(Path(name), arguments.rows, "")
        compare(Path(name) / "index", arguments.rows, arguments.clients, arguments.questions, arguments.rounds)


if __name__ == "__main__":
    main()
