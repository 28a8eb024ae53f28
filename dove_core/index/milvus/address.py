"""Where a collection lies: `http://HOST:19530/NAME` on a server, `FILE.db/NAME` in Milvus Lite."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dove_core.errors import UsageError

_SERVER = re.compile(r"(https?://[^/\s]+)(?:/([^/]*))?/?")
_LITE = re.compile(r"(?:file://)?((?:.*/)?[^/]+\.db)(?:/([^/]*))?/?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_HINT = "http://HOST:19530/NAME for a server, FILE.db/NAME for Milvus Lite"


@dataclass(frozen=True)
class CollectionAddress:
    """A server's URL, or the path of a Milvus Lite database, and a collection there."""

    server: str
    collection: str

    def __str__(self) -> str:
        return f"{self.server}/{self.collection}"

    @property
    def is_lite(self) -> bool:
        """Tell whether it is a database of this machine, not a server."""
        return not self.server.startswith(("http://", "https://"))


def is_address(text: str) -> bool:
    """Tell whether a text is meant as the address of Milvus, not as a folder."""
    return bool(re.match(r"https?://", text) or _LITE.fullmatch(text))


def parse_address(text: str, *, collection: str = "") -> CollectionAddress:
    """Return the address that a text says; `collection` is the name where it says none.

    Raises:
        UsageError: it is no address, or its collection has no name that Milvus allows.
    """
    match = _SERVER.fullmatch(text) or _LITE.fullmatch(text)
    port = match and re.search(r":(\d*)$", match[1])
    if match is None or (port and not 0 < int(port[1] or 0) < 65536):
        raise UsageError(f"{text} is no address of Milvus", hint=_HINT)
    server, name = match[1], match[2] or collection
    if not _NAME.fullmatch(name):
        message = f"{text}: {name!r} is no name of a collection" if name else f"{text} names no collection"
        raise UsageError(message, hint=f"{_HINT}; a NAME has letters, digits and _, and begins with no digit")
    return CollectionAddress(server, name)


def collection_name(index: str) -> str:
    """Return an index's name as Milvus allows it: `skyscript-test` becomes `skyscript_test`."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", index)[:255]
    return name if _NAME.fullmatch(name) else f"_{name[:254]}"
