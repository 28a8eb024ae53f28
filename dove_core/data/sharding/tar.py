"""Tar files of which every byte is known: plain ustar headers, fixed time and owner.

Python's tarfile would write fractional times as an extra PAX header for each member, which nearly halves reading speed.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

BLOCK = 512
MTIME = 946_684_800
"""Time of every member: 2000-01-01T00:00:00Z. Zero would make GNU tar complain of an implausible date."""

_MAX_SIZE = 8**11 - 1


def tar_header(name: str, size: int) -> bytes:
    """Return the 512 bytes before a file's content in POSIX ustar form: mode 0644, owner 0, no owner's name.

    Raises:
        ValueError: the name is not 1 to 100 ASCII bytes, or the size is beyond 8 GiB.
    """
    raw = name.encode("ascii")
    if not 1 <= len(raw) <= 100 or not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"a ustar header cannot hold {name!r} with {size} bytes")
    fields = (
        raw.ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,  # mode, user, group
        b"%011o\0" % size,
        b"%011o\0" % MTIME,
        b" " * 8,  # the checksum counts itself as blanks
        b"0" + b"\0" * 100,  # a regular file, linked to nothing
        b"ustar\x0000",
        b"\0" * 64,  # names of user and group
        b"0000000\0" * 2,  # device
        b"\0" * 167,  # prefix of the name, filling
    )
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


class TarWriter:
    """Writes members one behind the other and keeps count of bytes and SHA-256; the caller owns the stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self.size = 0
        self._stream = stream
        self._digest = hashlib.sha256()

    def add(self, name: str, data: bytes) -> int:
        """Write one file and return the offset of its content in the tar."""
        self._write(tar_header(name, len(data)))
        offset = self.size
        self._write(data)
        self._write(b"\0" * (-len(data) % BLOCK))
        return offset

    def finish(self) -> str:
        """Write the two empty blocks that end an archive, and return the SHA-256 of all that was written."""
        self._write(b"\0" * (2 * BLOCK))
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)
