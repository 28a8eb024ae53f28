"""From the address of a release to its files: a web server, a repository of the Hub, a folder or a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx

from dove_core.buckets import file_system
from dove_core.data.fetching.hub import SCHEME, HubFile, Repository, hub_headers
from dove_core.data.fetching.servers import Origin, StoredFile, WebFile
from dove_core.errors import UsageError

_TIMEOUT = 30.0  # seconds without a byte after which a connection is given up


@contextmanager
def opened(base: str, connections: int) -> Iterator[Callable[[str], Origin]]:
    """Give a function that returns the file at a path below an address.

    Args:
        base: a web address, `hf://datasets/OWNER/NAME` or `hf://OWNER/NAME`, a folder, or the address of a bucket.
        connections: how many requests are made at once.

    Raises:
        UsageError: `base` is none of these, or needs a package that is not installed.
    """
    if base.startswith(("http://", "https://")):
        root = _web_root(base)
        with _client(connections) as client:
            yield lambda path: WebFile(root + quote(path), client)
        return
    if base.startswith(SCHEME):
        repository = Repository.at(base)
        with _client(connections, hub_headers()) as client:
            yield lambda path: HubFile(repository, path, client)
        return
    if "://" in base and not base.startswith("file://"):
        files = file_system(base)
        folder = str(files._strip_protocol(base)).rstrip("/")
    else:
        place = Path(base.removeprefix("file://"))
        if not place.is_dir():
            hint = "--mirror takes a web address, a folder, or an address such as s3://bucket/folder"
            raise UsageError(f"{base} is not a web address and not a folder", hint=hint)
        files, folder = file_system("file://"), str(place.absolute())
    yield lambda path: StoredFile(files, f"{folder}/{path}")


def _client(connections: int, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Return a client that sends `headers` to the first host only: httpx leaves a token out when redirected."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.Client(timeout=httpx.Timeout(_TIMEOUT, pool=None), limits=limits, headers=headers)


def _web_root(base: str) -> str:
    try:
        host = httpx.URL(base).host
    except httpx.InvalidURL:
        host = ""
    if not host:
        raise UsageError(f"{base} is not a web address", hint="such as --mirror https://example.org/SkyScript/")
    return base.rstrip("/") + "/"
