"""Everything that is worth measuring on a GPU, in order of worth and within a number of minutes.

    dove shard --captions dataset_rsicd.json --images RSICD_images.zip --name rsicd --image-size 160
    python -m benchmarks.on_gpu --shards shards/rsicd --minutes 8

It needs no download. Each part runs in a process of its own, prints its rows when it ends, and adds them to
`on_gpu.json`, so a run that is cut tells what it found. A part that fails, or takes longer than what is left, says so,
and the next one begins. Ratios are to the baseline in the same part. `--tiny` takes sizes for a test on a CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import embedding, train_step
from benchmarks.alternating import median_seconds, seconds, wait
from benchmarks.rsicd import mean_recalls
from dove_core.config import ComputeConfig, ModelConfig, TrainConfig
from dove_core.data.batch_plan import TrainingPlan
from dove_core.data.loader import load
from dove_core.data.reader import Shards
from dove_core.encoding.compute import choose_device, decodes_on_gpu, mixed_dtype, worker_count
from dove_core.encoding.dove import DoveEncoder, build
from dove_core.encoding.embedder import Embedder
from dove_core.errors import UsageError
from dove_core.evaluation.encode import encode_split
from dove_core.events import Measured
from dove_core.model.tokenizer import Tokenizer
from dove_core.places import Folder
from dove_core.recipes import read_recipe
from dove_core.training.batches import MakeBatch
from dove_core.training.loop import train

ROOT = Path(__file__).parents[1]
LEAST = {
    "tests": 60,
    "step": 60,
    "step-compiled": 100,
    "pairs": 40,
    "embed": 60,
    "decode": 40,
    "memory": 40,
    "ring": 90,
}
"""Parts in order of worth, and the seconds below which each is not begun."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of all parts; `seconds` is what is left for the part."""

    shards: Path
    seconds: float
    side: int = 256
    batch: int = 256
    rounds: int = 10
    images: int = 8192
    memory: tuple[int, ...] = (256, 1024)
    model: ModelConfig = ModelConfig()
    training: TrainConfig = TrainConfig()


Row = tuple[str, str, float | None]
"""What was measured, the figure with its unit, and the ratio to the baseline if there is one."""


def step(sizes: Sizes, compiled: bool) -> Iterator[Row]:
    """Measure the whole training step against that of a bare ResNet-50."""
    device = choose_device("auto")
    with tempfile.TemporaryDirectory() as folder:
        common = (sizes.batch, sizes.side, device, compiled)
        steps = {"bare ResNet-50": train_step.bare_step(*common), "dove": train_step.our_step(*common, Path(folder))}
        middle = median_seconds(steps, device, rounds=sizes.rounds, warm_up=3)
    kind = "compiled" if compiled else "eager"
    for way, own in middle.items():
        yield f"step, {kind}, {way}", f"{sizes.batch / own:.1f} images/s", middle["bare ResNet-50"] / own


def memory(sizes: Sizes) -> Iterator[Row]:
    """Measure the peak memory of a training step."""
    device = choose_device("auto")
    for count in sizes.memory:
        with tempfile.TemporaryDirectory() as folder:
            one = train_step.our_step(count, sizes.side, device, False, Path(folder))
            for _ in range(2):
                seconds(one, device)
            yield f"memory of a step, batch {count}", f"{train_step.memory(device) / 1024:.1f} GiB", None


