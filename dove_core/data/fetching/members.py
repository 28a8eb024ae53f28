"""Some members of a remote zip, fetched by ranges, each a file of its own: `images2.zip` -> `images2/NAME.jpg`.

A member gets its name when its length and CRC are right. `images2.subset.json` says of which version of the archive
the files are, and whether the last call came to its end: then lengths alone say what is here, otherwise CRCs do.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dove_core.data.fetching.answers import Version
from dove_core.data.fetching.ranges import fetch_range
from dove_core.data.fetching.servers import Origin
from dove_core.data.fetching.transfers import Progress, Transfers
from dove_core.data.zips import ZipDirectory, content, record_length
from dove_core.errors import DataError, DownloadError
from dove_core.events import Noted, Saved, Skipped
from dove_core.files import make_folder, read_record, space_checked, write_record

_FORMAT = 1
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


@dataclass(frozen=True)
class _Note:
    mark: str | None
    size: int | None
    is_complete: bool


def members_note(folder: Path) -> Path:
    """Return the note that says that `folder` has some members of a published archive."""
    return folder.with_name(f"{folder.name}.subset.json")


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
    """Unpack a smaller zip, as earlier versions of dove made them, so that its members are not fetched again.

    Raises:
        DataError: the zip is damaged.
    """
    note = archive.with_name(f"{archive.name}.subset.json")
    if note.exists() and archive.exists():
        make_folder(folder)
        try:
            with zipfile.ZipFile(archive) as packed:
                for name in packed.namelist():
                    _write(packed.read(name), member_path(folder, name), folder / ".fetch-unpack.tmp")
        except (zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{archive} is damaged: {error}", hint=f"delete {archive} and {note}") from error
        archive.unlink()
    note.unlink(missing_ok=True)
    archive.with_name(f"{archive.name}.subset.part").unlink(missing_ok=True)


def runs_of(directory: ZipDirectory, numbers: np.ndarray) -> list[Run]:
    """Group neighbouring members into one request each: the smallest gaps are closed first, up to a tenth of waste."""
    if not len(numbers):
        return []
    order = numbers[np.argsort(directory.header[numbers], kind="stable")]
    starts = directory.header[order]
    lengths = np.array([_length(directory, number) for number in order.tolist()])
    ends = np.maximum.accumulate(starts + lengths)
    gaps = np.maximum(starts[1:] - ends[:-1], 0)
    by_size = np.argsort(gaps, kind="stable")
    is_closed = np.zeros(len(gaps), dtype=bool)
    is_closed[by_size[np.cumsum(gaps[by_size]) <= _WASTE * int(lengths.sum())]] = True
    return list(_cut(order, starts, ends, is_closed))


class MemberFetch:
    """The members of one archive that are still to be fetched into its folder."""

    def __init__(
        self, origin: Origin, version: Version, directory: ZipDirectory, wanted: np.ndarray, folder: Path,
        transfers: Transfers,
    ) -> None:  # fmt: skip
        self._origin, self._version, self._directory, self._wanted = origin, version, directory, wanted
        self._folder, self._transfers = folder, transfers
        self._is_done, self._damaged = False, list[int]()
        self._task = f"fetch members of {folder.name}.zip"
        self._progress = Progress(self._task, transfers)

    def begin(self) -> list[Run]:
        """Look which members are here, and return the requests that bring the others."""
        try:
            note = read_record(members_note(self._folder), _Note, _FORMAT, DownloadError, hint="")
        except DownloadError:
            note = None
        by_crc = self._version.mark is None or note != _Note(self._version.mark, self._version.size, True)
        if by_crc and self._folder.is_dir():
            self._transfers.report(Noted(f"{self._folder}: comparing files with their CRCs"))
        missing = missing_members(self._directory, self._wanted, self._folder, by_crc=by_crc)
        if not len(missing) and not by_crc:
            self._is_done = True
            return []
        self._note(is_complete=False)
        make_folder(self._folder)
        for left in self._folder.glob(".fetch-*.tmp"):  # of a call that was killed
            left.unlink()
        total = int(self._directory.packed[self._wanted].sum())
        self._progress.begin(total - int(self._directory.packed[missing].sum()), total)
        return runs_of(self._directory, missing)

    def bring(self, run: Run) -> None:
        """Fetch the members of a run and write each to its file; one that is damaged is fetched a second time."""
        data = fetch_range(self._origin, run.start, run.end, self._version, self._transfers)
        for number in run.members.tolist():
            start = int(self._directory.header[number])
            record = data[start - run.start :][: _length(self._directory, number)]
            try:
                plain = self._content(number, record)
            except DataError:
                end = min(start + _length(self._directory, number), run.end)
                again = fetch_range(self._origin, start, end, self._version, self._transfers)
                try:
                    plain = self._content(number, again)
                except DataError:
                    self._damaged.append(number)
                    continue
            self._transfers.check()
            _write(plain, member_path(self._folder, self._name(number)), self._folder / f".fetch-{number}.tmp")
            self._progress.advance(int(self._directory.packed[number]))

    def finish(self) -> np.ndarray:
        """Note that every member is here; return the numbers of those that are damaged on the server."""
        self._progress.end()
        if self._damaged:
            example = self._name(self._damaged[0])
            self._transfers.report(Skipped(self._task, "damaged on the server", len(self._damaged), example))
        if not self._is_done:
            self._note(is_complete=True)
            self._transfers.report(Saved(str(self._folder)))
        return np.array(sorted(self._damaged), dtype=np.int64)

    def _note(self, *, is_complete: bool) -> None:
        note = _Note(self._version.mark, self._version.size, is_complete)
        write_record(members_note(self._folder), note, _FORMAT)

    def _name(self, number: int) -> str:
        return str(self._directory.names[number].as_py())

    def _content(self, number: int, record: bytes) -> bytes:
        facts = (self._directory.packed, self._directory.size, self._directory.crc, self._directory.method)
        packed, size, crc, method = (int(column[number]) for column in facts)
        return content(record, packed, size, crc, method, self._name(number))


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


def _length(directory: ZipDirectory, number: int) -> int:
    """Return how many bytes of the zip to read for a member."""
    return record_length(int(directory.header[number]), int(directory.end[number]), int(directory.packed[number]))


def _cut(order: np.ndarray, starts: np.ndarray, ends: np.ndarray, is_closed: np.ndarray) -> Iterator[Run]:
    first, closed = 0, [*is_closed.tolist(), False]
    begins, stops = starts.tolist(), ends.tolist()
    for i, is_joined in enumerate(closed):
        if not is_joined or stops[i + 1] - begins[first] > _LONGEST_RUN:
            yield Run(begins[first], stops[i], order[first : i + 1])
            first = i + 1
