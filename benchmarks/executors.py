"""`dove shard` on a Ray cluster of one machine against local processes, whole commands.

    python -m benchmarks.executors --pictures 20000 --kilobytes 30 --workers 2 --runs 5

A release of JPEGs is made once, as in benchmarks/shard_zip.py. Then, alternately:

    local        `dove shard --workers N`
    ray          the same with `--executor ray` on a running cluster with N cores
    ray, local   the same on a cluster that starts and ends with the command

Printed: median seconds, and the median ratio to `local` of the same round; the fastest run of each way and its ratio,
which depend least on other work on the machine; the time to start and end a cluster, as the difference between the
fastest runs of the last two ways. The shards must be the same bytes. Then the overhead of Ray, by 1,000 tasks that do
nothing; medians. `--pictures 0` measures only the overhead.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.shard_zip import make_release

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}  # fmt: skip

NOTHING = """
import sys, time
from operator import neg
from dove_core.config import ExecutorConfig
from dove_core.executors import executing

times = [time.perf_counter()]
with executing(ExecutorConfig(*sys.argv[1:])) as executor:
    times.append(time.perf_counter())
    for count in (2, 1000):
        list(executor.each(neg, range(count), 2, lost=""))
        times.append(time.perf_counter())
times.append(time.perf_counter())
print(*(after - before for before, after in zip(times, times[1:])))
"""
"""Prints the seconds of connecting, of the first two tasks, of 1,000 tasks, and of ending."""


@contextmanager
def cluster(cores: int, folder: Path) -> Iterator[str]:
    """Run a cluster of one machine for as long as the context; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={address.rpartition(':')[2]}",
        "--node-ip-address=127.0.0.1", f"--num-cpus={cores}", "--include-dashboard=false",
    ]  # fmt: skip
    log = folder / "ray.log"
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream, env=ENVIRONMENT) as process:
        while "Ray runtime started" not in log.read_text():
            if process.poll() is not None:
                sys.exit(log.read_text())
            time.sleep(0.1)
        try:
            yield address
        finally:
            process.terminate()
            process.wait()


def shard(table: Path, archive: Path, out: Path, options: list[str]) -> tuple[float, str]:
    """Shard a release into an empty folder; return the seconds and a digest of all tars."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "dove_cli", "shard", "--captions", str(table), "--images", str(archive)]
    command += ["--name", "bench", "--out", str(out), *options]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"{command}: {done.stderr[-2000:]}")
    digest = hashlib.sha256()
    for tar in sorted(out.rglob("*.tar")):
        digest.update(tar.read_bytes())
    return seconds, digest.hexdigest()


def do_nothing(folder: Path, runs: int) -> None:
    """Print the overhead of each way."""
    print(f"{'':12} {'connect':>9} {'first two':>9} {'1,000':>9} {'end':>9}")
    with cluster(2, folder) as address:
        ways = {"local": ["local"], "ray": ["ray", address], "ray, local": ["ray", "local"]}
        for way, words in ways.items():
            command = [sys.executable, "-c", NOTHING, *words]
            lines = [
                subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, check=True).stdout
                for _ in range(runs)
            ]
            columns = zip(*(map(float, line.split()) for line in lines), strict=True)
            print(f"{way:12} " + " ".join(f"{statistics.median(column):7.2f} s" for column in columns))


def measure(table: Path, archive: Path, folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of each way in each round."""
    seconds: dict[str, list[float]] = {}
    digests = set()
    workers = ["--workers", str(options.workers), "--shard-size", str(options.shard_size)]
    with cluster(options.workers, folder) as address:
        ways = {
            "local": workers,
            "ray": [*workers, "--executor", "ray", "--ray-address", address],
            "ray, local": [*workers, "--executor", "ray", "--ray-address", "local"],
        }
        for _ in range(options.runs):
            for way, words in ways.items():
                os.sync()
                took, digest = shard(table, archive, folder / "out", words)
                seconds.setdefault(way, []).append(took)
                digests.add(digest)
    if len(digests) != 1:
        sys.exit("the shards differ")
    return seconds


def main() -> None:
    """Read the options, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--kilobytes", type=int, default=30, help="size of a JPEG")
    parser.add_argument("--shard-size", type=int, default=500, help="images in a shard; each shard is a task")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="working folder, on the fastest disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="dove-bench-") as name:
        folder = Path(name)
        if options.pictures:
            compare(folder, options)
        do_nothing(folder, options.runs)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Shard in each way, and print seconds and ratios."""
    table, archive = make_release(folder / "release", options.pictures, options.kilobytes, zipfile.ZIP_STORED)
    seconds = measure(table, archive, folder, options)
    print(f"{options.pictures} JPEGs of {options.kilobytes} kB, {options.workers} workers, {options.runs} rounds")
    print(f"{'':12} {'median':>8} {'ratio':>7} {'fastest':>9} {'ratio':>7}")
    local = seconds["local"]
    for way, times in seconds.items():
        ratio = statistics.median(own / base for own, base in zip(times, local, strict=True))
        best = min(times)
        middle = statistics.median(times)
        print(f"{way:12} {middle:6.2f} s {ratio:7.3f} {best:7.2f} s {best / min(local):7.3f}")
    print(f"starting and ending a cluster: {min(seconds['ray, local']) - min(seconds['ray']):.2f} s")


if __name__ == "__main__":
    main()
