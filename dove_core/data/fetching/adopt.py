"""Files of a release that the user has already: hard links to them, or copies where links are not possible."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.download import subset_note
from dove_core.data.fetching.layout import Layout
from dove_core.data.fetching.transfers import Transfers
from dove_core.errors import UsageError
from dove_core.events import Noted, Saved
from dove_core.files import link_or_copy, space_checked, write_json


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
    """Put what was found where the release has it.

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
    return found.suffix.lower() != ".zip" or zipfile.is_zipfile(found)
