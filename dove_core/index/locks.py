"""Locks of the writers and readers of an index.

A writer holds the file `.writer` of the index, which says who it is. On a disk this is an `flock`, which ends with its
process. A bucket has no locks: the file is renewed while its writer works, and counts as left over when it is old.

A reader holds the segments that it has open, so that no writer removes them.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dove_core.errors import DoveError, SearchIndexError
from dove_core.files import space_checked
from dove_core.places import Folder, Place

WRITER = ".writer"
_RENEWED, _LEFT_OVER = 15.0, 90.0
"""Seconds between two renewals of the file in a bucket, and until one that is not renewed counts as left over."""


class WriterLock:
    """The lock of a writer; several tasks that share the work hold it together."""

    def __init__(self, file: int | None) -> None:
        self._file = file

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until the other tasks have let go, and keep them out."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        yield


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
    if isinstance(place, Folder):
        with _writing_folder(place.path, work, shared) as file:
            yield WriterLock(file)
    else:
        with _writing_bucket(place, work, shared):
            yield WriterLock(None)


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
    except OSError:  # it was never complete, or is gone already
        yield True
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


@contextmanager
def _writing_folder(folder: Path, work: str, shared: bool) -> Iterator[int]:
    path = folder / WRITER
    file = _locked_file(path, work, shared)
    try:
        yield file
    finally:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no other task holds it
            path.unlink()
        os.close(file)


def _locked_file(path: Path, work: str, shared: bool) -> int:
    while True:
        with space_checked(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _hold(file, path, work, shared) and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:  # the writer before has ended and removed it
            pass
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _hold(file: int, path: Path, work: str, shared: bool) -> bool:
    """Lock the file, and write who this is if no other task has it; an error says who has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = _noted(os.pread(file, 10_000, 0))
        if not shared or other.get("work") != work or not other.get("shared"):
            raise _refused(path.parent, other) from None
        fcntl.flock(file, fcntl.LOCK_SH)
        return True
    os.ftruncate(file, 0)
    os.pwrite(file, _note(work, shared), 0)
    if shared:
        fcntl.flock(file, fcntl.LOCK_SH)
    return True


@contextmanager
def _writing_bucket(place: Place, work: str, shared: bool) -> Iterator[None]:
    try:
        other = _noted(place.fresh.read(WRITER))
    except FileNotFoundError:
        other = {}
    if other and not _has_ended(other) and not (shared and other.get("shared") and other.get("work") == work):
        raise _refused(place, other)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(place, work, shared, ended), daemon=True)
    _write_note(place, work, shared)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with suppress(DoveError):
            place.remove(WRITER)


def _renew(place: Place, work: str, shared: bool, ended: threading.Event) -> None:
    while not ended.wait(_RENEWED):
        with suppress(DoveError):
            _write_note(place, work, shared)


def _write_note(place: Place, work: str, shared: bool) -> None:
    with place.writing(WRITER) as stream:
        stream.write(_note(work, shared))


def _note(work: str, shared: bool) -> bytes:
    values = {
        "process": os.getpid(), "machine": socket.gethostname(), "user": _user(), "time": time.time(), "work": work,
        "shared": shared,
    }  # fmt: skip
    return json.dumps(values).encode()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def _noted(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        return {"process": "unknown"}  # it is just being written
    return values if isinstance(values, dict) else {}


def _has_ended(note: dict[str, Any]) -> bool:
    """Tell whether the writer of this note in a bucket has ended, as far as is known."""
    if time.time() - float(note.get("time", 0)) > _LEFT_OVER:
        return True
    if note.get("machine") != socket.gethostname():
        return False
    return not Path(f"/proc/{note.get('process')}").exists()


def _refused(place: Place | Path, note: dict[str, Any]) -> SearchIndexError:
    since = time.strftime("%H:%M:%S", time.localtime(float(note.get("time", time.time()))))
    who = f"process {note.get('process')} of {note.get('user', 'an unknown user')} on {note.get('machine', '?')}"
    hint = "run the same command again when it has finished, or write another index with --out"
    return SearchIndexError(f"{place} is being written by {who}, since {since}", hint=hint)
