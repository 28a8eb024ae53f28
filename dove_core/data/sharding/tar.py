"""Tar files of which every byte is known: plain ustar headers, fixed time and owner.

Python's tarfile would write fractional times as an extra PAX header for each member, which nearly halves reading speed.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

BLOCK = 512
MTIME = 946_684_800
"""Time of every member: 2000-01-01T00:00:00Z. Zero would make GNU tar complain of an implausible date."""

_MAX_SIZE = 8**11 - 1
_OWNER = b"0000644\0" + b"0000000\0" * 2  # mode, user, group
_TIME = b"%011o\0" % MTIME
_KIND = b"".join((
    b"0" + b"\0" * 100,  # a regular file, linked to nothing
    b"ustar\x0000",
    b"\0" * 64,  # names of user and group
    b"0000000\0" * 2,  # device
    b"\0" * 167,  # prefix of the name, filling
))  # fmt: skip
_REST_SUM = sum(_OWNER) + sum(_TIME) + 8 * ord(" ") + sum(_KIND)  # the checksum counts itself as blanks
_ZEROS = bytes(BLOCK)
_AT_ONCE = 4 * 2**20
_BUFFERS = 6
_DROP_EACH = 64 * 2**20


def tar_header(name: str, size: int) -> bytes:
    """Return the 512 bytes before a file's content in POSIX ustar form: mode 0644, owner 0, no owner's name.

    Raises:
        ValueError: the name is not 1 to 100 ASCII bytes, or the size is beyond 8 GiB.
    """
    raw = name.encode("ascii")
    if not 1 <= len(raw) <= 100 or not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"a ustar header cannot hold {name!r} with {size} bytes")
    length = b"%011o\0" % size
    checksum = _REST_SUM + sum(raw) + sum(length)
    return b"".join((raw.ljust(100, b"\0"), _OWNER, length, _TIME, b"%06o\0 " % checksum, _KIND))


class TarWriter:
    """Writes members one behind the other and keeps count of bytes and SHA-256; the caller owns the stream.

    Some buffers take turns: while one is filled, one thread writes and another hashes those before, which each take
    nearly as long. What is on the disk is dropped from the system's cache: a release is larger than memory, and would
    push out all else.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.size = 0
        self._stream = stream
        self._digest = hashlib.sha256()
        self._buffer, self._filled = bytearray(_AT_ONCE), 0
        self._free = [bytearray(_AT_ONCE) for _ in range(_BUFFERS - 1)]
        self._writer, self._hasher = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._under_way: deque[tuple[bytearray, list[Future[None]]]] = deque()
        self._written = self._dropped = 0

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, *error: object) -> None:
        """End the threads."""
        self._writer.shutdown(wait=True)
        self._hasher.shutdown(wait=True)

    def add(self, name: str, data: bytes) -> int:
        """Write one file and return the offset of its content in the tar."""
        self._put(tar_header(name, len(data)))
        offset = self.size
        self._put(data)
        self._put(_ZEROS[: -len(data) % BLOCK])
        return offset

    def finish(self) -> str:
        """Write the two empty blocks that end an archive, and return the SHA-256 of all that was written."""
        self._put(_ZEROS)
        self._put(_ZEROS)
        self._turn()
        while self._under_way:
            self._wait()
        return self._digest.hexdigest()

    def _put(self, data: bytes) -> None:
        self.size += len(data)
        if self._filled + len(data) <= len(self._buffer):
            self._buffer[self._filled : self._filled + len(data)] = data
            self._filled += len(data)
            return
        self._turn()
        if len(data) > len(self._buffer):  # from now on there is a larger one
            self._buffer = bytearray(len(data))
        self._buffer[: len(data)] = data
        self._filled = len(data)

    def _turn(self) -> None:
        """Give the full buffer to the threads and go on with one that is free."""
        data = memoryview(self._buffer)[: self._filled]
        work = [self._writer.submit(self._write, data), self._hasher.submit(self._digest.update, data)]
        self._under_way.append((self._buffer, work))
        if not self._free:
            self._wait()
        self._buffer, self._filled = self._free.pop(), 0

    def _wait(self) -> None:
        """Wait until the oldest buffer is written and hashed; raise what writing raised."""
        buffer, work = self._under_way.popleft()
        for future in work:
            future.result()
        self._free.append(buffer)

    def _write(self, data: memoryview) -> None:
        self._stream.write(data)
        self._written += len(data)
        if self._written - self._dropped >= _DROP_EACH:
            self._drop()

    def _drop(self) -> None:
        try:
            file = self._stream.fileno()
            self._stream.flush()
            os.fdatasync(file)
            os.posix_fadvise(file, self._dropped, self._written - self._dropped, os.POSIX_FADV_DONTNEED)
        except (AttributeError, io.UnsupportedOperation):  # no such system, or no file
            pass
        self._dropped = self._written


def read_sample(stream: BinaryIO, offset: int, size: int) -> tuple[bytes, bytes]:
    """Return an image and the JSON behind it from a tar of ours.

    Raises:
        ValueError: the tar does not hold them there.
    """
    stream.seek(offset)
    image = stream.read(size + -size % BLOCK)[:size]
    header = stream.read(BLOCK)
    json = stream.read(int(header[124:136].rstrip(b"\0 "), 8))
    if len(image) < size or not header[:100].rstrip(b"\0").endswith(b".json"):
        raise ValueError(f"no sample of {size} bytes at byte {offset}")
    return image, json
