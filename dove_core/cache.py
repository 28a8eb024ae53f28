"""LocalFiles of what lies in buckets, in a folder of bounded size that processes share.

An entry is a folder with one file or several, brought together: `DIGEST-BYTES/NAME`. The digest is one of the address,
and of each file's size and mark (its ETag), so that an object which has changed is another entry. An entry is filled
aside and renamed; who wants what another is just bringing waits for it. When the bound would be passed, entries go
that were used longest ago. What somebody holds stays, however far the bound is passed: each holder has a shared lock
on the entry's lock file. Who has opened a file needs no lock: it can be read to its end though its name is gone.
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
    """What is known of an object without reading it: its length, and a mark that changes with it."""

    size: int
    mark: str


def cache_folder(settings: CacheConfig) -> Path:
    """Return the folder chosen, or that of `DOVE_CACHE`, or `dove` in `XDG_CACHE_HOME` or `~/.cache`."""
    chosen = settings.cache_folder or os.environ.get("DOVE_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dove"


class Cache:
    """A folder of copies."""

    def __init__(self, settings: CacheConfig) -> None:
        self.folder, self.bound = cache_folder(settings), int(settings.cache_size * 1e9)

    def hold(self, address: str, files: Mapping[str, Fact], bring: Callable[[str, Path], None]) -> LocalFiles:
        """Return some files below an address as one entry; bring them, if they are not here.

        Args:
            address: where the files lie.
            files: their names below it, and what is known of them.
            bring: writes the bytes of a file of that name to a path. Several are brought at once.

        Raises:
            UsageError: they are larger than the cache may become, or the cache's folder cannot be written.
            SpaceError: the disk is full.
        """
        facts = sorted((name, tuple(fact)) for name, fact in files.items())
        digest, size = hashlib.sha256(repr((address, facts)).encode()).hexdigest()[:32], self._size(address, files)
        entry = self.folder / f"{digest}-{size}"
        while (copies := _held(entry)) is None:
            make_folder(self.folder / _LOCKS)
            with _locked(self._lock_of(digest)):
                if not entry.exists():
                    self._fill(entry, size, list(files), bring)
        return copies

    def _size(self, address: str, files: Mapping[str, Fact]) -> int:
        size = sum(fact.size for fact in files.values())
        if size > self.bound:
            what = f"{address}/{next(iter(files))}" if len(files) == 1 else f"{address} ({len(files)} files)"
            message = f"{what} has {size / 1e9:.3g} GB, and the cache may have {self.bound / 1e9:.3g}"
            raise UsageError(message, hint=f"give more with --cache-size {2 * size / 1e9:.2g}")
        return size

    def _lock_of(self, digest: str) -> Path:
        return self.folder / _LOCKS / digest[:2]  # 256 of them: they are never removed

    def _fill(self, entry: Path, size: int, names: list[str], bring: Callable[[str, Path], None]) -> None:
        part = entry.with_name(f"{entry.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed: nobody else has the lock
        with _locked(self.folder / _LOCKS / _ROOM):
            self._make_room(size)
            make_folder(part)
        try:
            with space_checked(part):
                for folder in {(part / name).parent for name in names}:
                    folder.mkdir(parents=True, exist_ok=True)
                (part / _LOCK).touch()
                if len(names) == 1:
                    bring(names[0], part / names[0])
                else:
                    with ThreadPoolExecutor(_AT_ONCE) as pool:
                        list(pool.map(lambda name: bring(name, part / name), names))
                part.rename(entry)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _make_room(self, size: int) -> None:
        """Remove entries, those used longest ago first, until so many bytes fit in."""
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
            with suppress(OSError), _locked(lock, wait=False):
                aside = path.with_name(f"{path.name}.gone-{os.getpid()}")
                path.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)
                total -= weight


def _held(entry: Path) -> LocalFiles | None:
    """Return an entry under a shared lock, and note that it is used; None if it is not there."""
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
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that others wait for.

    Raises:
        BlockingIOError: somebody has it, and `wait` is not set.
    """
    with space_checked(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(file)
