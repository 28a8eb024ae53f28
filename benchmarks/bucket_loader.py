"""Loading for training from a bucket, with a cold and a warm cache, against the same shards in a folder.

    python -m benchmarks.bucket_loader --pictures 3000 --side 256

The bucket is on a moto server on this machine, so a cold cache shows the cost of our code, not of a network;
`--latency` adds milliseconds to each request. One worker reads, decodes, crops and batches an epoch; the rows `read`
only read. Printed: seconds until the first batch (with opening the shards and, with a cold cache, copying the first
ones), images per second after it and overall, and ratios to the folder. Rounds alternate; figures are medians.
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

from benchmarks.loader import make_images
from dove_core.addresses import Address
from dove_core.buckets import Bucket, file_system
from dove_core.config import CacheConfig, ShardConfig
from dove_core.data.batch_plan import TrainingPlan
from dove_core.data.loader import load
from dove_core.data.reader import Record, Shards
from dove_core.data.sharding.shards import shard_captions
from dove_core.model.tokenizer import Tokenizer
from dove_core.training.batches import MakeBatch

_BATCH, _SIZE, _BUCKET = 64, 224, "bench"


@contextmanager
def served(latency: float) -> Iterator[None]:
    """Run an S3 server with one bucket and a latency, and set the environment variables that clients read."""
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
    """Forward connections to a local port, each request delayed by `latency` seconds."""

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
    """Return the number of images of a batch that is read but not decoded."""
    return len(records)


def run(place: Address, decode: bool) -> tuple[float, float, float]:
    """Read an epoch; return seconds until the first batch, images per second after it, and overall."""
    began = time.perf_counter()
    shards = Shards(place)
    plan = TrainingPlan(shards.counts, _BATCH, 1, 0)
    if decode:
        texts = (text for own in shards.captions("caption") for text in own)
        words = Tokenizer.learn(texts, min_count=1, max_tokens=64)
        make = MakeBatch(words, "caption", _SIZE, crop_scale=0.6, turn=True, seed=0)
        sizes = (len(batch.pixels) for batch in load(shards, plan, make, workers=1))
    else:
        sizes = (size for size in load(shards, plan, counted, workers=1))
    first, now = next(sizes), time.perf_counter()
    rest = sum(sizes)
    end = time.perf_counter()
    return now - began, rest / (end - now), (first + rest) / (end - began)


def main() -> None:
    """Make the shards, read them alternately, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, served(arguments.latency / 1000):
        folder = Path(name)
        table, images = make_images(folder, arguments.pictures, arguments.side)
        shard_captions(table, images, folder / "shards", ShardConfig(shard_size=100, verify="header", workers=1))
        local, cold, warm = folder / "shards" / "train", folder / "cold", CacheConfig(str(folder / "warm"))
        url = f"s3://{_BUCKET}/train"
        file_system(url).put(f"{local}/", f"{_BUCKET}/train/", recursive=True)
        run(Bucket(url, warm), False)
        ways: dict[str, Callable[[], Address]] = {
            "folder": lambda: local,
            "bucket, warm cache": lambda: Bucket(url, warm),
            "bucket, cold cache": lambda: Bucket(url, CacheConfig(str(cold))),
        }
        print("| where | what | first batch after, s | images/s then | ratio | images/s over all | ratio |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for decode in (False, True):
            found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
            for _ in range(arguments.rounds):
                for way, place in ways.items():
                    shutil.rmtree(cold, ignore_errors=True)
                    found[way].append(run(place(), decode))
            for way, rounds in found.items():
                cells = [
                    way,
                    "training batches" if decode else "read",
                    f"{statistics.median(r[0] for r in rounds):.2f}",
                ]
                for k in (1, 2):
                    ratios = (own[k] / base[k] for own, base in zip(rounds, found["folder"], strict=True))
                    cells += [f"{statistics.median(r[k] for r in rounds):.0f}", f"{statistics.median(ratios):.2f}"]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
