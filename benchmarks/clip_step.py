"""The training step of a CLIP model in dove against open_clip's own parts, with the batch in memory.

    python -m benchmarks.clip_step                                    # CPU: ViT-B/32, batch 16
    python -m benchmarks.clip_step --architecture ViT-L-14 --batch-size 256 --checkpointing   # on a GPU

The baseline is open_clip's model and `ClipLoss` on tokens padded to 77: forward pass, loss, backward pass, clipping,
AdamW (fused), in the same precision. Ours is what `dove train --from` does for a batch, whose captions are as long as
RSICD's. Steps alternate; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from open_clip.loss import ClipLoss

from benchmarks.alternating import median_seconds, print_speeds
from benchmarks.clip_models import random_checkpoint
from dove_core.config import CacheConfig, ComputeConfig, FineTuneConfig, ModelConfig, TrainConfig
from dove_core.data.batch_plan import Step
from dove_core.data.reader import Shards
from dove_core.encoding.clip import load_clip
from dove_core.encoding.compute import choose_device, mixed, mixed_dtype
from dove_core.events import silent
from dove_core.places import Folder
from dove_core.training.batches import Batch
from dove_core.training.clip import ClipTrainable
from dove_core.training.run import RunSettings
from dove_core.training.storage import RunStorage
from dove_core.training.trainer import Trainer
from dove_core.training.world import World

_END = 49407
_CONTEXT = 77


def make_batch(count: int, size: int) -> Batch:
    """Return random images and captions; RSICD's have 14 tokens on average with the first and last."""
    lengths = (torch.randn(count) * 3.5 + 14).round().long().clamp(5, 40)
    tokens = torch.randint(300, 40000, (count, int(lengths.max())))
    tokens *= torch.arange(tokens.shape[1]) < lengths[:, None]
    tokens[torch.arange(count), lengths - 1] = _END
    pixels, own = torch.randint(0, 255, (count, 3, size, size), dtype=torch.uint8), torch.arange(count)
    return Batch(pixels, tokens, lengths, own[None], count, own, own[None])


def bare_step(model: Any, normalise: Callable[[torch.Tensor], torch.Tensor], batch: Batch) -> Callable[[], None]:
    """Return a training step of open_clip's parts."""
    optimizer, loss_of = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True), ClipLoss()
    tokens = torch.nn.functional.pad(batch.tokens, (0, _CONTEXT - batch.tokens.shape[1]))

    def step() -> None:
        with mixed(tokens.device, True, training=True):
            images = model.encode_image(normalise(batch.pixels), normalize=True)
            texts = model.encode_text(tokens, normalize=True)
            loss = loss_of(images, texts, model.logit_scale.exp())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(made: ClipTrainable, batch: Batch, device: torch.device, run: Path) -> Callable[[], None]:
    """Return a training step of `dove train --from`."""
    count = len(batch.pixels)
    training = TrainConfig(batch_size=count, learning_rate=1e-6, grad_clip=50.0)
    settings = RunSettings("", "", None, ModelConfig(), training)
    world, storage = World(0, 1, device), RunStorage(Folder(run), CacheConfig())
    shards = cast(Shards, range(100 * count))  # only its length is used: the batch is in memory
    trainer = Trainer(world, silent, storage, settings, ComputeConfig(), shards, "", made, resumed=False)
    return lambda: trainer._train_on(Step(0, 0, count, 100 * count), batch, True)


def main() -> None:
    """Measure both steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--checkpointing", action="store_true")
    arguments = parser.parse_args()
    device = choose_device("auto")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_checkpoint(Path(folder), arguments.architecture)
        encoder, bare = load_clip(checkpoint), load_clip(checkpoint).model.to(device).train()
        bare.set_grad_checkpointing(arguments.checkpointing)
        tuning = FineTuneConfig(grad_checkpointing=arguments.checkpointing)
        batch = make_batch(arguments.batch_size, encoder.config.image_size).to(device)
        made = ClipTrainable(encoder, TrainConfig(), tuning, lambda x, counts: x)
        steps = {
            "open_clip": bare_step(bare, encoder.preprocess.normalise, batch),
            "dove": our_step(made, batch, device, Path(folder)),
        }
        taken = median_seconds(steps, device, rounds=arguments.rounds, warm_up=1)
    precision = str(mixed_dtype(device, True, training=True) or torch.float32).removeprefix("torch.")
    print(f"{arguments.architecture}, {device.type}, {precision}, batch {arguments.batch_size}")
    print_speeds(taken, arguments.batch_size)


if __name__ == "__main__":
    main()
