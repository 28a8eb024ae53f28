"""Addresses of collections: `http://HOST:19530/NAME` on a server, `FILE.db/NAME` in Milvus Lite."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dove_core.errors import UsageError

_SERVER = re.compile(r"(https?://[^/\s]+)(?:/([^/]*))?/?")
_LITE = re.compile(r"(?:file://)?((?:.*/)?[^/]+\.db)(?:/([^/]*))?/?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_HINT = "use http://HOST:19530/NAME for a server, FILE.db/NAME for Milvus Lite"


@dataclass(frozen=True)
class CollectionAddress:
    """The URL of a server, or the path of a Milvus Lite database, and the name of a collection."""

    server: str
    collection: str

    def __str__(self) -> str:
        return f"{self.server}/{self.collection}"

    @property
    def is_lite(self) -> bool:
        """Tell whether the address is a database of Milvus Lite, not a server."""
        return not self.server.startswith(("http://", "https://"))


def is_address(text: str) -> bool:
    """Tell whether a text is an address of Milvus, not of a folder."""
    return bool(re.match(r"https?://", text) or _LITE.fullmatch(text))


def parse_address(text: str, *, collection: str = "") -> CollectionAddress:
    """Parse an address; `collection` is the name of the collection if the text has none.

    Raises:
        UsageError: the address is invalid, or Milvus does not allow the name of the collection.
    """
    match = _SERVER.fullmatch(text) or _LITE.fullmatch(text)
    port = match and re.search(r":(\d*)$", match[1])
    if match is None or (port and not 0 < int(port[1] or 0) < 65536):
        raise UsageError(f"{text} is not a valid address of Milvus", hint=_HINT)
    server, name = match[1], match[2] or collection
    if not _NAME.fullmatch(name):
        message = f"{text}: {name!r} is not a valid collection name" if name else f"{text} has no collection name"
        raise UsageError(message, hint=f"{_HINT}; NAME has letters, digits and _, and does not begin with a digit")
    return CollectionAddress(server, name)


def collection_name(index: str) -> str:
    """Return a valid collection name for the name of an index: `skyscript_test` for `skyscript-test`."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", index)[:255]
    return name if _NAME.fullmatch(name) else f"_{name[:254]}"
