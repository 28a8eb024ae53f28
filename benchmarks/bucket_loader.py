"""Loading for training: shards in a bucket, with the cache cold and warm, against the same shards in a folder.

    python benchmarks/bucket_loader.py --pictures 3000 --side 256

The bucket is one of a server on this machine (moto's, in Python), so a cold cache shows what our part costs and not
what a network does: `--latency` adds so many milliseconds before each request. One worker decodes, crops and batches;
starting up is counted, since with a cold cache it is where the waiting is. Printed: pictures a second, and the ratio to
the folder; rounds alternate, medians. `read` leaves the decoding out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from loader import make_pictures  # its neighbour

from dove_core.buckets import Bucket, file_system
from dove_core.config import CacheConfig, ShardConfig
from dove_core.data.loader import load
from dove_core.data.plan import TrainingPlan
from dove_core.data.reader import Record, Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.model.tokenizer import Tokenizer
from dove_core.places import Location
from dove_core.training.batches import MakeBatch

_BATCH, _SIZE, _BUCKET = 64, 224, "bench"


@contextmanager
def served(latency: float) -> Iterator[None]:
    """Run an S3 server with one bucket, behind a link that takes its time, and let clients find it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        threading.Thread(target=accept, args=(listening, port, latency), daemon=True).start()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{listening.getsockname()[1]}", "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        try:
            time.sleep(5)
            file_system("s3://").mkdir(_BUCKET)
            yield
        finally:
            process.terminate()


def accept(listening: socket.socket, port: int, latency: float) -> None:
    """Pass connections on to a port of this machine, each request later by `latency` seconds."""

    def passed(source: socket.socket, target: socket.socket, pause: float) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 18):
                time.sleep(pause)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    with suppress(OSError):
        while True:
            own, _ = listening.accept()
            other = socket.create_connection(("127.0.0.1", port))
            for ends in ((own, other, latency), (other, own, 0.0)):
                threading.Thread(target=passed, args=ends, daemon=True).start()


def counted(records: list[Record], epoch: int) -> int:
    """Return the number of pictures of a batch that is read and no more."""
    return len(records)


def run(place: Location, decode: bool) -> tuple[float, int]:
    """Read an epoch; return the seconds it took, and the pictures."""
    began = time.perf_counter()
    shards = Shards(place)
    plan = TrainingPlan(shards.counts, _BATCH, 1, 0)
    if not decode:
        total = sum(load(shards, plan, counted, workers=1))
        return time.perf_counter() - began, total
    words = Tokenizer.learn((text for own in shards.captions("caption") for text in own), min_count=1, max_tokens=64)
    make = MakeBatch(words, "caption", _SIZE, crop_scale=0.6, turn=True, seed=0)
    total = sum(len(batch.pixels) for batch in load(shards, plan, make, workers=1))
    return time.perf_counter() - began, total


def main() -> None:
    """Make the shards, read them in turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, served(arguments.latency / 1000):
        folder = Path(name)
        table, images = make_pictures(folder, arguments.pictures, arguments.side)
        shard_captions(table, images, folder / "shards", ShardConfig(shard_size=100, verify="header", workers=1))
        local, cold, warm = folder / "shards" / "train", folder / "cold", CacheConfig(str(folder / "warm"))
        url = f"s3://{_BUCKET}/train"
        file_system(url).put(f"{local}/", f"{_BUCKET}/train/", recursive=True)
        run(Bucket(url, warm), False)
        ways: dict[str, Callable[[], Location]] = {
            "folder": lambda: local,
            "bucket, warm cache": lambda: Bucket(url, warm),
            "bucket, cold cache": lambda: Bucket(url, CacheConfig(str(cold))),
        }
        print("| where | what | pictures/s | ratio |\n| --- | --- | --- | --- |")
        for decode in (False, True):
            found: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(arguments.rounds):
                for way, place in ways.items():
                    shutil.rmtree(cold, ignore_errors=True)
                    seconds, count = run(place(), decode)
                    found[way].append(count / seconds)
            for way, speeds in found.items():
                ratio = statistics.median(own / base for own, base in zip(speeds, found["folder"], strict=True))
                what = "training batches" if decode else "read"
                print(f"| {way} | {what} | {statistics.median(speeds):.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
