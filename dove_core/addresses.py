"""Turns what a user gives, a path or an address, into a place: once, where a command or a public function starts."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from dove_core.config import CacheConfig
from dove_core.errors import UsageError
from dove_core.places import Folder, Place

Address = str | os.PathLike[str] | Place
"""A path of this machine, a `file://` address, the address of a bucket such as `s3://bucket/folder`, or a place."""


def place_of(address: Address, cache: CacheConfig = CacheConfig()) -> Place:  # noqa: B008  # frozen
    """Return the place at a path or address.

    Args:
        address: of the place; a place is returned as it is.
        cache: where copies of a bucket's files are kept.

    Raises:
        UsageError: a `file://` address names another machine, or no file system is known for the address.

    >>> place_of("shards/sample").name
    'sample'
    >>> place_of("file:///data/shards").url
    '/data/shards'
    """
    if isinstance(address, Place):
        return address
    text = os.fspath(address)
    if isinstance(address, os.PathLike) or "://" not in text:
        return Folder(Path(text))
    kind, _, rest = text.partition("://")
    if kind.lower() != "file":
        from dove_core.buckets import Bucket  # noqa: PLC0415  # paths do without

        return Bucket(f"{kind.lower()}://{rest}", cache)
    if not rest.startswith("/"):
        raise UsageError(f"{address} is not a folder of this machine", hint="write three slashes: file:///folder")
    return Folder(Path(rest))


def path_of(place: Place, *, needed_by: str) -> Path:
    """Return the path of a folder or file of this machine.

    Raises:
        UsageError: it is in a bucket; `needed_by` says what cannot read or write there.
    """
    if not isinstance(place, Folder):
        raise UsageError(f"{needed_by} {place} is not a path of this machine", hint="give a path of this machine")
    return place.path


def path_between(start: Place, end: Place) -> str:
    """Return how to get from one place to another: a relative path on one machine or in one bucket, else an address.

    >>> path_between(place_of("index/sample"), place_of("runs/sample/best"))
    '../../runs/sample/best'
    """
    if isinstance(start, Folder) and isinstance(end, Folder):
        return os.path.relpath(end.path, start.path)
    here, there = str(start.absolute).split("/"), str(end.absolute).split("/")
    if here[:3] != there[:3] or isinstance(start, Folder):  # ["s3:", "", "bucket"]
        return str(end.absolute)
    return posixpath.relpath("/".join(["", *there[3:]]), "/".join(["", *here[3:]]))


def follow_path(start: Place, way: str) -> Place:
    """Return the place that `path_between` leads to.

    >>> follow_path(place_of("index/sample"), "../../runs/sample/best").url
    'runs/sample/best'
    """
    if "://" in way or (way.startswith("/") and not isinstance(start, Folder)):
        return place_of(way, start.cache)
    if isinstance(start, Folder):
        return Folder(Path(os.path.normpath(start.path / way)))
    kind, _, rest = start.url.partition("://")
    return place_of(f"{kind}://{posixpath.normpath(f'{rest}/{way}')}", start.cache)
