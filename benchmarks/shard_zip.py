"""Zip to tar: `dove shard` against unzip and webdataset, whole processes.

    python -m benchmarks.shard_zip --pictures 10000 --kilobytes 150 --runs 3

A release of JPEGs is made once (noise, every file different, in SkyScript's layout). Then, alternately:

    cp            copy and sync the zip, for reference
    unzip         `unzip` to files, then webdataset.ShardWriter: the usual way
    ShardWriter   webdataset.ShardWriter from existing files, with a CRC check
    dove 1, 2     `dove shard --verify header` with one and two workers
    dove full     `dove shard --verify full`, the default: decodes every JPEG, two workers

Every way checks CRCs (`unzip` does so itself) and ends when its output is on the disk. Ratios are medians of the ratios
of a round.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SHARD_SIZE = 2000
WRITER = """
import csv, json, os, sys, zipfile, zlib
import webdataset as wds
table, archive, root, out, check = sys.argv[1:]
sums = {i.filename: i.CRC for i in zipfile.ZipFile(archive).infolist()} if check == "crc" else None
os.makedirs(out)
with wds.ShardWriter(os.path.join(out, "%05d.tar"), maxcount=2000, maxsize=1e12, verbose=0) as sink:
    for row in csv.DictReader(open(table)):
        with open(os.path.join(root, row["filepath"]), "rb") as f:
            data = f.read()
        if sums is not None and zlib.crc32(data) != sums[row["filepath"]]:
            sys.exit("damaged " + row["filepath"])
        key = os.path.basename(row["filepath"]).rsplit(".", 1)[0]
        sink.write({"__key__": key, "jpg": data, "json": {"captions": {"title": [row["title"]]}}})
for name in os.listdir(out):
    with open(os.path.join(out, name), "rb") as f:
        os.fsync(f.fileno())
"""


def make_release(folder: Path, count: int, kilobytes: int, method: int) -> tuple[Path, Path]:
    """Write a zip of JPEGs of about the given size and its caption table; return both paths."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    bases = [jpeg(random, kilobytes * 1000) for _ in range(20)]
    table, archive = folder / "bench_train.csv", folder / "images2.zip"
    with zipfile.ZipFile(archive, "w", method) as images, table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filepath", "title", "title_multi_objects"])
        for i in range(count):
            note = b"\xff\xfe\x00\x0a" + f"{i:08d}".encode()  # a comment segment: every file is different
            base = bases[i % len(bases)]
            images.writestr(f"images2/a{i}_CH_19.jpg", base[:2] + note + base[2:])
            writer.writerow([f"images2/a{i}_CH_19.jpg", f"airport of runway {i}", f"airport of runway {i}, by a road"])
    return table, archive


def jpeg(random: np.random.Generator, size: int) -> bytes:
    """Return a JPEG of smooth noise with about `size` bytes."""
    side = 64
    while True:
        coarse = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(pixels + random.normal(0, 18, pixels.shape), 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "JPEG", quality=90)
        if stream.tell() >= size:
            return stream.getvalue()
        side = max(side + 16, int(side * (size / stream.tell()) ** 0.5))


def run(command: list[str]) -> None:
    """Run a command; print its output only if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr[-2000:]}")


def ways(table: Path, archive: Path, loose: Path, out: Path) -> dict[str, Callable[[], None]]:
    """Return the functions to time, by name."""
    python = sys.executable

    def write(root: Path, check: str) -> None:
        run([python, "-c", WRITER, str(table), str(archive), str(root), str(out / "wds"), check])

    def unzip() -> None:
        if shutil.which("unzip"):
            run(["unzip", "-q", str(archive), "-d", str(out / "loose")])
        else:
            run([python, "-m", "zipfile", "-e", str(archive), str(out / "loose")])
        write(out / "loose", "checked by unzip")

    def dove(*options: str) -> Callable[[], None]:
        command = [python, "-m", "dove_cli", "shard", "--captions", str(table), "--images", str(archive)]
        return lambda: run([*command, "--name", "bench", "--out", str(out / "dove"), *options])

    def copy() -> None:
        run(["sh", "-c", f"cp '{archive}' '{out}/copy.zip' && sync -d '{out}/copy.zip'"])

    return {
        "cp": copy,
        "unzip": unzip,
        "ShardWriter": lambda: write(loose, "crc"),
        "dove 1": dove("--workers", "1", "--verify", "header"),
        "dove 2": dove("--workers", "2", "--verify", "header"),
        "dove full": dove("--workers", "2"),
    }


def measure(method: int, name: str, folder: Path, options: argparse.Namespace) -> None:
    """Time all ways alternately, in several rounds, and print medians and ratios."""
    table, archive = make_release(folder / name, options.pictures, options.kilobytes, method)
    loose, out = folder / f"{name}_loose", folder / "out"
    with zipfile.ZipFile(archive) as images:
        images.extractall(loose)
        size = sum(entry.file_size for entry in images.infolist()) / 1e6
    print(f"{name}: {options.pictures} JPEGs, {size:.0f} MB, {archive.stat().st_size / 1e6:.0f} MB zipped")
    seconds: dict[str, list[float]] = {}
    for _ in range(options.runs):
        for way, action in ways(table, archive, loose, out).items():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            os.sync()
            begin = time.perf_counter()
            action()
            seconds.setdefault(way, []).append(time.perf_counter() - begin)
    print(f"{'':12} {'MB/s':>7} {'x unzip':>8} {'x ShardWriter':>14}")
    for way, times in seconds.items():
        ratios = [
            statistics.median(base / own for base, own in zip(seconds[other], times, strict=True))
            for other in ("unzip", "ShardWriter")
        ]
        print(f"{way:12} {size / statistics.median(times):7.0f} {ratios[0]:8.2f} {ratios[1]:14.2f}")
    shutil.rmtree(folder / name)
    shutil.rmtree(loose)


def main() -> None:
    """Read the options and measure stored and deflated zips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kilobytes", type=int, default=150, help="size of a JPEG; SkyScript's have about 29")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--deflated", action="store_true", help="also measure a deflated zip")
    parser.add_argument("--folder", type=Path, help="working folder, on the fastest disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="dove-bench-") as folder:
        measure(zipfile.ZIP_STORED, "stored", Path(folder), options)
        if options.deflated:
            measure(zipfile.ZIP_DEFLATED, "deflated", Path(folder), options)


if __name__ == "__main__":
    main()
