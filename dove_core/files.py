"""Files that are finished or absent, never half; records that are read back strictly."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_origin, get_type_hints

from dove_core.errors import DoveError, SpaceError, UsageError, reason_of

Record = TypeVar("Record")

LocalPath = str | os.PathLike[str]
"""The path of a file or folder of this machine."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
)  # fmt: skip
_NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
_HOST = f"{zlib.crc32(socket.gethostname().encode('utf-8', 'replace')):08x}"
_ASIDE = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp", re.DOTALL)
_LONG_AGO = 86_400.0
_DISKS_CLOCK = 60.0  # seconds by which a shared disk's may differ from this machine's


def is_aside(path: Path) -> bool:
    """Return whether a file is one that a process writes before the final name is given to it."""
    return _ASIDE.fullmatch(path.name) is not None


def is_left_over(path: Path) -> bool:
    """Return whether a file was left unfinished by a process that has ended.

    Whether a process on another machine still runs is unknown: its file counts as left over after a day.
    """
    match = _ASIDE.fullmatch(path.name)
    if match is None:
        return False
    try:
        written = path.stat().st_mtime
    except OSError:  # the file is gone
        return False
    if match[1] != _HOST:
        return time.time() - written > _LONG_AGO
    return not may_have_written(int(match[2]), written)


def may_have_written(process: int, written: float) -> bool:
    """Return whether a living process may have written then: process numbers are used again."""
    try:
        os.kill(process, 0)
        facts = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except ProcessLookupError:
        return False
    except OSError:  # another user's process, or a system without /proc
        return True
    if facts[0] in ("Z", "X"):  # dead, but its parent has not collected the exit code
        return False
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(facts[19]) / os.sysconf("SC_CLK_TCK")
    return age < 0 or written > time.time() - age - _DISKS_CLOCK


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def refused_by_system(error: OSError) -> DoveError | None:
    """Return what a user can act on in an error of the system: no rights, a read-only or full disk; None otherwise."""
    place = error.filename or "a file"
    if error.errno in _FULL:
        return SpaceError(f"no space left while writing {place}", hint="free some space and run the same command again")
    if error.errno in _NO_RIGHTS and error.filename:
        is_mount = error.errno == errno.EROFS
        hint = "choose another place" if is_mount else "check its permissions, and those of its folder"
        return UsageError(f"{place} cannot be used: {error.strerror}", hint=hint)
    return None


@contextmanager
def space_checked(path: Path) -> Iterator[None]:
    """Turn the system's errors while writing `path` into errors that name it.

    Raises:
        SpaceError: the disk, or the user's quota, is full.
        UsageError: the place cannot be written: no permission, a file where a folder should be, and the like.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            hint = "free some space and run the same command again: finished files are kept"
            raise SpaceError(f"no space left while writing {path}", hint=hint) from error
        if error.errno in _NOT_WRITABLE:
            raise UsageError(f"{path} cannot be written: {error.strerror}", hint="choose another place") from error
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        SpaceError: the disk is full.
        UsageError: the folder cannot be made.
    """
    with space_checked(path):
        path.mkdir(parents=True, exist_ok=True)


def free_space(path: Path) -> int:
    """Return the free bytes on the disk where a path is, or will be."""
    while not path.exists():
        path = path.absolute().parent
    return shutil.disk_usage(path).free


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Write beside `path`, then fsync and rename; on any error nothing appears under `path`.

    Raises:
        SpaceError: the disk is full.
        UsageError: `path` is not a regular file: a folder, or a device that the rename would replace.
    """
    make_folder(path.parent)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file"
        raise UsageError(f"{path} is {what}", hint="choose the name of a file to write")
    aside = _aside(path)
    try:
        with space_checked(path), aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        with space_checked(path):
            aside.replace(path)
    finally:
        with suppress(OSError):
            aside.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    with atomic_file(path) as stream:
        stream.write(json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Return `value` as readable JSON."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def read_json(path: Path, kind: type[DoveError], *, hint: str) -> Any:
    """Read JSON from `path`.

    Raises:
        kind: the file is missing or is not JSON; `hint` says what to do.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise kind(f"{path} does not exist", hint=hint) from None
    except (OSError, ValueError, RecursionError) as error:
        raise kind(f"{path} cannot be read: {reason_of(error)}", hint=hint) from error


