"""Embedding from shards against the forward pass of the backbone alone.

    dove shard --captions dataset_rsicd.json --images RSICD_images.zip --name rsicd
    python -m benchmarks.embedding --shards shards/rsicd/val
    python -m benchmarks.embedding --shards shards/rsicd/val --architecture ViT-B-32

The model has the default settings (ResNet-50, 256 pixels, D 512) and random weights. `embed` does what `dove embed`
does for an embedding part: read tars, decode, resize, encode, copy the vectors to the CPU. `bare` is torchvision's
ResNet-50 with its classifier on the same pixels in memory, channels last, in the same precision. With
`--architecture`, the model is a CLIP of open_clip with random weights, and `bare` its image tower. The baseline is the
faster of `bare, eager` and `bare, compiled`. On a CPU, all keep freed memory. Rounds alternate; figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn

from dove_core.allocator import freed_memory_kept
from dove_core.config import ComputeConfig, ModelConfig
from dove_core.data.reader import Shards
from dove_core.encoding.compute import choose_device, mixed, mixed_dtype
from dove_core.encoding.dove import DoveEncoder, build
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.encoder import Encoder
from dove_core.encoding.load import load_encoder
from dove_core.model.tokenizer import Tokenizer


def bare(tower: nn.Module, side: int, batch: int, compiled: bool, compute: ComputeConfig) -> Callable[[int], None]:
    """Return a function that runs an image tower alone on a number of images."""
    device = choose_device(compute.device)
    model = tower.eval().to(device, memory_format=torch.channels_last)
    if compiled:
        model.compile()
    pixels = torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)

    def run(images: int) -> None:
        with torch.no_grad(), mixed(device, compute.amp):
            for _ in range(0, images, batch):
                model(pixels)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def make_model(architecture: str, folder: Path) -> tuple[Encoder, Callable[[], nn.Module], int]:
    """Return an encoder, what makes its bare tower, and the side of its input."""
    torch.manual_seed(0)
    if architecture:
        import open_clip  # noqa: PLC0415  # of an extra

        from benchmarks.clip_models import random_checkpoint  # noqa: PLC0415

        config = open_clip.get_model_config(architecture)
        encoder = load_encoder(random_checkpoint(folder, architecture))
        return encoder, lambda: open_clip.CLIP(**config).visual, int(config["vision_cfg"]["image_size"])
    checkpoint = build(ModelConfig(), Tokenizer.learn(["one word"], min_count=1, max_tokens=8))
    checkpoint.model.eval()
    return DoveEncoder(checkpoint), lambda: torchvision.models.resnet50(weights=None), 256


def ours(encoder: Encoder, shards: Shards, batch: int, compiled: bool, compute: ComputeConfig) -> Callable[[int], None]:
    """Return a function that embeds a number of images of a split from its tars."""
    embedder = Embedder(encoder, compute)
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
    parser.add_argument("--architecture", default="", help="a CLIP of open_clip instead of DOVE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        encoder, tower, side = make_model(arguments.architecture, Path(folder))
    what = arguments.architecture or "ResNet-50"
    compute, batch, shards = ComputeConfig(), arguments.batch_size, Shards(arguments.shards)
    images = min(arguments.pictures, len(shards)) // batch * batch
    ways: dict[str, Callable[[int], None]] = {}
    for name, compiled in (("eager", False), ("compiled", True)):
        ways[f"bare {what}, {name}"] = bare(tower(), side, batch, compiled, compute)
        ways[f"embed, {name}"] = ours(encoder, shards, batch, compiled, compute)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with freed_memory_kept(choose_device(compute.device).type == "cpu"):
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
