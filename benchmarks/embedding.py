"""Embedding from shards against the forward pass of the backbone alone.

    dove shard --captions dataset_rsicd.json --images RSICD_images.zip --name rsicd
    python -m benchmarks.embedding --shards shards/rsicd/val

The model has the default settings (ResNet-50, 256 pixels, D 512) and random weights. `embed` does what `dove embed`
does for an embedding part: read tars, decode, resize, encode, copy the vectors to the CPU. `bare` is torchvision's
ResNet-50 with its classifier on the same pixels in memory, channels last, in the same precision. The baseline is the
faster of `bare, eager` and `bare, compiled`. Rounds alternate; figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision

from dove_core.config import ComputeConfig, ModelConfig
from dove_core.data.reader import Shards
from dove_core.encoding.compute import choose_device, mixed, mixed_dtype
from dove_core.encoding.dove import DoveEncoder, build
from dove_core.encoding.embedder import Embedder
from dove_core.model.tokenizer import Tokenizer


def bare(batch: int, compiled: bool, compute: ComputeConfig) -> Callable[[int], None]:
    """Return a function that runs a bare ResNet-50 on a number of images."""
    device = choose_device(compute.device)
    model = torchvision.models.resnet50(weights=None).eval().to(device, memory_format=torch.channels_last)
    if compiled:
        model.compile()
    pixels = torch.randn(batch, 3, 256, 256, device=device).contiguous(memory_format=torch.channels_last)

    def run(images: int) -> None:
        with torch.no_grad(), mixed(device, compute.amp):
            for _ in range(0, images, batch):
                model(pixels)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def ours(shards: Shards, batch: int, compiled: bool, compute: ComputeConfig) -> Callable[[int], None]:
    """Return a function that embeds a number of images of a split from its tars."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.learn(["one word"], min_count=1, max_tokens=8)
    checkpoint = build(ModelConfig(), tokenizer)
    checkpoint.model.eval()
    embedder = Embedder(DoveEncoder(checkpoint), compute)
    if compiled:
        embedder.compile(batch)

    def run(images: int) -> None:
        for _, features in embedder.embed_shards(shards, batch_size=batch, stop=images):
            features.embedding.cpu()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, default=Path("shards/rsicd/val"))
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    compute, batch, shards = ComputeConfig(), arguments.batch_size, Shards(arguments.shards)
    images = min(arguments.pictures, len(shards)) // batch * batch
    ways: dict[str, Callable[[int], None]] = {}
    for name, compiled in (("eager", False), ("compiled", True)):
        ways[f"bare ResNet-50, {name}"] = bare(batch, compiled, compute)
        ways[f"embed, {name}"] = ours(shards, batch, compiled, compute)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(batch)  # compile and warm up
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way(images)
            taken[name].append(time.perf_counter() - began)
    speed = {name: images / statistics.median(times) for name, times in taken.items()}
    fastest = max(value for name, value in speed.items() if name.startswith("bare"))
    print(f"{images} images, batch {batch}, {mixed_dtype(choose_device(compute.device), compute.amp)}")
    print("| way | images/s | ratio to the fastest bare |\n| --- | --- | --- |")
    for name, value in speed.items():
        print(f"| {name} | {value:.1f} | {value / fastest:.2f} |")


if __name__ == "__main__":
    main()
