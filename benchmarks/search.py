"""The search of an index against other ways to search the same vectors.

    python -m benchmarks.search --rows 100000 --ways dove flat hnsw ivf usearch
    python -m benchmarks.search --rows 1000000 --ways dove flat ivf

Vectors (512, float16) are in clusters away from the origin, as those of images are. There are three kinds of queries:
`near` (other points of the clusters), `apart` (a third of such a direction, the rest noise, as captions are apart from
images) and `random`. `flat` is the exact float16 scan of faiss, the baseline of the ratios and the ground truth of
recall@10. Ways alternate with each query. `dove` reads vectors and codes from mapped files; its memory is the growth of
the process after opening and one query, without those files. Then filters that keep 1 % and 30 % of the rows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import faiss
import numpy as np

from dove_core.index.codes import Codes, build_codes
from dove_core.index.nearest import nearest, nearest_many

WIDTH, TOP, BATCH = 512, 10, 64
Search = Callable[[np.ndarray], np.ndarray]
"""Maps queries (Q, D) to rows (Q, 10)."""


def make_vectors(path: Path, count: int) -> np.ndarray:
    """Write vectors block by block; return them memory-mapped."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((2000, WIDTH), dtype=np.float32)
    shift = random.standard_normal(WIDTH, dtype=np.float32)
    vectors = np.lib.format.open_memmap(path, "w+", np.float16, (count, WIDTH))
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        block = centres[random.integers(2000, size=size)] + 0.8 * random.standard_normal(
            (size, WIDTH), dtype=np.float32
        )
        vectors[start : start + size] = unit(block + shift)
    vectors.flush()
    return np.load(path, mmap_mode="r")


