"""Tar files of which every byte is known: plain ustar headers, fixed time and owner.

Python's tarfile would write fractional times as an extra PAX header for each member, which nearly halves reading speed.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

BLOCK = 512
MTIME = 946_684_800
"""Time of every member: 2000-01-01T00:00:00Z. Zero would make GNU tar complain of an implausible date."""

_MAX_SIZE = 8**11 - 1
_ZEROS = bytes(BLOCK)
_AT_ONCE = 4 * 2**20


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
    """Writes members one behind the other and keeps count of bytes and SHA-256; the caller owns the stream.

    Members are written some mebibytes at a time, and hashed meanwhile in a thread: hashing costs as much as all else.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.size = 0
        self._stream = stream
        self._digest = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._hasher = ThreadPoolExecutor(1)
        self._hashing: Future[None] | None = None

    def add(self, name: str, data: bytes) -> int:
        """Write one file and return the offset of its content in the tar."""
        offset = self.size + BLOCK
        padding = -len(data) % BLOCK
        self._waiting += (tar_header(name, len(data)), data, _ZEROS[:padding])
        self.size = offset + len(data) + padding
        self._waiting_bytes += BLOCK + len(data) + padding
        if self._waiting_bytes >= _AT_ONCE:
            self._flush()
        return offset

    def finish(self) -> str:
        """Write the two empty blocks that end an archive, and return the SHA-256 of all that was written."""
        self._waiting += (_ZEROS, _ZEROS)
        self.size += 2 * BLOCK
        self._flush()
        self._hasher.shutdown(wait=True)
        return self._digest.hexdigest()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        if self._hashing is not None:
            self._hashing.result()
        self._hashing = self._hasher.submit(self._digest.update, data)
        self._stream.write(data)


def read_sample(stream: BinaryIO, offset: int, size: int) -> tuple[bytes, bytes]:
    """Return a picture and the JSON behind it from a tar of ours.

    Raises:
        ValueError: the tar does not hold them there.
    """
    stream.seek(offset)
    picture = stream.read(size + -size % BLOCK)[:size]
    header = stream.read(BLOCK)
    json = stream.read(int(header[124:136].rstrip(b"\0 "), 8))
    if len(picture) < size or not header[:100].rstrip(b"\0").endswith(b".json"):
        raise ValueError(f"no sample of {size} bytes at byte {offset}")
    return picture, json
