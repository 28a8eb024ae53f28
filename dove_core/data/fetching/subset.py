"""The members that caption tables name, without the archives they lie in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dove_core.config import FetchConfig
from dove_core.data.fetching.answers import ChangedError, Pace, Version
from dove_core.data.fetching.catalog import RemoteFile
from dove_core.data.fetching.choice import TableChoice, choose_rows, members_of, metas_of
from dove_core.data.fetching.directories import kept_directory, remote_directory
from dove_core.data.fetching.layout import Layout
from dove_core.data.fetching.members import bring_members, missing_bytes
from dove_core.data.fetching.origins import Origin
from dove_core.data.fetching.segments import honours_ranges
from dove_core.data.fetching.selection import WHOLE_FROM, Selection
from dove_core.data.zips import ZipDirectory
from dove_core.errors import DownloadError
from dove_core.events import Noted, Report, Skipped

_CHANGES = 3  # of an archive on the server, in one call

Versions = Mapping[RemoteFile, Version]


def known_need(selection: Selection, versions: Versions, layout: Layout, config: FetchConfig) -> dict[RemoteFile, int]:
    """Return how many bytes of members are still to come of each archive, if earlier calls left what tells it."""
    tables = {file: layout.whole(file, versions[file].size) for file in selection.of("table") if file in versions}
    archives = [file for file in selection.files if file.kind != "table"]
    if not all(tables.values()) or len(tables) < len(selection.of("table")) or any(a not in versions for a in archives):
        return {}
    directories: dict[RemoteFile, ZipDirectory] = {}
    whole = {file for file in archives if layout.whole(file, versions[file].size)}
    for file in archives:
        if file not in whole:
            kept = kept_directory(versions[file], layout.path(file).stem, layout.directories)
            if kept is None:
                return {}
            directories[file] = kept
    by_part = {file.part: directories.get(file) for file in selection.of("images")}
    choices = [choose_rows(file, path, by_part, config.limit) for file, path in tables.items() if path is not None]
    need = {}
    for file, directory in directories.items():
        if file.kind == "images":
            numbers = members_of(choices, file.part)
        else:
            numbers = metas_of(choices, file.part, directory)[0]
        need[file] = missing_bytes(directory, numbers, layout.path(file))
    return need


@dataclass(frozen=True)
class SubsetFetch:
    """Brings members of archives.

    Attributes:
        selection: what is wanted.
        layout: where it goes.
        config: the settings.
        origin_of: from a path of the release to the file there.
        bring_whole: fetches a whole archive.
        pace: how bytes are brought.
        report: receives Started, Advanced, Noted, Skipped and Saved.
    """

    selection: Selection
    layout: Layout
    config: FetchConfig
    origin_of: Callable[[str], Origin]
    bring_whole: Callable[[RemoteFile, Version], None]
    pace: Pace
    report: Report

    def run(self, versions: Versions) -> list[TableChoice]:
        """Bring all members that the tables name; return the rows whose images are here.

        Raises:
            DataError: a table or an archive's directory is damaged.
            DownloadError: refused, missing, or patience is at its end.
            SpaceError: the disk is full.
        """
        known = dict(versions)
        for _ in range(_CHANGES):
            try:
                return self._run(known)
            except ChangedError:
                self.report(
                    Noted("an archive has changed on the server: what still fits is kept, the rest starts over")
                )
                known = {file: self.origin_of(file.path).examine().version for file in self.selection.files}
        raise DownloadError("an archive keeps changing on the server", hint="run the same command again later")

    def _run(self, versions: Versions) -> list[TableChoice]:
        images = {file: self._directory(file, versions[file]) for file in self.selection.of("images")}
        choices = self._choose({file.part: directory for file, directory in images.items()}, versions)
        self._report_absent(choices)
        for file, directory in images.items():
            if directory is None:
                continue
            damaged = self._bring(file, versions[file], directory, members_of(choices, file.part))
            choices = [choice.without(file.part, damaged) for choice in choices]
        for file in self.selection.of("meta"):
            metas = self._directory(file, versions[file])
            if metas is None:
                continue
            numbers, lost = metas_of(choices, file.part, metas)
            if lost:
                self.report(Skipped(f"fetch members of {file.path}", "missing meta", len(lost), lost[0]))
            self._bring(file, versions[file], metas, numbers)
        return choices

    def _choose(self, archives: Mapping[int, ZipDirectory | None], versions: Versions) -> list[TableChoice]:
        choices = []
        for table in self.selection.of("table"):
            path = self.layout.whole(table, versions[table].size)
            assert path is not None  # tables come first
            choices.append(choose_rows(table, path, archives, self.config.limit))
        return choices

    def _directory(self, file: RemoteFile, version: Version) -> ZipDirectory | None:
        """Return the directory of an archive, or None if the whole of it is here, or has to be."""
        if self.layout.whole(file, version.size) is not None:
            return None
        origin, name = self.origin_of(file.path), self.layout.path(file).stem
        kept = kept_directory(version, name, self.layout.directories)
        if kept is not None:
            return kept
        if version.size is None or not honours_ranges(origin, version, pace=self.pace, report=self.report):
            self.report(
                Noted(f"{origin.address}: the server does not serve parts of files: the whole of it is fetched")
            )
            self.bring_whole(file, version)
            return None
        return remote_directory(origin, version, name, self.layout.directories, pace=self.pace, report=self.report)

    def _bring(self, file: RemoteFile, version: Version, directory: ZipDirectory, numbers: np.ndarray) -> np.ndarray:
        """Bring members, or the whole archive if they are much of it; return those that are damaged."""
        target, nothing = self.layout.path(file), np.array([], dtype=np.int64)
        wanted = int(directory.packed[numbers].sum())
        if not len(numbers):
            return nothing
        if version.size is not None and wanted >= WHOLE_FROM * version.size:
            share = f"{100 * wanted / version.size:.0f} %"
            self.report(Noted(f"{target.name}: {share} of it is wanted, so the whole of it is fetched"))
            self.bring_whole(file, version)
            return nothing
        origin = self.origin_of(file.path)
        return bring_members(origin, version, directory, numbers, target, pace=self.pace, report=self.report)

    def _report_absent(self, choices: list[TableChoice]) -> None:
        for choice in choices:
            if choice.absent:
                task = f"choose from {choice.source.name}"
                self.report(Skipped(task, "no archive has the image", choice.absent, choice.example))