def make_queries(vectors: np.ndarray, count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    noise = unit(random.standard_normal((count, WIDTH), dtype=np.float32))
    near = vectors[np.sort(random.choice(len(vectors), count, replace=False))].astype(np.float32)
    near = unit(near + 0.5 * unit(random.standard_normal((count, WIDTH), dtype=np.float32)))
    return {"near": near, "apart": unit(near / 3 + noise), "random": noise}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def resident() -> int:
    """Return the memory of the process in bytes, without mapped files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])


def build_in_process(folder: Path) -> None:
    """Build the codes in a separate process, so that they do not count as memory of the search."""
    process = multiprocessing.get_context("spawn").Process(target=_build, args=(folder,))
    process.start()
    process.join()


def _build(folder: Path) -> None:
    build_codes(folder / "codes.faiss", np.load(folder / "vectors.npy", mmap_mode="r"))


def build(way: str, vectors: np.ndarray, folder: Path) -> Search:
    """Build one way to search; all but `dove` keep the vectors in memory."""
    if way == "dove":
        codes = Codes(folder / "codes.faiss")
        return lambda q: (
            nearest(vectors, q[0], TOP, lambda: codes)[0][None]
            if len(q) == 1
            else np.stack([rows for rows, _ in nearest_many(vectors, q, TOP, lambda: codes)])
        )
    if way == "usearch":
        index = import_module("usearch.index").Index(ndim=WIDTH, metric="ip", dtype="i8", expansion_search=256)
        for start in range(0, len(vectors), 50_000):
            block = vectors[start : start + 50_000].astype(np.float32)
            index.add(np.arange(start, start + len(block)), block)
        return lambda q: np.atleast_2d(index.search(q if len(q) > 1 else q[0], TOP).keys).astype(np.int64)
    inner = faiss.METRIC_INNER_PRODUCT
    if way == "flat":
        made = faiss.IndexScalarQuantizer(WIDTH, faiss.ScalarQuantizer.QT_fp16, inner)
    elif way == "hnsw":
        made = faiss.IndexHNSWSQ(WIDTH, faiss.ScalarQuantizer.QT_fp16, 32, inner)
        made.hnsw.efSearch = 256
    else:
        made = faiss.index_factory(WIDTH, "IVF1024,SQfp16", inner)
        made.nprobe = 64
    made.train(vectors[:: max(1, len(vectors) // 100_000)].astype(np.float32))
    for start in range(0, len(vectors), 50_000):
        made.add(vectors[start : start + 50_000].astype(np.float32))
    return lambda q: made.search(q, TOP)[1]


def compare(vectors: np.ndarray, ways: dict[str, Search], kinds: dict[str, np.ndarray], rounds: int) -> None:
    print(f"\n| queries | way | p50 ms | p99 ms | ratio to flat | {BATCH} at once, ms a query | recall@{TOP} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind, queries in kinds.items():
        taken: dict[str, list[float]] = {way: [] for way in ways}
        right = dict.fromkeys(ways, 0)
        for k in range(rounds):
            found = {}
            for way, search in ways.items():
                began = time.perf_counter()
                found[way] = search(queries[k : k + 1])[0]
                taken[way].append(time.perf_counter() - began)
            for way in ways:
                right[way] += len(set(found["flat"].tolist()) & set(found[way].tolist()))
        for way, search in ways.items():
            began = time.perf_counter()
            search(queries[:BATCH])
            batch = 1e3 * (time.perf_counter() - began) / BATCH
            times = sorted(1e3 * t for t in taken[way])
            half = statistics.median(times)
            ratio = half / (1e3 * statistics.median(taken["flat"]))
            print(f"| {kind} | {way} | {half:.1f} | {times[int(0.99 * len(times))]:.1f} | {ratio:.2f} | {batch:.1f} | "
                  f"{right[way] / rounds / TOP:.4f} |", flush=True)  # fmt: skip


def compare_filters(vectors: np.ndarray, folder: Path, queries: np.ndarray, rounds: int) -> None:
    """Compare filtered searches with the same search without a filter; ground truth by numpy."""
    codes, random = Codes(folder / "codes.faiss"), np.random.default_rng(2)
    print(f"\n| filter keeps | p50 ms | ratio to no filter | recall@{TOP} |\n| --- | --- | --- | --- |")
    plain = []
    for k in range(rounds):
        began = time.perf_counter()
        nearest(vectors, queries[k], TOP, lambda: codes)
        plain.append(time.perf_counter() - began)
    for share in (0.01, 0.3):
        keep = random.random(len(vectors)) < share
        kept = np.flatnonzero(keep)
        times, right = [], 0
        for k in range(rounds):
            began = time.perf_counter()
            rows, _ = nearest(vectors, queries[k], TOP, lambda: codes, keep)
            times.append(time.perf_counter() - began)
            scores = np.concatenate(
                [vectors[kept[s : s + 50_000]].astype(np.float32) @ queries[k] for s in range(0, len(kept), 50_000)]
            )
            right += len(set(kept[np.argsort(-scores)[:TOP]].tolist()) & set(rows.tolist()))
        half = 1e3 * statistics.median(times)
        print(f"| {share:.0%} | {half:.1f} | {half / (1e3 * statistics.median(plain)):.2f} | "
              f"{right / rounds / TOP:.4f} |", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument(
        "--ways", nargs="+", default=["dove", "flat"], choices=["dove", "flat", "hnsw", "ivf", "usearch"]
    )
    parser.add_argument("--rounds", type=int, default=64, help="queries of each kind")
    parser.add_argument("--folder", type=Path, default=None, help="folder of the vectors [default: a temporary folder]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        vectors = make_vectors(folder / "vectors.npy", arguments.rows)
        searches = {}
        print(f"{arguments.rows} x {WIDTH}")
        for way in dict.fromkeys([*arguments.ways, "flat"]):
            before, began = resident(), time.perf_counter()
            if way == "dove":
                build_in_process(folder)
            searches[way] = build(way, vectors, folder)
            searches[way](unit(np.ones((1, WIDTH), np.float32)))
            seconds, grown = time.perf_counter() - began, (resident() - before) / arguments.rows
            print(f"built {way}: {seconds:.1f} s, {grown:.0f} bytes of memory a row", flush=True)
        kinds = make_queries(vectors, max(arguments.rounds, BATCH))
        compare(vectors, searches, kinds, arguments.rounds)
        if "dove" in searches:
            compare_filters(vectors, folder, kinds["apart"], min(24, arguments.rounds))


if __name__ == "__main__":
    main()
