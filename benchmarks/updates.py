"""Adding images to a large index, against embedding them alone.

    python -m benchmarks.updates --rows 1000000 --images 1000 --folder big

Simulated: the rows that the index has are random vectors in clusters with made-up metadata, as in
`benchmarks.one_shot`, and their images do not exist; the model has random weights; the images that are added are noise.
Everything else is real: both ways run as processes of `dove embed`, in turns, each adding other images. Figures are
medians. Memory is the peak of the process. What adding needs more than embedding alone must not be more than the peak
of a query.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.one_shot import QUERY, make_index

SIDE = 256
LAUNCH = (
    "import resource, subprocess, sys\ncode = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
    "used = resource.getrusage(resource.RUSAGE_CHILDREN)\nprint(used.ru_utime + used.ru_stime, used.ru_maxrss)\n"
    "sys.exit(code)"
)
Used = tuple[float, float, float]
"""Seconds, seconds of the processor, and the peak of memory in MB of a process."""


def make_images(folder: Path, count: int, seed: int) -> Path:
    """Write JPEGs of noise at a coarse scale."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    for k in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{seed}-{k:05d}.jpg", quality=85)
    return folder


def run(command: list[str]) -> Used:
    """Run a command; return what it used.

    A small process starts it: a process begins with the peak of the one that starts it.
    """
    began = time.perf_counter()
    found = subprocess.run([sys.executable, "-c", LAUNCH, *command], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if found.returncode:
        raise SystemExit(found.stderr)
    processor, peak = map(float, found.stdout.split())
    return seconds, processor, peak / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the index there; one that is there is copied by links")
    arguments = parser.parse_args()
    alone, adding, asking = list[Used](), list[Used](), list[Used]()
    with tempfile.TemporaryDirectory(dir=arguments.folder and arguments.folder.parent) as name:
        folder = Path(name)
        kept = arguments.folder or folder
        if not (kept / "index" / "index.json").exists():
            kept.mkdir(exist_ok=True)
            make_index(kept, arguments.rows, "", regions=False)
        if kept != folder:
            shutil.copytree(kept, folder, copy_function=os.link, dirs_exist_ok=True)
        dove = [sys.executable, "-m", "dove_cli"]
        common = ["--checkpoint", str(folder / "run" / "best"), "--device", "cpu", "--workers", "0"]
        for k in range(arguments.rounds):
            images = str(make_images(folder / f"images{k}", arguments.images, k))
            alone.append(run([*dove, "embed", images, *common, "--out", str(folder / "alone")]))
            shutil.rmtree(folder / "alone")
            adding.append(run([*dove, "embed", images, *common, "--out", str(folder / "index"), "--add"]))
            asking.append(run([*dove, "query", QUERY, "--index", str(folder / "index")]))
            last = zip(("alone", "added", "query"), (alone[-1], adding[-1], asking[-1]), strict=True)
            print(f"round {k}:", ", ".join(f"{what} {s:.1f} s {cpu:.1f} s {mb:.0f} MB" for what, (s, cpu, mb) in last))
    print(f"\n| {arguments.images} images | s | ratio | s of the processor | ratio | peak, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    base, base_cpu, _ = (statistics.median(values) for values in zip(*alone, strict=True))
    for label, found in (("embedded alone", alone), (f"added to {arguments.rows} rows", adding), ("a query", asking)):
        seconds, cpu, peak = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"| {label} | {seconds:.1f} | {seconds / base:.2f} | {cpu:.1f} | {cpu / base_cpu:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
