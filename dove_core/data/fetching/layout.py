"""Where what is fetched lies in a release's folder, and what is there already.

`.fetch/` holds what only `dove fetch` needs: published tables while shorter ones take their places, and directories of
remote archives.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dove_core.data.fetching.catalog import RemoteFile
from dove_core.data.fetching.part import subset_note
from dove_core.errors import UsageError
from dove_core.files import is_aside, make_folder, space_checked, write_record

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
class Layout:
    """The folder of one release."""

    folder: Path

    @property
    def directories(self) -> Path:
        """Return the folder of remote archives' directories."""
        return self.folder / _CACHE / "directories"

    def path(self, file: RemoteFile) -> Path:
        """Return where a file lies."""
        return self.folder / file.path

    def kept(self, table: RemoteFile) -> Path:
        """Return where the whole of a published table lies while a shorter one takes its place."""
        return self.folder / _CACHE / "tables" / Path(table.path).name

    def whole(self, file: RemoteFile, size: int | None) -> Path | None:
        """Return where a file lies whole; one whose length nobody tells is, by its name."""
        places = [self.path(file), self.kept(file)] if file.kind == "table" else [self.path(file)]
        for path in places:
            if path.is_file() and not self.is_subset(path) and size in (None, path.stat().st_size):
                return path
        unpacked = self.path(file).with_suffix("")
        if file.kind in ("images", "meta") and self._unpacked_note(unpacked).exists() and unpacked.is_dir():
            return unpacked
        return None

    def is_subset(self, path: Path) -> bool:
        """Say whether a file is only some of the published one."""
        return subset_note(path).exists()

    def note_cut(self, path: Path, rows: int, total: int) -> None:
        """Say that a table has only some of the published rows."""
        write_record(subset_note(path), _Cut(rows, total), _FORMAT)

    def note_unpacked(self, folder: Path, files: int, origin: Path) -> None:
        """Say that a folder stands for the archive of its name."""
        write_record(self._unpacked_note(folder), _Unpacked(files, str(origin)), _FORMAT)

    @contextmanager
    def locked(self, files: Iterable[RemoteFile]) -> Iterator[None]:
        """Keep other calls out of the folder, and remove what killed ones were writing aside of these files.

        Raises:
            UsageError: another call is at work there.
        """
        cache = self.folder / _CACHE
        make_folder(cache)
        with space_checked(cache), (cache / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):  # others: a file system without locks
                    message = f"another dove fetch is at work in {self.folder}"
                    raise UsageError(message, hint="wait for it, or choose another folder with --out") from error
            for place in {*(self.path(file).parent for file in files), *cache.glob("*/")}:
                for path in place.glob(".*.tmp"):
                    if is_aside(path):
                        path.unlink()
            yield

    def _unpacked_note(self, folder: Path) -> Path:
        return folder.with_name(f"{folder.name}.adopted.json")