def read_record(path: Path, record: type[Record], format_number: int, kind: type[DoveError], *, hint: str) -> Record:
    """Read a flat dataclass from JSON; every key must be known and present.

    Raises:
        kind: missing file, other format number, unknown or missing key.
    """
    return parse_record(read_json(path, kind, hint=hint), str(path), record, format_number, kind, hint=hint)


def parse_record(
    values: Any, where: str, record: type[Record], format_number: int, kind: type[DoveError], *, hint: str
) -> Record:
    """Return a flat dataclass from parsed JSON; every key must be known and present.

    Raises:
        kind: other format number, unknown or missing key; the message says `where` the values are from.
    """
    if not isinstance(values, dict) or values.pop("format", None) != format_number:
        raise kind(f"{where} is not of format {format_number}, which this version reads", hint=hint)
    names = {field.name for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    for word, odd in (("unknown", values.keys() - names), ("missing", names - values.keys())):
        if odd:
            raise kind(f"{where} has {word} keys: {', '.join(sorted(odd))}", hint=hint)
    for name, expected in get_type_hints(record).items():
        plain = get_origin(expected) or expected
        if plain in (str, int, list, dict) and not isinstance(values[name], plain):
            raise kind(f"{where} has a {name} that is not of type {plain.__name__}", hint=hint)
    return record(**values)


def write_record(path: Path, record: Any, format_number: int) -> None:
    """Write a flat dataclass as JSON under its format number, atomically."""
    write_json(path, record_values(record, format_number))


def record_values(record: Any, format_number: int) -> dict[str, Any]:
    """Return a flat dataclass as `parse_record` reads it."""
    return {"format": format_number, **dataclasses.asdict(record)}


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill aside, then replace `path` by it; the old one stays until the new one is complete.

    Between the two renames only `path` with the ending `.old` exists; `settled_folder` finds it.

    Raises:
        SpaceError: the disk is full.
    """
    make_folder(path.parent)
    aside, old = path.with_name(f".{path.name}.tmp"), path.with_name(f"{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    make_folder(aside)
    try:
        with space_checked(path):
            yield aside
        for file in aside.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.replace(old)
        aside.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def settled_folder(path: Path) -> Path:
    """Return `path`, or its older version if a crash between two renames left only that."""
    if not path.name:  # such as "."
        return path
    old = path.with_name(f"{path.name}.old")
    return old if old.exists() and not path.exists() else path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return sha256_of_stream(stream)


def sha256_of_stream(stream: BinaryIO) -> str:
    """Return the SHA-256 of the rest of a stream as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    while data := stream.read(4 * 2**20):
        digest.update(data)
    return digest.hexdigest()


def fingerprint_of_files(folder: Path, names: Sequence[str]) -> str:
    """Return 16 hexadecimal digits that change when one of some files does.

    Raises:
        OSError: one is missing.
    """
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def link_or_copy(source: Path, target: Path) -> None:
    """Put the file `source` also at `target`, by a hard link where that is possible; `target` is replaced at once.

    Raises:
        SpaceError: the disk is full.
        UsageError: `target` cannot be written.
    """
    make_folder(target.parent)
    aside = _aside(target)
    try:
        os.link(source, aside)
    except OSError:  # another disk, or one without links
        with source.open("rb") as stream, atomic_file(target) as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
        return
    with space_checked(target):
        aside.replace(target)
    aside.unlink(missing_ok=True)  # a rename over a link to the same file leaves both
