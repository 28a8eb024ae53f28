"""Training and encoding on a CPU with freed memory kept in the process, against freed memory that is returned.

    python -m benchmarks.freed_memory
    python -m benchmarks.freed_memory --backbone timm:tf_efficientnet_lite0 --size 160 --batch-size 128 --rounds 2

`train` is the whole step of `dove train`, `encode` the image encoder without gradients, both on random pixels that are
in memory. Each way runs in a process of its own, and the ways take turns. The baseline, `returned`, is glibc's default;
`kept` is what training and embedding do (`dove_core.allocator`). System time is that of page faults. The peak is that
of the whole process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.alternating import seconds
from benchmarks.train_step import make_batch, our_step
from dove_core.allocator import freed_memory_kept
from dove_core.config import ComputeConfig, ModelConfig
from dove_core.encoding.dove import DoveEncoder, build
from dove_core.encoding.embedder import Embedder
from dove_core.model.tokenizer import Tokenizer

WARM_UP = 2
CPU = torch.device("cpu")


class Work(NamedTuple):
    """What one process does: `steps` steps after two that are not counted."""

    what: str
    kept: bool
    backbone: str
    size: int
    batch: int
    steps: int


class Taken(NamedTuple):
    """Median seconds of a step, its mean seconds in the system, and the peak of the process in MiB."""

    step: float
    system: float
    peak: float


def encode_step(work: Work) -> Callable[[], None]:
    """Return a forward pass of the image encoder as `dove embed` does it."""
    config = ModelConfig(backbone=work.backbone, image_size=work.size)
    checkpoint = build(config, Tokenizer.learn(["one word"], min_count=1, max_tokens=8))
    checkpoint.model.eval()
    embedder = Embedder(DoveEncoder(checkpoint), ComputeConfig(device="cpu"))
    pixels = make_batch(work.batch, work.size).pixels

    def step() -> None:
        with embedder._inference():
            embedder._encode(embedder._normalised(pixels))

    return step


def measure(work: Work) -> Taken:
    """Return what the steps took."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept(work.kept):
        common = (work.batch, work.size, CPU, False, Path(folder))
        step = our_step(*common, backbone=work.backbone) if work.what == "train" else encode_step(work)
        for _ in range(WARM_UP):
            step()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        times = [seconds(step, CPU) for _ in range(work.steps)]
        after = resource.getrusage(resource.RUSAGE_SELF)
    return Taken(statistics.median(times), (after.ru_stime - before) / work.steps, after.ru_maxrss / 1024)


def in_a_process(work: Work) -> Taken:
    """Do the work in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, work).result()


def main() -> None:
    """Measure both ways of both kinds of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"{arguments.backbone}, batch {arguments.batch_size} of {arguments.size} pixels, {threads} thread(s)")
    print("| step | images/s | ratio | system time, s | peak, MiB |\n| --- | --- | --- | --- | --- |")
    for what in ("train", "encode"):
        found: dict[bool, list[Taken]] = {False: [], True: []}
        for _ in range(arguments.rounds):
            for kept, rounds in found.items():
                size, batch = arguments.size, arguments.batch_size
                rounds.append(in_a_process(Work(what, kept, arguments.backbone, size, batch, arguments.steps)))
        base = statistics.median(one.step for one in found[False])
        for kept, rounds in found.items():
            step, system, peak = (statistics.median(values) for values in zip(*rounds, strict=True))
            name = f"{what}, freed memory {'kept' if kept else 'returned'}"
            speed = arguments.batch_size / step
            print(f"| {name} | {speed:.2f} | {base / step:.2f} | {system:.2f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
