"""Time of scoring encoded splits: all pairs of a test split, and global ranks of 30,000 x 30,000.

    python -m benchmarks.evaluation
    python -m benchmarks.evaluation --pictures 1093 --captions 5465 --large 30000

Pairs: `score_pairs` on the whole matrix, against a naive double loop over a sample of the pairs (all would take an
hour). The weights are random, which does not change the time. Global: ranks in both directions in blocks, in a separate
process that prints its peak memory, against sorting every row and column of the whole matrix as SkyScript's notebook
does (at a tenth of the size, because of memory).
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from dove_core.config import ComputeConfig, EvalConfig, ModelConfig, RankConfig
from dove_core.encoding.compute import mixed, mixed_dtype
from dove_core.encoding.dove import DoveEncoder, build
from dove_core.encoding.embedder import Embedder
from dove_core.evaluation.rows import EncodedSplit, score_rows
from dove_core.model.dove import CaptionFeatures, Dove, ImageFeatures
from dove_core.model.tokenizer import Tokenizer

WORDS = [f"word{k}" for k in range(2000)]
NAIVE_PAIRS = 3000


def make_model(config: ModelConfig) -> DoveEncoder:
    torch.manual_seed(0)
    checkpoint = build(config, Tokenizer(WORDS, config.max_tokens))
    checkpoint.model.eval()
    return DoveEncoder(checkpoint)


def make_images(model: Dove, config: ModelConfig, count: int, dtype: torch.dtype) -> ImageFeatures:
    """Return the features of random regions, without running the trunk."""
    dim, regions = config.embed_dim, config.region_grid**2
    with torch.no_grad():
        key, value = model.guidance.prepare_regions(torch.randn(count, regions, dim))
    vectors = [F.normalize(torch.randn(count, dim), dim=-1) for _ in range(2)]
    return ImageFeatures(*vectors, key.to(dtype), value.to(dtype))


def make_captions(embedder: Embedder, count: int) -> CaptionFeatures:
    """Return the features of captions as long as RSICD's: 11 words on average."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.normal(11, 3, count).round().astype(int), 4, 30)
    return embedder.describe_texts([" ".join(random.choice(WORDS, length)) for length in lengths], exact=True)


def pairs(count: int, captions: int, amp: bool) -> None:
    config = ModelConfig()
    encoder = make_model(config)
    embedder = Embedder(encoder, ComputeConfig(device="cpu", workers=0, amp=amp))
    texts = make_captions(embedder, captions)
    images = make_images(encoder.model, config, count, texts.query.dtype)
    began = time.perf_counter()
    matrix = embedder.score_pairs(images, texts)
    seconds = time.perf_counter() - began
    random = np.random.default_rng(1)
    chosen = [(int(random.integers(count)), int(random.integers(captions))) for _ in range(NAIVE_PAIRS)]
    began = time.perf_counter()
    with torch.no_grad(), mixed(embedder.device, amp):
        naive = [
            float(encoder.score_pairs(images.rows(slice(i, i + 1)), texts.rows(slice(j, j + 1)))) for i, j in chosen
        ]
    each = (time.perf_counter() - began) / NAIVE_PAIRS
    differ = max(abs(a - float(matrix[i, j])) for a, (i, j) in zip(naive, chosen, strict=True))
    precision, speed = str(texts.query.dtype).removeprefix("torch."), count * captions / seconds
    shape = f"{count} x {captions} pairs, D {config.embed_dim}, {config.region_grid**2} regions, {precision}"
    print(f"all {shape}: {seconds:.1f} s ({speed:,.0f} pairs a second)")
    print(f"naive double loop to ours: {each * count * captions / seconds:.1f} (largest difference {differ:.1e})")


def large(count: int) -> None:
    """Rank, and print the peak memory of this process and its memory before the data."""
    config = ModelConfig()
    embedder = Embedder(make_model(config), ComputeConfig(device="cpu", workers=0))
    before = peak_memory()
    split = make_large(count, config.embed_dim)
    settings = EvalConfig(pairwise=False, rerank=0, protocol="unique-text")
    began = time.perf_counter()
    score_rows(embedder, split, settings, RankConfig())
    seconds = time.perf_counter() - began
    peak = peak_memory()
    print(f"global ranks and intervals of {count} x {count}: {seconds:.1f} s, peak {peak:.2f} GB "
          f"({before:.2f} GB of it before the data)")  # fmt: skip


def peak_memory() -> float:
    """Return the peak memory of this process in GB (`ru_maxrss` would include its parent's)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1e6


def make_large(count: int, dim: int) -> EncodedSplit:
    images = F.normalize(torch.randn(count, dim), dim=-1)
    texts = F.normalize(images + 2 * F.normalize(torch.randn(count, dim), dim=-1), dim=-1)
    none = torch.zeros(count, 0, dim)
    captions = CaptionFeatures(texts, none, torch.zeros(count, 0), texts, torch.ones(count, dtype=torch.int64))
    numbers = np.arange(count)
    return EncodedSplit(ImageFeatures(images, images, none, none), captions, numbers, numbers, ())


def sorting(count: int) -> None:
    """Compute the same recall by sorting one row or column at a time."""
    config = ModelConfig()
    embedder = Embedder(make_model(config), ComputeConfig(device="cpu", workers=0))
    split = make_large(count, config.embed_dim)
    settings = EvalConfig(pairwise=False, rerank=0, protocol="unique-text", bootstrap=0)
    began = time.perf_counter()
    ours = score_rows(embedder, split, settings, RankConfig())["global"]
    between = time.perf_counter()
    hits = {"image_to_text": dict.fromkeys((1, 5, 10, 100), 0), "text_to_image": dict.fromkeys((1, 5, 10, 100), 0)}
    for direction, (queries, others) in {
        "image_to_text": (split.images.embedding, split.captions.embedding),
        "text_to_image": (split.captions.embedding, split.images.embedding),
    }.items():
        for k in range(count):
            order = torch.argsort(queries[k] @ others.T, descending=True).numpy()
            for at in hits[direction]:
                hits[direction][at] += int(k in set(order[:at].tolist()))
    seconds = time.perf_counter() - between
    same = all(abs(getattr(ours, name)[at] - 100 * n / count) < 0.02 for name in hits for at, n in hits[name].items())
    verdict = "equal" if same else "NOT EQUAL"
    print(f"sorting to ours at {count} x {count}: {seconds / (between - began):.1f} (recall {verdict})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1093)
    parser.add_argument("--captions", type=int, default=5465)
    parser.add_argument("--no-pairs", action="store_true", help="measure only the large matrix")
    parser.add_argument("--large", type=int, default=30_000)
    arguments = parser.parse_args()
    precisions = (False, True) if mixed_dtype(torch.device("cpu"), True) else (False,)
    for amp in () if arguments.no_pairs else precisions:
        pairs(arguments.pictures, arguments.captions, amp)
    context = multiprocessing.get_context("spawn")
    for function, count in ((large, arguments.large), (sorting, arguments.large // 10)):
        process = context.Process(target=function, args=(count,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
