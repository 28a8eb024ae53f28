"""Conversion of paths and addresses to places; commands and public functions do it once, where they start."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from dove_core.config import CacheConfig
from dove_core.errors import UsageError
from dove_core.places import Folder, Place

Address = str | os.PathLike[str] | Place
"""A path of this machine, a `file://` address, the address of a bucket such as `s3://bucket/folder`, or a place."""


def place_of(address: Address, cache: CacheConfig = CacheConfig()) -> Place:
    """Return the place of a path or address.

    Args:
        address: the path or address; a place is returned unchanged.
        cache: settings of the cache for a bucket's files.

    Raises:
        UsageError: a `file://` address names another machine, or the kind of address is unknown.

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
        from dove_core.buckets import Bucket  # noqa: PLC0415  # not needed for paths

        return Bucket(f"{kind.lower()}://{rest}", cache)
    if not rest.startswith("/"):
        raise UsageError(
            f"{address} is not a folder of this machine", hint="write it with three slashes: file:///folder"
        )
    return Folder(Path(rest))


def path_of(place: Place, *, needed_by: str) -> Path:
    """Return the path of a place on this machine.

    Raises:
        UsageError: the place is in a bucket; `needed_by` names the option or argument that needs a path.
    """
    if not isinstance(place, Folder):
        raise UsageError(f"{needed_by} {place} is not a path of this machine", hint="give a path of this machine")
    return place.path


def path_between(start: Place, end: Place) -> str:
    """Return the path from one place to another: relative within a machine or bucket, otherwise absolute.

    >>> path_between(place_of("index/sample"), place_of("runs/sample/best"))
    '../../runs/sample/best'
    """
    if isinstance(start, Folder) and isinstance(end, Folder):
        return os.path.relpath(end.path, start.path)
    source, target = str(start.absolute).split("/"), str(end.absolute).split("/")
    if source[:3] != target[:3] or isinstance(start, Folder):  # ["s3:", "", "bucket"]
        return str(end.absolute)
    return posixpath.relpath("/".join(["", *target[3:]]), "/".join(["", *source[3:]]))


def follow_path(start: Place, path: str) -> Place:
    """Return the place at a path that `path_between` returned.

    >>> follow_path(place_of("index/sample"), "../../runs/sample/best").url
    'runs/sample/best'
    """
    if "://" in path or (path.startswith("/") and not isinstance(start, Folder)):
        return place_of(path, start.cache)
    if isinstance(start, Folder):
        return Folder(Path(os.path.normpath(start.path / path)))
    kind, _, rest = start.url.partition("://")
    return place_of(f"{kind}://{posixpath.normpath(f'{rest}/{path}')}", start.cache)
