"""Where the files of a release are in its folder, and which are here already.

`.fetch/` has what only `dove fetch` needs: published tables while shorter ones take their places, and directories of
remote archives. `verified.json` says which files have been compared with their published MD5.
"""

from __future__ import annotations

import errno
import fcntl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dove_core.data.fetching.catalog import RemoteFile
from dove_core.data.fetching.download import check_md5, subset_note
from dove_core.data.fetching.members import members_note
from dove_core.data.fetching.transfers import Transfers
from dove_core.errors import DownloadError, UsageError
from dove_core.files import is_aside, make_folder, read_record, space_checked, write_record

VERIFIED = "verified.json"
_CACHE = ".fetch"
_FORMAT = 1


@dataclass(frozen=True)
class _Cut:
    rows: int
    total: int


@dataclass(frozen=True)
class _Unpacked:
    files: int
    adopted_from: str


@dataclass(frozen=True)
class _Sums:
    files: dict[str, dict[str, int | str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """The folder of one release."""

    folder: Path

    @property
    def directories(self) -> Path:
        """Return the folder of remote archives' directories."""
        return self.folder / _CACHE / "directories"

    def path(self, file: RemoteFile) -> Path:
        """Return the path of a file."""
        return self.folder / file.path

    def unpacked(self, archive: RemoteFile) -> Path:
        """Return the folder for members of an archive."""
        return self.path(archive).with_suffix("")

    def published(self, table: RemoteFile) -> Path:
        """Return the path of the published table while a shorter one takes its place."""
        return self.folder / _CACHE / "tables" / Path(table.path).name

    def whole(self, file: RemoteFile, size: int | None) -> Path | None:
        """Return where the whole of a file is; None: it is not here. If `size` is not known, its name is enough."""
        places = [self.path(file), self.published(file)] if file.kind == "table" else [self.path(file)]
        for path in places:
            if path.is_file() and not subset_note(path).exists() and size in (None, path.stat().st_size):
                return path
        unpacked = self.unpacked(file)
        if file.kind in ("images", "meta") and _unpacked_note(unpacked).exists() and unpacked.is_dir():
            return unpacked
        return None

    def is_subset(self, file: RemoteFile) -> bool:
        """Return whether only some of a published file is here."""
        is_older = subset_note(self.path(file)).exists()
        return is_older or (file.kind in ("images", "meta") and members_note(self.unpacked(file)).exists())

    def note_cut(self, path: Path, rows: int, total: int) -> None:
        """Note that a table has only some of the published rows."""
        write_record(subset_note(path), _Cut(rows, total), _FORMAT)

    def note_unpacked(self, folder: Path, files: int, origin: Path) -> None:
        """Note that a folder replaces the archive of its name."""
        write_record(_unpacked_note(folder), _Unpacked(files, str(origin)), _FORMAT)

    @contextmanager
    def locked(self, files: Iterable[RemoteFile]) -> Iterator[None]:
        """Keep other calls out of the folder, and remove temporary files that killed ones left.

        Raises:
            UsageError: another call works there.
        """
        cache = self.folder / _CACHE
        make_folder(cache)
        with space_checked(cache), (cache / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):  # others: a file system without locks
                    message = f"another dove fetch is running in {self.folder}"
                    raise UsageError(message, hint="wait for it, or choose another folder with --out") from error
            for place in {*(self.path(file).parent for file in files), *cache.glob("*/")}:
                for path in place.glob(".*.tmp"):
                    if is_aside(path):
                        path.unlink()
            yield


class Verified:
    """Remembers by length and time of change which files had their published MD5: 150 GB are not read twice."""

    def __init__(self, folder: Path, source: str, transfers: Transfers) -> None:
        self._folder, self._path, self._source, self._transfers = folder, folder / VERIFIED, source, transfers
        self._sums, self._lock = _Sums(), threading.Lock()
        if self._path.exists():
            hint = f"delete {self._path}: files are then compared with their MD5 again"
            self._sums = read_record(self._path, _Sums, _FORMAT, DownloadError, hint=hint)

    def settle(self, file: RemoteFile, path: Path, *, is_checked: bool) -> None:
        """Compare a file with its MD5, unless its download (`is_checked`) or an earlier call did.

        Raises:
            DownloadError: the MD5 is another one.
        """
        if file.md5 is None:
            return
        found, name = path.stat(), path.relative_to(self._folder).as_posix()
        state: dict[str, int | str | None] = {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "md5": file.md5}
        if self._sums.files.get(name) == state:
            return
        if not is_checked and state not in self._sums.files.values():
            check_md5(path, file.md5, self._source, self._transfers)
        with self._lock:
            self._sums.files[name] = state
            write_record(self._path, self._sums, _FORMAT)


def _unpacked_note(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.adopted.json")
