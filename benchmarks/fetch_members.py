"""1,000 of 100,000 members by range, against one request a member, one after another; prints both ratios.

A server in its own process holds a zip of 100,000 members and waits 20 ms before each answer. The baseline asks for
each member over one connection that is kept open; it has the directory already, `dove` has to fetch it too.

    python -m benchmarks.fetch_members [--members 100000] [--wanted 1000] [--latency 0.02]
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import threading
import time
import zipfile
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import numpy as np

from dove_core.data.fetching.members import KeptDirectory, MemberFetch
from dove_core.data.fetching.servers import Version, WebFile
from dove_core.data.fetching.transfers import Transfers
from dove_core.data.zips import ZipDirectory, content
from tests.http_server import Served, Server

ARCHIVE = "images2.zip"


def make_archive(members: int, longest: int) -> bytes:
    """Return a zip of stored members of random lengths, as JPEGs are."""
    draw, stream = random.Random(1), io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for number in range(members):
            made.writestr(f"images2/a{number:09d}_CH_19.jpg", draw.randbytes(draw.randrange(500, longest)))
    return stream.getvalue()


def serve(pipe: Connection, path: Path, latency: float) -> None:
    """Serve the archive until told to stop; answer with the bytes that went out."""
    body = path.read_bytes()
    with Server() as server:
        server.files[ARCHIVE] = Served(body, latency=latency)
        pipe.send(server.url(ARCHIVE))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while pipe.recv() != "stop":
            pipe.send((sum(asked.sent for asked in server.asked), len(server.asked)))
            server.asked.clear()
        server.shutdown()


def one_by_one(url: str, directory: ZipDirectory, wanted: np.ndarray) -> float:
    """Fetch each member by a request of its own over one connection; return seconds."""
    begin = time.perf_counter()
    with httpx.Client(timeout=60, trust_env=False) as client:
        for number in wanted.tolist():
            start, end = int(directory.header[number]), int(directory.end[number])
            record = client.get(url, headers={"Range": f"bytes={start}-{end - 1}"}).content
            facts = (directory.packed, directory.size, directory.crc, directory.method)
            content(record, *(int(column[number]) for column in facts), "member")
    return time.perf_counter() - begin


def by_range(url: str, version: Version, wanted: np.ndarray, folder: Path, connections: int) -> float:
    """Fetch the directory and the members as `dove fetch` does; return seconds."""
    begin, transfers = time.perf_counter(), Transfers(connections)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    with httpx.Client(timeout=60, trust_env=False, limits=limits) as client:
        origin = WebFile(url, client)
        directory = KeptDirectory(folder / ".fetch", "images2", version).fetch(origin, transfers)
        members = MemberFetch(origin, version, directory, wanted, folder / "images2", transfers)
        transfers.at_once(members.bring, members.begin())
        members.finish()
    return time.perf_counter() - begin


def main() -> None:
    """Measure both in one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    parser.add_argument("--wanted", type=int, default=1_000)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds before each answer")
    parser.add_argument("--longest", type=int, default=10_000, help="longest member, in bytes")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "source.zip").write_bytes(make_archive(options.members, options.longest))
        print(json.dumps(measure(folder, options), indent=1))
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return seconds, bytes and both ratios."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(there, folder / "source.zip", options.latency)
    )
    process.start()
    url, size = here.recv(), (folder / "source.zip").stat().st_size
    version = Version('"one"', size)
    wanted = np.sort(np.random.default_rng(0).choice(options.members, options.wanted, replace=False))
    seconds = by_range(url, version, wanted, folder / "out", options.connections)
    here.send("count")
    sent, requests = here.recv()
    directory = KeptDirectory(folder / "out" / ".fetch", "images2", version).read()
    assert directory is not None
    slow = one_by_one(url, directory, wanted)
    here.send("stop")
    process.join()
    least = int((directory.end - directory.header)[wanted].sum())
    return {
        "bytes of the members": least,
        "bytes of the directory": size - directory.start,
        "bytes fetched": sent,
        "requests": requests,
        "seconds": round(seconds, 2),
        "seconds, one request a member": round(slow, 2),
        "bytes beside the directory to the members'": round((sent - size + directory.start) / least, 3),
        "times as fast as one request a member": round(slow / seconds, 1),
    }


if __name__ == "__main__":
    main()
