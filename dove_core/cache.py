"""Copies of objects in buckets, in a folder of bounded size that processes share.

An entry is a folder with one file or several, fetched together: `DIGEST-BYTES/NAME`. The digest is of the address and
of each file's size and mark (its ETag): an object that has changed is another entry. An entry is filled aside and
renamed; a process that needs an entry which another is filling waits for it. Where a new entry does not fit into the
bound, the entries that were not used for the longest time are removed. Entries in use stay, even beyond the bound:
each user has a shared lock on the entry's lock file. An open file needs no lock: it can be read after its removal.

The locks are `flock`'s: filelock has no shared ones.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from dove_core.config import CacheConfig
from dove_core.errors import UsageError
from dove_core.files import make_folder, space_checked
from dove_core.places import LocalFiles

_LOCK, _LOCKS, _ROOM = ".lock", "locks", "room"
_AT_ONCE = 8
_ENTRY = re.compile(r"([0-9a-f]{32})-(\d+)(\.part)?")


class Fact(NamedTuple):
    """Size of an object in bytes, and a mark that changes with its content."""

    size: int
    mark: str


def cache_folder(settings: CacheConfig) -> Path:
    """Return the folder in the settings, or that of `DOVE_CACHE`, or `dove` in `XDG_CACHE_HOME` or `~/.cache`."""
    chosen = settings.cache_folder or os.environ.get("DOVE_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dove"


class Cache:
    """A folder of copies."""

    def __init__(self, settings: CacheConfig) -> None:
        self.folder, self.bound = cache_folder(settings), int(settings.cache_size * 1e9)

    def hold(self, address: str, files: Mapping[str, Fact], bring: Callable[[str, Path], None]) -> LocalFiles:
        """Return some files below an address as one entry; fetch them if they are not here.

        Args:
            address: where the files are.
            files: their names below it, with size and mark.
            bring: writes the bytes of the file of a name to a path; called in several threads.

        Raises:
            UsageError: they are larger than the cache's bound, or its folder cannot be written.
            SpaceError: the disk is full.
        """
        facts = sorted((name, tuple(fact)) for name, fact in files.items())
        digest, size = hashlib.sha256(repr((address, facts)).encode()).hexdigest()[:32], self._size(address, files)
        entry = self.folder / f"{digest}-{size}"
        while (copies := _held(entry)) is None:
            make_folder(self.folder / _LOCKS)
            with locked(self._lock_of(digest)):
                if not entry.exists():
                    self._fill(entry, size, list(files), bring)
        return copies

    def _size(self, address: str, files: Mapping[str, Fact]) -> int:
        size = sum(fact.size for fact in files.values())
        if size > self.bound:
            what = f"{address}/{next(iter(files))}" if len(files) == 1 else f"{address} ({len(files)} files)"
            message = f"{what} has {size / 1e9:.3g} GB, the cache is limited to {self.bound / 1e9:.3g} GB"
            raise UsageError(message, hint=f"choose a larger cache with --cache-size {2 * size / 1e9:.2g}")
        return size

    def _lock_of(self, digest: str) -> Path:
        return self.folder / _LOCKS / digest[:2]  # 256 of them: they are never removed

    def _fill(self, entry: Path, size: int, names: list[str], bring: Callable[[str, Path], None]) -> None:
        aside = entry.with_name(f"{entry.name}.part")
        shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed: no other has the lock
        with locked(self.folder / _LOCKS / _ROOM):
            self._make_room(size)
            make_folder(aside)
        try:
            with space_checked(aside):
                for folder in {(aside / name).parent for name in names}:
                    folder.mkdir(parents=True, exist_ok=True)
                (aside / _LOCK).touch()
                if len(names) == 1:
                    bring(names[0], aside / names[0])
                else:
                    with ThreadPoolExecutor(_AT_ONCE) as pool:
                        list(pool.map(lambda name: bring(name, aside / name), names))
                aside.rename(entry)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _make_room(self, size: int) -> None:
        """Remove entries, the least recently used first, until so many bytes fit in."""
        found = []
        for path in self.folder.iterdir():
            if match := _ENTRY.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    found.append((path.stat().st_mtime_ns, path, int(match[2]), match))
        total = sum(weight for _, _, weight, _ in found) + size
        for _, path, weight, match in sorted(found, key=lambda one: one[0]):
            if total <= self.bound:
                return
            lock = self._lock_of(match[1]) if match[3] else path / _LOCK
            with suppress(OSError), locked(lock, wait=False):
                aside = path.with_name(f"{path.name}.gone-{os.getpid()}")
                path.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
                total -= weight


def _held(entry: Path) -> LocalFiles | None:
    """Return an entry under a shared lock, and mark it as used now; None if it is not there."""
    try:
        lock = os.open(entry / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    copies = LocalFiles(entry, lock)
    fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        if os.path.samestat(os.fstat(lock), (entry / _LOCK).stat()):
            os.utime(entry)
            return copies
    except FileNotFoundError:  # it was removed meanwhile
        pass
    copies.close()
    return None


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock.

    Raises:
        BlockingIOError: another process has it, and `wait` is false.
    """
    with space_checked(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(file)
