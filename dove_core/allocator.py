"""The C library's memory allocator, set for loops that allocate and free the same large blocks again and again."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt, from glibc's malloc.h."""

_DEFAULTS = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}
_KEPT = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}  # never return the top of the heap; allocate nothing outside of the heap
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


class _Glibc:
    """glibc's allocator, which keeps freed memory while any context is entered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts = 0

    def enter(self) -> None:
        """Count a context; keep freed memory from the first on."""
        with self._lock:
            self._contexts += 1
            if self._contexts == 1:
                _set(_KEPT)

    def leave(self) -> None:
        """Count one context less, restore the defaults after the last, and return what is free."""
        with self._lock:
            self._contexts -= 1
            if not self._contexts:
                _set(_DEFAULTS)
            ctypes.CDLL(None).malloc_trim(0)


_GLIBC = _Glibc()


@contextmanager
def freed_memory_kept(wanted: bool = True) -> Iterator[None]:
    """Keep freed memory in this process during this context, and return it to the system at the end.

    glibc returns a freed block of 32 MiB or more at once, and the next one then costs a page fault for each 4 KiB; a
    model on a CPU allocates many such blocks in each step (docs/decisions/0062-freed-memory.md). Contexts may be
    nested; at the end of an inner one, such as a validation within a training, what is free is returned once. Nothing
    is changed if not `wanted`, with another C library, or if the environment sets glibc's allocator.
    """
    if not wanted or platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OWN):
        yield
        return
    _GLIBC.enter()
    try:
        yield
    finally:
        _GLIBC.leave()


def _set(values: dict[int, int]) -> None:
    for parameter, value in values.items():
        ctypes.CDLL(None).mallopt(parameter, value)