def decode(sizes: Sizes) -> Iterator[Row]:
    """Measure loading with JPEGs decoded by the CPU and by the GPU."""
    device, shards = choose_device("auto"), Shards(Folder(sizes.shards / "train"))
    workers = worker_count(-1, device)
    speeds: dict[str, float] = {}
    for way in ("cpu", "gpu"):
        try:
            leave = decodes_on_gpu(device, way)
        except UsageError as error:
            yield f"--decode {way}", error.message, None
            continue
        make = MakeBatch(Tokenizer(["a"], 12), "caption", sizes.side, 0.6, True, 0, leave_jpegs=leave)
        plan = TrainingPlan(shards.counts, sizes.batch, 100, 0, 0, 1)
        with closing(load(shards, plan, make, workers=workers, pin_memory=device.type == "cuda")) as batches:
            for _ in range(min(3, workers + 1)):
                next(batches).to(device).decoded()
            began, seen = time.perf_counter(), 0
            while seen < sizes.images:
                seen += len(next(batches).to(device).decoded().pixels)
            wait(device)
        speeds[way] = seen / (time.perf_counter() - began)
        yield f"--decode {way}, {workers} workers", f"{speeds[way]:.0f} images/s", speeds[way] / speeds["cpu"]


def embed(sizes: Sizes) -> Iterator[Row]:
    """Measure embedding from shards against the bare backbone."""
    device, compute, batch = choose_device("auto"), ComputeConfig(), sizes.batch
    encoder, tower, side = embedding.make_model("", Path())
    shards = Shards(Folder(sizes.shards / "train"))
    images = max(batch, min(sizes.images, len(shards)) // batch * batch)
    for kind, compiled in (("eager", False), ("compiled", True)):
        ways = {
            "bare ResNet-50": embedding.bare(tower(), side, batch, compiled, compute),
            "embed": embedding.ours(encoder, shards, batch, compiled, compute),
        }
        speeds: dict[str, float] = {}
        for way, run in ways.items():
            run(batch)
            began = time.perf_counter()
            run(images)
            wait(device)
            speeds[way] = images / (time.perf_counter() - began)
            yield f"embed, {kind}, {way}", f"{speeds[way]:.0f} images/s", speeds[way] / speeds["bare ResNet-50"]


def pairs(sizes: Sizes) -> Iterator[Row]:
    """Measure the pair scores of all val images and captions, in both precisions."""
    shards = Shards(Folder(sizes.shards / "val"))
    words = Tokenizer.learn((text for own in shards.captions("caption") for text in own), min_count=1, max_tokens=64)
    checkpoint = build(sizes.model, words)
    checkpoint.model.eval()
    for amp in (True, False):
        embedder = Embedder(DoveEncoder(checkpoint), ComputeConfig(amp=amp))
        split = encode_split(embedder, shards, batch_size=64, exact=True)
        embedder.score_pairs(split.images.rows(slice(0, 8)), split.captions)
        began = time.perf_counter()
        scores = embedder.score_pairs(split.images, split.captions)
        precision = str(mixed_dtype(embedder.device, amp) or torch.float32).removeprefix("torch.")
        shape = " x ".join(map(str, scores.shape))
        yield f"pairs, {shape}, {precision}", f"{time.perf_counter() - began:.2f} s", None


def ring(sizes: Sizes) -> Iterator[Row]:
    """Train a recipe for as many epochs as fit, and measure recall on val by all rankings."""
    training = dataclasses.replace(sizes.training, validate_every=1000)
    shards, compute, speeds = sizes.shards / "train", ComputeConfig(), list[float]()

    def watch(event: object) -> None:
        if isinstance(event, Measured) and event.final:
            speeds.append(event.values["samples_per_second"])
            print(f"  epoch {event.values['epoch']}: loss {event.values['loss']:.3f}", file=sys.stderr, flush=True)

    began, count = time.perf_counter(), len(Shards(Folder(shards)))
    with tempfile.TemporaryDirectory() as folder:
        for name, epochs in (("short", 2), ("run", 0)):  # the first tells how many epochs fit
            left = 0.8 * (sizes.seconds - (time.perf_counter() - began))
            epochs = epochs or max(1, min(sizes.training.epochs, int(left * speeds[-1] / count)))
            training = dataclasses.replace(training, epochs=epochs)
            train(shards, Path(folder) / name, sizes.model, training, compute, report=watch)
        found = mean_recalls(Path(folder) / "run" / "last", sizes.shards / "val", compute)
    yield f"ring, {epochs} epochs", f"{speeds[-1]:.0f} images/s", None
    for row, recall in found.items():
        yield f"ring, val mean recall, {row}", f"{recall:.2f}", None


PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "step": lambda sizes: step(sizes, False),
    "step-compiled": lambda sizes: step(sizes, True),
    "pairs": pairs,
    "embed": embed,
    "decode": decode,
    "memory": memory,
    "ring": ring,
}


