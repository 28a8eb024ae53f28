"""Files of a release that somebody downloaded otherwise, taken over without a copy where the disk allows it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.download import check_md5
from dove_core.data.fetching.layout import Layout
from dove_core.data.fetching.part import start_problem, subset_note
from dove_core.errors import DownloadError, UsageError
from dove_core.events import Noted, Report, Saved
from dove_core.files import link_or_copy, make_folder, space_checked


def find_adoptable(file: RemoteFile, place: Path, size: int | None) -> Path | None:
    """Return what in `place` can become `file`: a file of its name and length, or the folder it unpacks to.

    Raises:
        UsageError: `place` is no folder.
    """
    if not place.is_dir():
        raise UsageError(f"{place} is not a folder", hint="--from takes the folder with the files that you have")
    for found in (place / file.path, place / Path(file.path).name):
        if found.is_file() and _fits(found, file, size):
            return found
    if file.kind in ("images", "meta"):
        unpacked = place / Path(file.path).stem
        if unpacked.is_dir() and any(unpacked.iterdir()):
            return unpacked
    return None


def adopt(file: RemoteFile, found: Path, release: Release, layout: Layout, *, checksum: bool, report: Report) -> None:
    """Put what was found where the release has it, by hard links, or else copies.

    Raises:
        DownloadError: the sum is not the published one.
        SpaceError: the disk is full.
    """
    target, found = layout.path(file), found.resolve()
    if found.is_dir():
        count = _adopt_folder(found, target.with_suffix(""))
        layout.note_unpacked(target.with_suffix(""), count, found)
        report(Noted(f"adopted {found}: {count} files, unpacked, as they are"))
        return
    if checksum and file.md5 is not None:
        check_md5(found, file.md5, release.md5_source, report=report)
    subset_note(target).unlink(missing_ok=True)
    if not (target.exists() and target.samefile(found)):
        link_or_copy(found, target)
    report(Noted(f"adopted {found}"))
    report(Saved(str(target)))


def _fits(found: Path, file: RemoteFile, size: int | None) -> bool:
    if size is not None and found.stat().st_size != size:
        return False
    with found.open("rb") as stream:
        problem = start_problem(stream.read(1024), Path(file.path))
    return not problem and (size is not None or found.suffix.lower() != ".zip" or zipfile.is_zipfile(found))


def _adopt_folder(source: Path, target: Path) -> int:
    """Link or copy every file below a folder that is not there yet; return how many there are."""
    if target.exists() and target.samefile(source):
        return sum(len(names) for _, _, names in os.walk(source))
    count = 0
    for here, _, names in os.walk(source):
        goal = target / Path(here).relative_to(source)
        make_folder(goal)
        for name in sorted(names):
            count += 1
            place = goal / name
            if place.exists():
                continue
            with space_checked(place):
                try:
                    os.link(Path(here) / name, place)
                except OSError:
                    link_or_copy(Path(here) / name, place)
    return count


def still_missing(paths: list[str], base: str, cause: DownloadError) -> DownloadError:
    """Return the error for what could be neither adopted nor fetched."""
    named = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
    hint = "run the same command again when the server can be reached: what was adopted stays"
    return DownloadError(f"{base} cannot be reached ({cause.message}); still missing: {named}", hint=hint)
