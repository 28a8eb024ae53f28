"""Locks of the writers and readers of an index.

A writer holds the file `.writer` of the index, which says who it is. On a disk this is an `flock`, which ends with its
process. Buckets, and some shared disks, have no locks: there the file is renewed while its writer works, and counts as
left over when it is old.

A reader holds the segments that it has open, so that no writer removes them.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from dove_core.errors import DoveError, SearchIndexError
from dove_core.files import may_have_written, space_checked
from dove_core.places import Folder, Place

WRITER = ".writer"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_RENEWED, _LEFT_OVER, _SETTLED = 15.0, 90.0, 0.5
"""Seconds between two renewals of a file without a lock, until one that is not renewed counts as left over, and after
which another writer that began at the same time can be seen."""


class WriterLock(Protocol):
    """The lock of a writer; several tasks that share the work hold it together."""

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which no other task writes, as far as the place allows.

        Raises:
            SearchIndexError: another process has taken over the index.
        """
        ...


@contextmanager
def writing(place: Place, work: str, *, shared: bool) -> Iterator[WriterLock]:
    """Hold the lock of an index's writer.

    Args:
        place: folder of the index.
        work: what is written; tasks share the lock only if theirs is equal.
        shared: whether this is one of several tasks that share the work.

    Raises:
        SearchIndexError: another process writes the index; the message says which.
    """
    path = place.path / WRITER if isinstance(place, Folder) else None
    file = None if path is None else _locked_file(path, work, shared)
    if path is None or file is None:
        with _Note(place, work, shared).kept() as note:
            yield note
        return
    try:
        yield _FileLock(file)
    finally:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no other task holds it
            path.unlink()
        os.close(file)


def hold_segment(vectors: Path) -> int | None:
    """Hold the segment of this file of vectors until the returned descriptor is closed.

    Returns:
        The descriptor; None on a disk without locks.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    file = os.open(vectors, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        os.close(file)
        return None
    try:
        if os.path.samestat(os.fstat(file), vectors.stat()):
            return file
    except OSError:
        os.close(file)
        raise
    os.close(file)
    raise FileNotFoundError(f"{vectors} was replaced")


@contextmanager
def unread(vectors: Path) -> Iterator[bool]:
    """Tell whether no reader holds the segment of this file; none can until the context ends."""
    try:
        file = os.open(vectors, os.O_RDWR)
    except OSError as error:
        yield isinstance(error, FileNotFoundError)  # it was never complete, or is gone already
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    except OSError:  # a disk without locks: an old segment stays
        yield False
    else:
        yield True
    finally:
        os.close(file)


class _FileLock:
    """The lock of an opened file."""

    def __init__(self, file: int) -> None:
        self._file = file

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until the other tasks have let go, and keep them out."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        yield


def _locked_file(path: Path, work: str, shared: bool) -> int | None:
    """Return the locked file; None on a disk without locks."""
    while True:
        with space_checked(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _hold(file, path, work, shared) and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:  # the writer before has ended and removed it
            pass
        except OSError as error:
            os.close(file)
            if error.errno in _NO_LOCKS:
                return None
            raise
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _hold(file: int, path: Path, work: str, shared: bool) -> bool:
    """Lock the file, and write who this is if no other task has it; an error says who has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = _noted(file)
        if not shared or other.get("owner") != work or not other.get("shared"):
            raise _refused(path.parent, other) from None
        fcntl.flock(file, fcntl.LOCK_SH)
        return True
    os.ftruncate(file, 0)
    os.pwrite(file, _who(work, shared), 0)
    if shared:
        fcntl.flock(file, fcntl.LOCK_SH)
    return True


def _noted(file: int) -> dict[str, Any]:
    """Return what the writer that has locked a file has noted, which it may be doing just now."""
    for _ in range(10):
        if data := os.pread(file, 10_000, 0):
            return _values(data)
        time.sleep(0.05)
    return {}


class _Note:
    """The file of a writer in a place without locks; it is renewed by a thread."""

    def __init__(self, place: Place, work: str, shared: bool) -> None:
        self._place, self._shared = place, shared
        self._owner = work if shared else secrets.token_hex(8)
        self._ended = threading.Event()

    @contextmanager
    def kept(self) -> Iterator[WriterLock]:
        """Write the file, renew it, and remove it in the end; refuse if another process has it."""
        self._refuse_other()
        self._write()
        time.sleep(_SETTLED)
        self._refuse_other()
        renewing = threading.Thread(target=self._renew, daemon=True)
        renewing.start()
        try:
            yield self
        finally:
            self._ended.set()
            renewing.join()
            with suppress(DoveError, OSError):
                if self._other() is None:
                    self._place.remove(WRITER)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Check that no other process has taken over, which happens to a writer that was stopped for long."""
        self._refuse_other()
        yield

    def _other(self) -> dict[str, Any] | None:
        """Return what another writer, which has not ended, has noted."""
        try:
            values = _values(self._place.fresh.read(WRITER))
        except FileNotFoundError:
            return None
        return None if not values or values.get("owner") == self._owner or _has_ended(values) else values

    def _refuse_other(self) -> None:
        if other := self._other():
            raise _refused(self._place, other)

    def _renew(self) -> None:
        while not self._ended.wait(_RENEWED):
            with suppress(DoveError, OSError):
                if self._other() is None:
                    self._write()

    def _write(self) -> None:
        with self._place.writing(WRITER) as stream:
            stream.write(_who(self._owner, self._shared))


def _who(owner: str, shared: bool) -> bytes:
    values = {
        "process": os.getpid(), "machine": socket.gethostname(), "user": _user(), "time": time.time(), "owner": owner,
        "shared": shared,
    }  # fmt: skip
    return json.dumps(values).encode()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def _values(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _has_ended(note: dict[str, Any]) -> bool:
    """Tell whether the writer of this note has ended, as far as is known."""
    written, process = float(note.get("time", 0)), note.get("process")
    if time.time() - written > _LEFT_OVER:
        return True
    is_here = note.get("machine") == socket.gethostname()
    return is_here and isinstance(process, int) and not may_have_written(process, written)


def _refused(place: Place | Path, note: dict[str, Any]) -> SearchIndexError:
    since = time.strftime("%H:%M:%S", time.localtime(float(note.get("time", time.time()))))
    user, machine = note.get("user", "an unknown user"), note.get("machine", "an unknown machine")
    who = f"process {note.get('process', 'unknown')} of {user} on {machine}"
    hint = "run the same command again when it has finished, or write another index with --out"
    return SearchIndexError(f"{place} is being written by {who}, since {since}", hint=hint)
