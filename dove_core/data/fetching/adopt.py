"""Files of a release that the user has already: hard links to them, or copies where links are not possible."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from dove_core.data.fetching.answers import content_problem
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.download import check_md5, subset_note
from dove_core.data.fetching.layout import Layout
from dove_core.data.fetching.transfers import Transfers
from dove_core.errors import DownloadError, UsageError
from dove_core.events import Noted, Saved
from dove_core.files import link_or_copy, space_checked


def find_adoptable(file: RemoteFile, place: Path, size: int | None) -> Path | None:
    """Return what in `place` can become `file`: a file of its name and length, or the folder it unpacks to.

    Raises:
        UsageError: `place` is not a folder.
    """
    if not place.is_dir():
        raise UsageError(f"{place} is not a folder", hint="--from takes the folder with the files that you have")
    for found in (place / file.path, place / Path(file.path).name):
        if found.is_file() and _fits(found, file, size):
            return found
    unpacked = place / Path(file.path).stem
    is_unpacked = file.kind in ("images", "meta") and unpacked.is_dir() and any(unpacked.iterdir())
    return unpacked if is_unpacked else None


def adopt(
    file: RemoteFile, found: Path, release: Release, layout: Layout, transfers: Transfers, *, checksum: bool
) -> None:
    """Put what was found where the release has it.

    Raises:
        DownloadError: the MD5 is not the published one.
        SpaceError: the disk is full.
    """
    target, found = layout.path(file), found.resolve()
    if found.is_dir():
        target = layout.unpacked(file)
        count = sum(len(names) for _, _, names in os.walk(found))
        if not (target.exists() and target.samefile(found)):
            with space_checked(target):
                shutil.copytree(found, target, copy_function=_link, dirs_exist_ok=True,
                                ignore_dangling_symlinks=True)  # fmt: skip
        layout.note_unpacked(target, count, found)
        transfers.report(Noted(f"adopted {found}: {count} files, unpacked, as they are"))
        return
    if checksum and file.md5 is not None:
        check_md5(found, file.md5, release.md5_source, transfers)
    subset_note(target).unlink(missing_ok=True)
    if not (target.exists() and target.samefile(found)):
        link_or_copy(found, target)
    transfers.report(Noted(f"adopted {found}"))
    transfers.report(Saved(str(target)))


def still_missing(paths: list[str], base: str, cause: DownloadError) -> DownloadError:
    """Return the error for files that were neither adopted nor fetched."""
    named = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
    hint = "run the same command again when the server can be reached: adopted files stay"
    return DownloadError(f"{base} cannot be reached ({cause.message}); still missing: {named}", hint=hint)


def _link(source: str, target: str) -> None:
    link_or_copy(Path(source).resolve(), Path(target))


def _fits(found: Path, file: RemoteFile, size: int | None) -> bool:
    if size is not None and found.stat().st_size != size:
        return False
    with found.open("rb") as stream:
        problem = content_problem(stream.read(1024), file.path)
    return not problem and (size is not None or found.suffix.lower() != ".zip" or zipfile.is_zipfile(found))
