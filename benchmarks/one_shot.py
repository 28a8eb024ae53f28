"""A whole `dove query` process on an index of a million rows, against importing torch.

    python -m benchmarks.one_shot --rows 1000000
    python -m benchmarks.one_shot --architecture ViT-B-32

The index has random vectors in clusters, a thousand of them near the query (cosine about 0.45, as with a trained
model), a model of full width with random weights, rows with coordinates, times and tags, and regions in sparse files
(read as zeros, at the cost of bytes in the system's cache). With `--architecture`, the model is a CLIP of open_clip
with random weights, whose text tower runs in onnxruntime; it has nothing to re-rank by. Processes alternate, with files
in the cache; figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.search import make_vectors, unit
from dove_core.config import ModelConfig
from dove_core.data.reader import Record
from dove_core.data.sample import Sample
from dove_core.encoding.dove import build, save_checkpoint
from dove_core.encoding.encoder import Encoder
from dove_core.encoding.load import load_encoder
from dove_core.index.build import build_index
from dove_core.index.parts import PartMark, write_part
from dove_core.index.regions import record_type, regions_name
from dove_core.model.tokenizer import Tokenizer
from dove_core.places import Folder

PART = 50_000
QUERY = "airport runway near a river"
WORDS = [*QUERY.split(), *(f"word{k}" for k in range(20_000))]


def make_checkpoint(folder: Path, architecture: str) -> Path:
    if architecture:
        from benchmarks.clip_models import random_checkpoint  # noqa: PLC0415  # of an extra

        return random_checkpoint(folder, architecture)
    torch.manual_seed(0)
    config, checkpoint = ModelConfig(), folder / "run" / "best"
    checkpoint.mkdir(parents=True)
    save_checkpoint(checkpoint, build(config, Tokenizer(WORDS, config.max_tokens)))
    return checkpoint


def make_index(folder: Path, rows: int, architecture: str, *, regions: bool = True) -> Encoder:
    checkpoint = make_checkpoint(folder, architecture)
    encoder = load_encoder(checkpoint)
    index, counts = folder / "index", []
    index.mkdir()
    make_vectors(folder / "vectors.npy", rows)
    if encoder.dim != ModelConfig().embed_dim:
        raise SystemExit(f"the vectors have {ModelConfig().embed_dim} dimensions, {architecture} has {encoder.dim}")
    vectors, random = np.load(folder / "vectors.npy", mmap_mode="r+"), np.random.default_rng(3)
    embedding = encoder.encode_texts([QUERY])[0].detach().numpy()
    noise = unit(random.standard_normal((1000, encoder.dim), dtype=np.float32))
    vectors[random.choice(rows, 1000, replace=False)] = unit(0.5 * embedding + noise)
    for part, start in enumerate(range(0, rows, PART)):
        block = vectors[start : start + PART]
        places = random.uniform((-179, -80), (179, 80), (len(block), 2)).tolist()
        records = [
            Record(k, f"{part:05d}.tar", 512 * k, 30_000, b"", sample(start + k, *places[k]), random.bytes(16))
            for k in range(len(block))
        ]
        mark = PartMark(encoder.fingerprint, f"{part:05d}.tar", "")
        write_part(Folder(index), part, records, block, field="title", mark=mark)
        if regions and encoder.reranker is not None:
            kind = record_type(encoder.reranker.regions, encoder.dim)
            np.lib.format.open_memmap(index / regions_name(part), "w+", kind, (len(block),)).flush()
        counts.append(len(block))
    began = time.perf_counter()
    build_index(Folder(index), encoder, counts, checkpoint=Folder(checkpoint), shards=Folder(folder))
    print(f"index of {rows} rows built from its parts in {time.perf_counter() - began:.0f} s; bytes a row: ", end="")
    files = {
        path.name: path.stat().st_size / rows for path in index.iterdir() if path.suffix in (".npy", ".faiss", ".arrow")
    }
    print(", ".join(f"{name} {size:.0f}" for name, size in files.items() if not name.startswith("regions")))
    return encoder


def sample(number: int, longitude: float, latitude: float) -> Sample:
    box = (longitude, latitude, longitude + 0.01, latitude + 0.01)
    time_, source = f"20{10 + number % 12}-0{1 + number % 9}-11T10:20", ("CH", "US", "S2")[number % 3]
    captions = {"title": (f"a drawn place {number}",)}
    return Sample(f"a{number}_US_19", f"a{number}.jpg", captions, box=box, time=time_, source=source, gsd=0.6,
                  tags={"highway": ("motorway", "path")[number % 2]})  # fmt: skip


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for k in range(rounds + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if k:  # the first round fills the cache
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--architecture", default="", help="a CLIP of open_clip instead of DOVE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = make_index(folder, arguments.rows, arguments.architecture)
        ask = [sys.executable, "-m", "dove_cli", "query", QUERY, "--index", str(folder / "index")]
        reranked = {"query --rerank 50": [*ask, "--rerank", "50"]} if encoder.reranker is not None else {}
        found = measure(
            {
                "import torch": [sys.executable, "-c", "import torch"],
                "import faiss": [sys.executable, "-c", "import faiss"],
                "query": ask,
                **reranked,
                "query --bbox": [*ask, "--bbox", "5.9,45.8,10.5,47.8"],
                "query --datetime --source --tag": [
                    *ask, "--datetime", "2012/2014", "--source", "CH", "--tag", "highway=motorway",
                ],
                "query --exact": [*ask, "--exact"],
            },
            arguments.rounds,
        )  # fmt: skip
    print("\n| process | s | ratio to import torch |\n| --- | --- | --- |")
    for name, seconds in found.items():
        print(f"| {name} | {seconds:.2f} | {seconds / found['import torch']:.2f} |")


if __name__ == "__main__":
    main()
