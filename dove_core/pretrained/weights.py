"""The file with a model's weights: where it is on this machine, downloaded, and taken out of its zip."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dove_core.errors import CheckpointError, SpaceError, UsageError
from dove_core.events import Advanced, Report, Started
from dove_core.files import free_space, make_folder, sha256_of, sha256_of_stream, space_checked
from dove_core.pretrained.catalog import PretrainedModel

_PACKED = 1.2
"""Approximate size of a training checkpoint after it is taken out of its zip, as a share of the zip."""

_STATE = 3
"""Approximate size of a training checkpoint, as a multiple of its weights: AdamW's state is twice as large."""


def find_weights(model: PretrainedModel, given: Path) -> Path:
    """Return the file that the user gave with --from: itself, or the model's file in a folder.

    Raises:
        UsageError: there is no such file.
    """
    if given.is_file():
        return given
    names = [PurePosixPath(path).name for path in (*model.path, model.member) if path]
    found = [given / name for name in names if (given / name).is_file()]
    if not found:
        expected = f"{given} has no {' or '.join(names)}" if given.is_dir() and names else f"{given} is not a file"
        raise UsageError(expected, hint="give the file with the weights: --from FILE")
    return found[0]


def digest_of(weights: Path, member: str) -> str:
    """Return the SHA-256 of a file with weights; of a zip, that of its member."""
    if not _is_packed(weights, member):
        return sha256_of(weights)
    with _opened(weights) as archive, archive.open(_member(archive, member, weights)) as stream:
        return sha256_of_stream(stream)  # type: ignore[arg-type]


def space_needed(size: int, is_packed: bool) -> int:
    """Return about how many bytes are written besides a downloaded file of `size` bytes."""
    return round(size * _PACKED * (1 + 1 / _STATE)) if is_packed else size


def check_space(folder: Path, needed: int) -> None:
    """Check that a model can be made.

    Raises:
        SpaceError: the disk has no room.
    """
    free = free_space(folder)
    if needed > free:
        message = (
            f"{folder} has no room: about {needed / 1e9:.1f} GB are needed while it is made, {free / 1e9:.1f} free"
        )
        raise SpaceError(message, hint="free some space, or choose a folder on a larger disk with --out")


@contextmanager
def unpacked(file: Path, member: str, work: Path, report: Report) -> Iterator[Path]:
    """Give a file with weights; if it is a zip with `member`, that member as a temporary file in `work`.

    Raises:
        CheckpointError: the zip is damaged or has no such member.
        SpaceError: the disk is full.
    """
    if not _is_packed(file, member):
        yield file
        return
    target = work / PurePosixPath(member).name
    make_folder(work)
    try:
        with _opened(file) as archive:
            _unpack(archive, _member(archive, member, file), target, report)
        yield target
    finally:
        target.unlink(missing_ok=True)


def _is_packed(file: Path, member: str) -> bool:
    return bool(member) and file.suffix.lower() == ".zip"


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CheckpointError(f"{file} is damaged: {error}", hint=f"delete {file} and fetch it again") from error


def _member(archive: zipfile.ZipFile, member: str, file: Path) -> zipfile.ZipInfo:
    """Return the member of that path, or the only one of that name."""
    name = PurePosixPath(member).name
    same = [one for one in archive.infolist() if PurePosixPath(one.filename).name == name]
    found = [one for one in same if one.filename == member] or same
    if len(found) != 1:
        seen = ", ".join(archive.namelist()[:5]) or "nothing"
        raise CheckpointError(
            f"{file} has no {member}; seen: {seen}", hint="give the file with the weights: --from FILE"
        )
    return found[0]


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, report: Report) -> None:
    check_space(target, member.file_size)
    task = f"unpack {target.name}"
    report(Started(task, member.file_size, "B"))
    with archive.open(member) as packed, space_checked(target), target.open("wb") as stream:
        while chunk := packed.read(1 << 22):
            stream.write(chunk)
            report(Advanced(task, len(chunk)))
