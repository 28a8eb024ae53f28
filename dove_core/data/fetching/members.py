"""Some members of a remote zip, fetched by ranges, each a file of its own: `images2.zip` -> `images2/NAME.jpg`.

A member gets its name when its length and CRC are right. `images2.subset.json` says of which version of the archive
the files are, once all have come: then lengths alone say what is here, otherwise CRCs do.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dove_core.data.fetching.download import subset_note
from dove_core.data.fetching.servers import WRONG_CONTENT, Origin, Version
from dove_core.data.fetching.transfers import ChangedError, PassingError, Progress, Transfers
from dove_core.data.zips import ZipDirectory, read_directory, record_length
from dove_core.errors import DataError, DownloadError
from dove_core.events import Noted, Saved, Skipped
from dove_core.files import atomic_file, make_folder, read_record, space_checked, write_record

_FORMAT = 1
_CHANGED = "run the same command again: what is the same in the new version is kept"
_WASTE = 0.1  # bytes between members that are fetched as well, as a share of the members' own: this saves requests
_LONGEST_RUN = 4 * 2**20
_ABOVE = re.compile(r"^(?:(?:images|meta)\d+/)*")  # some archives have their folder twice: images2/images2/x.jpg
_UNSAFE = re.compile(r"\\|//|/$|^/|^$|(?:^|/)\.\.?(?:/|$)")


@dataclass(frozen=True)
class Run:
    """One request: bytes `start` to `end` of a zip, with the members that lie there, by their directory numbers."""

    start: int
    end: int
    members: np.ndarray


class KeptDirectory:
    """The directory of a remote zip, kept in a file of this machine under its version."""

    def __init__(self, folder: Path, name: str, version: Version) -> None:
        tag = hashlib.sha256(f"{version.mark} {version.size}".encode()).hexdigest()[:16]
        self._folder, self._name, self._version = folder, name, version
        self._path = folder / f"{name}-{tag}.directory"

    def read(self) -> ZipDirectory | None:
        """Return the directory; None if it is not here."""
        size = self._version.size
        if self._version.mark is None or size is None or not self._path.is_file():
            return None
        tail = self._path.read_bytes()
        start = size - len(tail)
        return read_directory(lambda at, length: tail[at - start : at - start + length], size, str(self._path))

    def fetch(self, origin: Origin, transfers: Transfers) -> ZipDirectory:
        """Fetch the end of the zip with its directory, and keep it.

        Raises:
            DownloadError: refused, missing, not a zip, of another version now, or the retries are exhausted.
        """
        size, tail = self._version.size, b""
        assert size is not None
        progress = Progress(f"directory of {self._name}", transfers)

        def read(offset: int, length: int) -> bytes:
            nonlocal tail
            if offset < size - len(tail):
                progress.begin(len(tail), size - offset)
                tail = fetch_range(origin, offset, size - len(tail), self._version, transfers, progress) + tail
            return tail[offset - size + len(tail) :][:length]

        try:
            directory = read_directory(read, size, origin.address)
        except DataError as error:
            raise DownloadError(error.message, hint=WRONG_CONTENT) from error
        progress.end()
        if self._version.mark is not None:
            for older in self._folder.glob(f"{self._name}-*.directory"):
                older.unlink()
            with atomic_file(self._path) as stream:
                stream.write(tail)
        return directory


def fetch_range(
    origin: Origin, start: int, end: int, version: Version, transfers: Transfers, progress: Progress | None = None
) -> bytes:
    """Return the bytes from `start` up to `end` of a file of this version.

    Raises:
        DownloadError: refused, missing, of another version now, or the retries are exhausted.
    """
    found = bytearray()

    def attempt() -> None:
        try:
            with origin.answer(start + len(found), end, version) as answer:
                if answer.offset != start + len(found):
                    raise PassingError("the server sent the whole file instead of a range")
                for chunk in answer.chunks:
                    transfers.check()
                    found.extend(chunk[: end - start - len(found)])  # some servers send more than requested
                    if progress is not None:
                        progress.advance(len(chunk))
        except ChangedError as error:
            if origin.settled(version) != version:
                reason = "each answer of the server has another ETag: length and checksums are compared instead"
                transfers.report(Noted(f"{origin.address}: {reason}"))
                attempt()
                return
            raise DownloadError(f"{origin.address} has changed while it was fetched", hint=_CHANGED) from error
        if len(found) < end - start:
            raise PassingError(f"the connection ended after {len(found)} of {end - start} bytes")

    transfers.persist(attempt, origin.address, position=lambda: len(found))
    return bytes(found)


class MemberFetch:
    """The members of one archive that are still to be fetched into its folder."""

    def __init__(
        self, origin: Origin, version: Version, directory: ZipDirectory, wanted: np.ndarray, folder: Path,
        transfers: Transfers,
    ) -> None:  # fmt: skip
        self._origin, self._version, self._directory, self._wanted = origin, version, directory, wanted
        self._folder, self._transfers = folder, transfers
        self._note, self._damaged = folder.with_name(f"{folder.name}.subset.json"), list[int]()
        self._task = f"fetch members of {folder.name}.zip"
        self._progress = Progress(self._task, transfers)

    def begin(self) -> list[Run]:
        """Look which members are here, and return the requests that bring the others."""
        try:
            by_crc = self._version.mark is None or self._version != read_record(
                self._note, Version, _FORMAT, DownloadError, hint=""
            )
        except DownloadError:
            by_crc = True
        if by_crc and self._folder.is_dir():
            self._transfers.report(Noted(f"{self._folder}: comparing files with their CRCs"))
        missing = missing_members(self._directory, self._wanted, self._folder, by_crc=by_crc)
        if len(missing) or by_crc:
            self._note.unlink(missing_ok=True)
        make_folder(self._folder)
        for left in self._folder.glob(".fetch-*.tmp"):  # of a call that was killed
            left.unlink()
        if len(missing):
            total = int(self._directory.packed[self._wanted].sum())
            self._progress.begin(total - int(self._directory.packed[missing].sum()), total)
        return runs_of(self._directory, missing)

    def bring(self, run: Run) -> None:
        """Fetch the members of a run and write each to its file."""
        data = fetch_range(self._origin, run.start, run.end, self._version, self._transfers)
        for number in run.members.tolist():
            name = str(self._directory.names[number].as_py())
            start, end = int(self._directory.header[number]), int(self._directory.end[number])
            try:
                plain = self._directory.content(number, data[start - run.start : end - run.start], name)
            except DataError:
                self._damaged.append(number)
                continue
            self._transfers.check()
            _write(plain, member_path(self._folder, name), self._folder / f".fetch-{number}.tmp")
            self._progress.advance(int(self._directory.packed[number]))

    def finish(self) -> np.ndarray:
        """Note that every member is here; return the numbers of those that are damaged on the server."""
        self._progress.end()
        if self._damaged:
            example = self._directory.names[self._damaged[0]].as_py()
            self._transfers.report(Skipped(self._task, "damaged on the server", len(self._damaged), example))
        if not self._note.exists():
            write_record(self._note, self._version, _FORMAT)
            self._transfers.report(Saved(str(self._folder)))
        return np.array(self._damaged, dtype=np.int64)


def member_path(folder: Path, name: str) -> Path:
    """Return the path of a member's file.

    Raises:
        DataError: its name is not a path inside a folder.
    """
    inside = _ABOVE.sub("", name)
    if _UNSAFE.search(inside):
        raise DataError(
            f"{folder.name}.zip has a member {name!r}, which is not a valid path",
            hint="choose another server with --mirror",
        )
    return folder / inside


def missing_members(directory: ZipDirectory, numbers: np.ndarray, folder: Path, *, by_crc: bool = False) -> np.ndarray:
    """Return those of the members with these numbers that are not in the folder with their length, or also CRC."""
    if not folder.is_dir():
        return numbers
    names = directory.names.take(numbers).to_pylist()
    facts = zip(names, directory.size[numbers].tolist(), directory.crc[numbers].tolist(), strict=True)
    is_here = [_is_here(member_path(folder, name), size, crc if by_crc else None) for name, size, crc in facts]
    missing: np.ndarray = numbers[~np.array(is_here, dtype=bool)]
    return missing


def unpack_older_subset(archive: Path, folder: Path) -> None:
    """Unpack a smaller zip of an earlier version of dove: `dove shard` would read it instead of the folder.

    Raises:
        DataError: the zip is damaged.
    """
    note = subset_note(archive)
    if not (note.exists() and archive.exists()):
        return
    make_folder(folder)
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                _write(packed.read(name), member_path(folder, name), folder / ".fetch-unpack.tmp")
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{archive} is damaged: {error}", hint=f"delete {archive} and {note}") from error
    for left in (archive, note, archive.with_name(f"{archive.name}.subset.part")):
        left.unlink(missing_ok=True)


def runs_of(directory: ZipDirectory, numbers: np.ndarray) -> list[Run]:
    """Group neighbouring members into one request each: the smallest gaps are closed first, up to a tenth of waste."""
    if not len(numbers):
        return []
    order = numbers[np.argsort(directory.header[numbers], kind="stable")]
    starts = directory.header[order]
    facts = (column[order].tolist() for column in (directory.header, directory.end, directory.packed))
    lengths = np.array(list(map(record_length, *facts)))
    ends = np.maximum.accumulate(starts + lengths)
    gaps = np.maximum(starts[1:] - ends[:-1], 0)
    by_size = np.argsort(gaps, kind="stable")
    is_closed = np.zeros(len(gaps), dtype=bool)
    is_closed[by_size[np.cumsum(gaps[by_size]) <= _WASTE * int(lengths.sum())]] = True
    runs, first = list[Run](), 0
    for last, end in enumerate(ends.tolist()):
        is_last = last == len(gaps)
        if is_last or not is_closed[last] or ends[last + 1] - starts[first] > _LONGEST_RUN:
            runs.append(Run(int(starts[first]), end, order[first : last + 1]))
            first = last + 1
    return runs


def _write(data: bytes, path: Path, aside: Path) -> None:
    """Write a member's file without a flush, which `atomic_file` makes: that takes eight times as long."""
    if path.parent != aside.parent:
        make_folder(path.parent)
    with space_checked(path):
        aside.write_bytes(data)
        aside.replace(path)


def _is_here(path: Path, size: int, crc: int | None) -> bool:
    try:
        return path.stat().st_size == size and (crc is None or zlib.crc32(path.read_bytes()) == crc)
    except OSError:
        return False