def full(shards: Path, seconds: float) -> Sizes:
    """Return the sizes for a GPU; the ring is the recipe rsicd-scratch-gpu."""
    settings = read_recipe("rsicd-scratch-gpu")
    model, training = (
        dataclasses.replace(base, **{name: value for name, value in settings.items() if hasattr(base, name)})
        for base in (ModelConfig(), TrainConfig())
    )
    return Sizes(shards, seconds, model=model, training=training)


def tiny(shards: Path, seconds: float) -> Sizes:
    """Return the sizes for a test on a CPU."""
    model = ModelConfig(
        backbone="resnet18", image_size=32, embed_dim=32, heads=4, region_grid=2, caption_field="caption"
    )
    training = TrainConfig(weights="none", epochs=2, batch_size=32)
    return Sizes(shards, seconds, 64, 4, 1, 16, (4, 8), model, training)


def run_part(name: str, options: list[str], seconds: float) -> tuple[list[Row], str]:
    """Run a part in a process of its own; return its rows, and why it ended early, if it did."""
    if name == "tests":
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    else:
        command = [sys.executable, "-m", "benchmarks.on_gpu", "--part", name, "--seconds", str(seconds), *options]
    lines, problem = list[str](), ""
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=output, timeout=seconds, check=False)
            problem = f"ended with code {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"did not end in its {seconds:.0f} s"
        output.seek(0)
        lines = output.read().splitlines()
    if name == "tests":
        return [("tests marked gpu", lines[-1] if lines else "none", None)], problem
    complete = (line for line in lines if line.endswith("]"))  # the last one of a killed process may be cut
    return [(what, figure, ratio) for what, figure, ratio in map(json.loads, complete)], problem


def main() -> None:
    """Run all parts, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, default=Path("shards/rsicd"), help="folder of train and val")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--parts", nargs="+", choices=LEAST, default=list(LEAST))
    parser.add_argument("--out", type=Path, default=Path("on_gpu.json"))
    parser.add_argument("--tiny", action="store_true", help="sizes for a test on a CPU")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shards = arguments.shards.absolute()
    sizes = tiny(shards, arguments.seconds) if arguments.tiny else full(shards, arguments.seconds)
    if arguments.part:
        for row in PARTS[arguments.part](sizes):
            print(json.dumps(row), flush=True)
        return
    end, least = time.monotonic() + 60 * arguments.minutes, 0.1 if arguments.tiny else 1.0
    found: dict[str, object] = {"device": describe_device(), "rows": {}, "problems": {}}
    print(f"{found['device']}\n| measured | figure | ratio |\n| --- | --- | --- |", flush=True)
    options = ["--shards", str(shards), *(["--tiny"] if arguments.tiny else [])]
    for name in arguments.parts:
        rows, problem = list[Row](), f"not begun: less than {LEAST[name]} s were left"
        if (left := end - time.monotonic()) >= least * LEAST[name]:
            rows, problem = run_part(name, options, left)
        for what, figure, ratio in rows:
            print(f"| {what} | {figure} | {'' if ratio is None else f'{ratio:.2f}'} |", flush=True)
        if problem:
            print(f"| {name} | {problem} | |", flush=True)
            found["problems"] |= {name: problem}  # type: ignore[operator]
        found["rows"] |= {name: rows}  # type: ignore[operator]
        arguments.out.write_text(json.dumps(found, indent=1))


def describe_device() -> str:
    """Return the name of the device and the version of torch."""
    device = choose_device("auto")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return f"{name}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
