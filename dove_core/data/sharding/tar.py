"""Tar files whose every byte is determined: plain ustar headers, fixed time and owner.

Headers are written here, because those of Python's `tarfile` depend on its version (device numbers of a file: `0000000`
or zero bytes), and equal input must give equal bytes. They also take twenty times as long to make.
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
"""Time of every member: 2000-01-01T00:00:00Z. GNU tar calls zero an implausible date."""

_MAX_SIZE = 8**11 - 1
_OWNER = b"0000644\0" + b"0000000\0" * 2  # mode, user, group
_TIME = b"%011o\0" % MTIME
_KIND = b"".join((
    b"0" + b"\0" * 100,  # a regular file, no link
    b"ustar\x0000",
    b"\0" * 64,  # names of user and group
    b"0000000\0" * 2,  # device
    b"\0" * 167,  # prefix of the name, filling
))  # fmt: skip
_REST_SUM = sum(_OWNER) + sum(_TIME) + 8 * ord(" ") + sum(_KIND)  # the checksum counts itself as blanks
_ZEROS = bytes(BLOCK)
_AT_ONCE = 4 * 2**20
_UNDER_WAY = 5
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
    """Writes members one after the other and counts bytes and SHA-256; the caller owns the stream.

    One thread writes and another hashes, each some MiB at a time, while the next ones are collected. Data on the disk
    is dropped from the system's cache: a release is larger than memory, and would push out everything else.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.size = 0
        self._stream = stream
        self._digest = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._collected = self._written = self._dropped = 0
        self._writer, self._hasher = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._under_way: deque[list[Future[None]]] = deque()

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, *error: object) -> None:
        """End the threads."""
        self._writer.shutdown(wait=True)
        self._hasher.shutdown(wait=True)

    def add(self, name: str, data: bytes) -> int:
        """Write one file and return the offset of its content in the tar."""
        offset = self.size + BLOCK
        self._put(tar_header(name, len(data)), data, _ZEROS[: -len(data) % BLOCK])
        return offset

    def finish(self) -> str:
        """Write the two empty blocks that end an archive, and return the SHA-256 of all that was written."""
        self._put(_ZEROS, _ZEROS)
        self._hand_over()
        while self._under_way:
            self._wait()
        return self._digest.hexdigest()

    def _put(self, *pieces: bytes) -> None:
        self._pieces += pieces
        length = sum(map(len, pieces))
        self.size += length
        self._collected += length
        if self._collected >= _AT_ONCE:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the collected bytes to the threads."""
        data = b"".join(self._pieces)
        self._pieces, self._collected = [], 0
        self._under_way.append([self._writer.submit(self._write, data), self._hasher.submit(self._digest.update, data)])
        if len(self._under_way) > _UNDER_WAY:
            self._wait()

    def _wait(self) -> None:
        """Wait until the oldest bytes are written and hashed; raise the error of writing, if there was one."""
        for future in self._under_way.popleft():
            future.result()

    def _write(self, data: bytes) -> None:
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
        except (AttributeError, io.UnsupportedOperation):  # another system, or not a file
            pass
        self._dropped = self._written
