"""Loading for training from shards, against a usual Pillow `Dataset` and `DataLoader` from files.

    python -m benchmarks.loader --pictures 1500 --side 600

Both decode, crop at random, resize to `--size`, rotate and mirror, normalise and batch the same JPEGs in one worker
process; the files are in the system's cache. Printed for each: images per second of processor time (of all processes,
nearly independent of other work on the machine) and of wall time, and the ratio to the baseline. Rounds alternate;
figures are medians.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from dove_core.config import ShardConfig
from dove_core.data.batch_plan import TrainingPlan
from dove_core.data.loader import load
from dove_core.data.reader import Shards
from dove_core.data.scenes.kinds import KINDS
from dove_core.data.scenes.scene import Order, draw
from dove_core.data.sharding.shards import shard_captions
from dove_core.encoding.preprocess import normalise
from dove_core.model.tokenizer import Tokenizer
from dove_core.training.batches import MakeBatch

BATCH = 64


class Files(Dataset[tuple[Tensor, str]]):
    """Images in a folder, opened by Pillow and transformed by torchvision's classic transforms."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths = sorted(folder.glob("*.jpg"))
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(
                    size, scale=(0.6, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
                ),
                transforms.RandomChoice([transforms.RandomRotation((a, a)) for a in (0, 90, 180, 270)]),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        """Open and transform one image."""
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB")), self.paths[index].stem


def make_images(folder: Path, count: int, side: int) -> tuple[Path, Path]:
    """Write JPEGs of `side` x `side` pixels (enlarged drawn scenes) and a table of captions."""
    (folder / "images").mkdir()
    scenes = [draw(Order(0, serial, serial % len(KINDS))) for serial in range(min(count, 100))]
    encoded = []
    for scene in scenes:
        stream = io.BytesIO()
        Image.open(io.BytesIO(scene.jpeg)).resize((side, side), Image.Resampling.BICUBIC).save(
            stream, "JPEG", quality=92
        )
        encoded.append(stream.getvalue())
    with (folder / "large_train.csv").open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["filepath", "caption"])
        for k in range(count):
            (folder / "images" / f"{k}.jpg").write_bytes(encoded[k % len(encoded)])
            writer.writerow([f"{k}.jpg", scenes[k % len(scenes)].captions.title])
    return folder / "large_train.csv", folder / "images"


def theirs(images: Path, size: int) -> Iterator[int]:
    """Yield the number of images of each batch of the baseline."""
    loader = DataLoader(Files(images, size), BATCH, shuffle=True, num_workers=1)
    for pixels, _ in loader:
        yield len(pixels)


def ours(folder: Path, size: int) -> Iterator[int]:
    """Yield the number of images of each batch of dove, normalised to floats as in training."""
    shards = Shards(folder)
    words = Tokenizer.learn(
        (text for texts in shards.captions("caption") for text in texts), min_count=1, max_tokens=64
    )
    make = MakeBatch(words, "caption", size, crop_scale=0.6, turn=True, seed=0)
    for batch in load(shards, TrainingPlan(shards.counts, BATCH, 1, 0), make, workers=1):
        yield len(normalise(batch.pixels))


def measure(batches: Callable[[], Iterator[int]]) -> tuple[float, float]:
    """Return images per second of processor time and of wall time, without start-up."""
    source = batches()
    next(source)
    spent, began = processor_seconds(), time.perf_counter()
    count = sum(source)
    return count / (processor_seconds() - spent), count / (time.perf_counter() - began)


def processor_seconds() -> float:
    """Return the processor time so far of this process and its children, also of running ones."""
    ticks, own = os.sysconf("SC_CLK_TCK"), os.getpid()
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(path.parent.name) == own:
            total += sum(map(int, fields[11:15]))  # with ended children
        elif int(fields[1]) == own:
            total += sum(map(int, fields[11:13]))
    return total / ticks


def main() -> None:
    """Make the images, measure both alternately, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--side", type=int, default=600)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table, images = make_images(folder, arguments.pictures, arguments.side)
        shard_captions(table, images, folder / "shards", ShardConfig(verify="header", workers=1))
        weight = sum(path.stat().st_size for path in images.iterdir()) / arguments.pictures
        print(
            f"{arguments.pictures} JPEGs of {arguments.side} pixels, {weight / 1000:.0f} KB each, to {arguments.size}"
        )
        ways = {
            "Pillow Dataset + DataLoader": lambda: theirs(images, arguments.size),
            "dove": lambda: ours(folder / "shards" / "train", arguments.size),
        }
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, batches in ways.items():
                found[way].append(measure(batches))
    base = found["Pillow Dataset + DataLoader"]
    print("| way | images a core-second | ratio | images/s | ratio |\n| --- | --- | --- | --- | --- |")
    for way, rounds in found.items():
        cells = []
        for k in range(2):
            value = statistics.median(r[k] for r in rounds)
            ratio = statistics.median(r[k] / b[k] for r, b in zip(rounds, base, strict=True))
            cells += [f"{value:.0f}", f"{ratio:.2f}"]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
