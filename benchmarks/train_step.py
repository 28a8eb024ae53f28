"""The whole training step of dove against that of a bare ResNet-50, with the batch in memory.

    python -m benchmarks.train_step                        # CPU: batch 16; float32, or bf16 where the processor has it
    python -m benchmarks.train_step --batch-size 256 --compile   # on a GPU

The baseline is torchvision's ResNet-50 with its classifier: forward pass, cross-entropy, backward pass, AdamW (fused),
in the same precision and memory format. Ours is what `dove train` does for a batch: both encoders, all pairs, both
losses, backward pass, clipping, AdamW, events. Steps alternate; the ratio is that of the medians. On a CPU, both keep
freed memory (benchmarks/freed_memory.py measures what that is worth). Then memory:
`--pairs 256 1024` computes only pair scores and their gradients, at these batch sizes, each in a separate process, and
prints the peak.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast
from unittest.mock import patch

import torch
import torchvision

from benchmarks.alternating import median_seconds, print_speeds, seconds
from dove_core.allocator import freed_memory_kept
from dove_core.config import CacheConfig, ComputeConfig, ModelConfig, TrainConfig
from dove_core.data.batch_plan import Step
from dove_core.data.reader import Shards
from dove_core.encoding.compute import choose_device, mixed, mixed_dtype
from dove_core.encoding.dove import build
from dove_core.events import silent
from dove_core.model.dove import CaptionFeatures, Dove, ImageFeatures
from dove_core.model.tokenizer import Tokenizer
from dove_core.places import Folder
from dove_core.training import trainer as trainer_module
from dove_core.training.batches import Batch
from dove_core.training.dove import DoveTrainable
from dove_core.training.run import RunSettings
from dove_core.training.storage import RunStorage
from dove_core.training.trainer import Trainer
from dove_core.training.world import World

WORDS = 5000


def bare_step(batch: int, size: int, device: torch.device, compiled: bool) -> Callable[[], None]:
    """Return a training step of torchvision's ResNet-50."""
    model = torchvision.models.resnet50().to(device, memory_format=torch.channels_last).train()
    if compiled:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    pixels = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device) % 1000

    def step() -> None:
        with mixed(device, True, training=True):
            loss = torch.nn.functional.cross_entropy(model(pixels), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(
    batch: int, size: int, device: torch.device, compiled: bool, run: Path, *, backbone: str = "resnet50"
) -> Callable[[], None]:
    """Return a training step of `dove train` with the default settings."""
    model, training = ModelConfig(backbone=backbone, image_size=size), TrainConfig(weights="none", batch_size=batch)
    checkpoint = build(model, Tokenizer([f"w{k}" for k in range(WORDS)], model.max_tokens))
    settings, compute = RunSettings("", "", None, model, training), ComputeConfig(compile="on" if compiled else "off")
    world = World(0, 1, device)
    storage = RunStorage(Folder(run), CacheConfig())
    shards = cast(Shards, range(100 * batch))  # only its length is used: the batch is in memory
    trainable = DoveTrainable(checkpoint, training, world.gather)
    trainer = Trainer(world, silent, storage, settings, compute, shards, "", trainable, resumed=False)
    examples = make_batch(batch, size).to(device)
    return lambda: trainer._train_on(Step(0, 0, batch, 100 * batch), examples, True)


def in_precision(step: Callable[[], None], device: torch.device, dtype: torch.dtype | None) -> Callable[[], None]:
    """Return a step of `dove train` in a precision that it would not choose itself on this device; None: float32."""

    def changed() -> None:
        context = partial(torch.autocast, device.type, dtype, dtype is not None)
        with patch.object(trainer_module, "mixed", lambda device, amp, training: context()):
            step()

    return changed


def make_batch(count: int, size: int) -> Batch:
    """Return random images, and captions as long as RSICD's: 11 words on average, standard deviation 3."""
    lengths = (torch.randn(count) * 3 + 11).round().long().clamp(3, 30)
    tokens = torch.randint(2, WORDS, (count, int(lengths.max())))
    tokens *= torch.arange(tokens.shape[1]) < lengths[:, None]
    pixels, own = torch.randint(0, 255, (count, 3, size, size), dtype=torch.uint8), torch.arange(count)
    return Batch(pixels, tokens, lengths, own[None], count, own, own[None])


def train_pairs(count: int, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    """Put the memory (MiB) and the seconds of `count` x `count` pair scores and their gradients into a queue."""
    torch.manual_seed(0)
    device = choose_device("auto")
    model = Dove(ModelConfig(), WORDS).to(device).train()
    batch = make_batch(count, 32)
    vectors = torch.randn(2, count, 512)
    with torch.no_grad():
        images = ImageFeatures(*vectors, *model.guidance.prepare_regions(torch.randn(count, 36, 512, device=device)))
    images = ImageFeatures(*(part.to(device).requires_grad_() for part in images))
    with torch.no_grad():
        captions = model.encode_captions(batch.tokens.to(device), batch.lengths)
    parts = (part.clone().requires_grad_() for part in captions[:-1])
    captions = CaptionFeatures(*parts, lengths=batch.lengths)
    if device.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    else:
        torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        with mixed(device, True, training=True):
            model.score_pairs(images, captions).mean().backward()

    before, taken = memory(device), seconds(step, device)
    answers.put((memory(device) - before, taken))


def memory(device: torch.device) -> float:
    """Return the peak memory so far, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def main() -> None:
    """Measure the steps, then the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--backbone", default="resnet50", help="of dove; the baseline stays ResNet-50")
    parser.add_argument("--precisions", action="store_true", help="also measure dove in the other one of bf16, float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--pairs", type=int, nargs="*", default=[256, 1024])
    arguments = parser.parse_args()
    device = choose_device("auto")
    chosen = mixed_dtype(device, True, training=True)
    common = (arguments.batch_size, arguments.size, device, arguments.compile)
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept(device.type == "cpu"):
        steps = {"bare ResNet-50": bare_step(*common)}
        steps["dove"] = our_step(*common, Path(folder) / "dove", backbone=arguments.backbone)
        if arguments.precisions:
            other = None if chosen else torch.bfloat16
            name = f"dove, {other or torch.float32}".replace("torch.", "")
            step = our_step(*common, Path(folder) / "other", backbone=arguments.backbone)
            steps[name] = in_precision(step, device, other)
        taken = median_seconds(steps, device, rounds=arguments.rounds)
    precision = str(chosen or torch.float32).removeprefix("torch.")
    print(f"{device.type}, {precision}, batch {arguments.batch_size} of {arguments.size} pixels")
    print_speeds(taken, arguments.batch_size)
    for count in arguments.pairs:
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        process = context.Process(target=train_pairs, args=(count, answers))
        process.start()
        mebibytes, taken = answers.get()
        process.join()
        print(f"pair scores {count} x {count}, with gradients: {mebibytes:.0f} MiB more at the peak, {taken:.1f} s")


if __name__ == "__main__":
    main()
