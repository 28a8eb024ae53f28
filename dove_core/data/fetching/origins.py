"""From the address of a release to its files: a web server, a repository of the Hub, a folder or a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from dove_core.buckets import file_system
from dove_core.data.fetching.clients import shown, web_client
from dove_core.data.fetching.hub import SCHEME, HubFile, Repository, hub_headers
from dove_core.data.fetching.servers import Origin, StoredFile, WebFile
from dove_core.errors import UsageError


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
        root, query = _web_root(base)
        with web_client(connections) as client:
            yield lambda path: WebFile(root + quote(path) + query, client)
        return
    if base.startswith(SCHEME):
        repository = Repository.at(base)
        with web_client(connections, hub_headers()) as client:
            yield lambda path: HubFile(repository, path, client)
        return
    if "://" in base and not base.startswith("file://"):
        files = file_system(base)
        folder = str(files._strip_protocol(base)).rstrip("/")
    else:
        place = Path(base.removeprefix("file://"))
        if not place.is_dir():
            hint = "--mirror takes a web address, a folder, or an address such as s3://bucket/folder"
            raise UsageError(f"{shown(base)} is not a web address and not a folder", hint=hint)
        files, folder = file_system("file://"), str(place.absolute())
    yield lambda path: StoredFile(files, f"{folder}/{path}")


def _web_root(base: str) -> tuple[str, str]:
    """Return what stands before the path of a file, and the query that stands behind it, such as a signature."""
    try:
        host = httpx.URL(base).host if urlsplit(base).port != 0 else ""  # the second raises on ports beyond 65535
    except (httpx.InvalidURL, ValueError):
        host = ""
    if not host:
        hint = "such as --mirror https://example.org/SkyScript/; in a password, write # as %23, / as %2F and @ as %40"
        raise UsageError(f"{shown(base)} is not a web address", hint=hint)
    parts = urlsplit(base)
    root = parts._replace(query="", fragment="").geturl()
    return root.rstrip("/") + "/", f"?{parts.query}" if parts.query else ""
