"""A server on this machine that speaks S3 (moto's), in a process of its own, and the environment that leads to it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

import pytest

BUCKET = "images"


@contextmanager
def s3_serving() -> Iterator[str]:
    """Run a server with one empty bucket for as long as the block runs; give its address.

    Until it answers, requests are repeated; a machine under load may take some seconds.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                try:
                    request = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
                    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request):
                        break
                except (URLError, ConnectionError):
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()


@contextmanager
def s3_environment(address: str) -> Iterator[None]:
    """Let every S3 client of this process, and of those it starts, find the server."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # one that is kept would still ask the server of another test
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield
