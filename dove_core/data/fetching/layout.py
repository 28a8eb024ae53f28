"""Where the files of a release are in its folder, which are here, and which the user has elsewhere on this machine.

`.fetch/` has what only `dove fetch` needs: published tables while shorter ones take their places, directories of remote
archives, and notes of files that were compared with their published MD5.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.download import check_md5, subset_note
from dove_core.data.fetching.servers import PARQUET, content_problem
from dove_core.data.fetching.transfers import Transfers
from dove_core.errors import UsageError
from dove_core.events import Noted, Saved
from dove_core.files import atomic_file, is_aside, link_or_copy, make_folder, space_checked, write_json


@dataclass(frozen=True)
class Layout:
    """The folder of one release."""

    folder: Path

    @property
    def cache(self) -> Path:
        """Return the folder for what only `dove fetch` needs."""
        return self.folder / ".fetch"

    def path(self, file: RemoteFile) -> Path:
        """Return the path of a file."""
        return self.folder / file.path

    def unpacked(self, archive: RemoteFile) -> Path:
        """Return the folder for members of an archive."""
        return self.path(archive).with_suffix("")

    def adopted_note(self, archive: RemoteFile) -> Path:
        """Return the note that says that the folder of an archive's members replaces the archive."""
        return self.path(archive).with_suffix(".adopted.json")

    def published(self, table: RemoteFile) -> Path:
        """Return the path of the published table while a shorter one takes its place."""
        return self.cache / "tables" / Path(table.path).name

    def whole(self, file: RemoteFile, size: int | None) -> Path | None:
        """Return where the whole of a file is; None: it is not here. If `size` is not known, its name is enough."""
        places = [self.path(file), self.published(file)] if file.kind == "table" else [self.path(file)]
        for path in places:
            if path.is_file() and not subset_note(path).exists() and size in (None, path.stat().st_size):
                return path
        unpacked = self.unpacked(file)
        return unpacked if file.is_archive and self.adopted_note(file).exists() and unpacked.is_dir() else None

    def is_subset(self, file: RemoteFile) -> bool:
        """Return whether only some of a published file is here."""
        return subset_note(self.path(file)).exists() or (file.is_archive and self.unpacked(file).is_dir())

    def verify(self, file: RemoteFile, path: Path, source: str, transfers: Transfers, *, is_checked: bool) -> None:
        """Compare a file with its MD5, unless its download (`is_checked`) or an earlier call did.

        Which files were compared is noted with length and time of change: 150 GB are not read twice.

        Raises:
            DownloadError: the MD5 is another one.
        """
        if file.md5 is None:
            return
        facts, note = path.stat(), self.cache / "verified" / path.name
        state = f"{file.md5} {facts.st_size} {facts.st_mtime_ns}".encode()
        if note.is_file() and note.read_bytes() == state:
            return
        if not is_checked:
            check_md5(path, file.md5, source, transfers)
        with atomic_file(note) as stream:
            stream.write(state)

    @contextmanager
    def locked(self, files: Iterable[RemoteFile]) -> Iterator[None]:
        """Keep other calls out of the folder, and remove temporary files that killed ones left.

        Raises:
            UsageError: another call works there.
        """
        make_folder(self.cache)
        with space_checked(self.cache), (self.cache / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):  # others: a file system without locks
                    message = f"another dove fetch is running in {self.folder}"
                    raise UsageError(message, hint="wait for it, or choose another folder with --out") from error
            for place in {*(self.path(file).parent for file in files), *self.cache.glob("*/")}:
                for path in place.glob(".*.tmp"):
                    if is_aside(path):
                        path.unlink()
            yield


def find_adoptable(file: RemoteFile, place: Path, size: int | None) -> Path | None:
    """Return what in `place` can become `file`: a file of its name and length, or the folder it unpacks to.

    Raises:
        UsageError: `place` is not a folder.
    """
    if not place.is_dir():
        raise UsageError(f"{place} is not a folder", hint="--from takes the folder with the files that you have")
    for found in (place / file.path, place / Path(file.path).name):
        if found.is_file() and (_is_whole(found) if size is None else found.stat().st_size == size):
            return found
    unpacked = place / Path(file.path).stem
    return unpacked if file.is_archive and unpacked.is_dir() and any(unpacked.iterdir()) else None


def adopt(
    file: RemoteFile, found: Path, release: Release, layout: Layout, transfers: Transfers, *, checksum: bool
) -> None:
    """Put what was found where the release has it, by hard links, or as copies where links are not possible.

    Raises:
        DownloadError: the MD5 is not the published one.
        SpaceError: the disk is full.
    """
    found, is_folder = found.resolve(), found.is_dir()
    target = layout.unpacked(file) if is_folder else layout.path(file)
    is_there = target.exists() and target.samefile(found)
    if is_folder:
        if not is_there:
            with space_checked(target):
                shutil.copytree(found, target, copy_function=_link, dirs_exist_ok=True,
                                ignore_dangling_symlinks=True)  # fmt: skip
        count = sum(len(names) for _, _, names in os.walk(found))
        write_json(layout.adopted_note(file), {"format": 1, "files": count, "adopted_from": str(found)})
        transfers.report(Noted(f"adopted {found}: {count} files, unpacked, as they are"))
        return
    if checksum:
        layout.verify(file, found, release.md5_source, transfers, is_checked=False)
    subset_note(target).unlink(missing_ok=True)
    if not is_there:
        link_or_copy(found, target)
    if checksum:
        layout.verify(file, target, release.md5_source, transfers, is_checked=True)
    transfers.report(Noted(f"adopted {found}"))
    transfers.report(Saved(str(target)))


def _link(source: str, target: str) -> None:
    link_or_copy(Path(source).resolve(), Path(target))


def _is_whole(found: Path) -> bool:
    """Return whether a file of unknown length can be what its ending says: a whole zip or Parquet file, or a table."""
    if found.suffix.lower() == ".zip":
        return zipfile.is_zipfile(found)
    with found.open("rb") as stream:
        start = stream.read(1024)
        stream.seek(-min(len(PARQUET), len(start)), os.SEEK_END)
        is_cut = found.suffix.lower() == ".parquet" and stream.read() != PARQUET
    return not content_problem(start, found.name) and not is_cut
