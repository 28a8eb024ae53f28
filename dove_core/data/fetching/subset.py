"""The images that caption tables name, and their metadata, without the archives that they are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dove_core.data.fetching.answers import Version
from dove_core.data.fetching.catalog import RemoteFile
from dove_core.data.fetching.choice import TableChoice, choose_rows, members_of, metas_of
from dove_core.data.fetching.layout import Layout
from dove_core.data.fetching.members import MemberFetch, missing_members, unpack_older_subset
from dove_core.data.fetching.ranges import KeptDirectory
from dove_core.data.fetching.selection import FileSelection
from dove_core.data.fetching.servers import Origin, Remote
from dove_core.data.fetching.transfers import Transfers
from dove_core.data.zips import ZipDirectory
from dove_core.events import Noted, Skipped

Remotes = Mapping[RemoteFile, Remote]
Directories = dict[RemoteFile, ZipDirectory | None]
"""Of each archive its directory; None if the whole archive is here."""


def known_need(selection: FileSelection, remotes: Remotes, layout: Layout, limit: int) -> dict[RemoteFile, int]:
    """Return how many bytes of members are still to be fetched of each archive, if earlier calls left what shows it."""
    tables = [layout.whole(file, remotes[file].version.size) for file in selection.of("table") if file in remotes]
    archives = [*selection.of("images"), *selection.of("meta")]
    if not all(tables) or len(tables) < len(selection.of("table")) or any(file not in remotes for file in archives):
        return {}
    whole = {file for file in archives if layout.whole(file, remotes[file].version.size) is not None}
    images: Directories = {}
    for file in selection.of("images"):
        images[file] = None if file in whole else _kept(file, remotes[file].version, layout).read()
        if images[file] is None and file not in whole:
            return {}
    choices = _choose(selection, remotes, layout, images, limit)
    need = {}
    for file in archives:
        directory = images[file] if file in images else _kept(file, remotes[file].version, layout).read()
        if directory is not None and file not in whole:
            is_meta = file.kind == "meta"
            numbers = metas_of(choices, file.archive, directory)[0] if is_meta else members_of(choices, file.archive)
            missing = missing_members(directory, numbers, layout.unpacked(file))
            need[file] = int(directory.packed[missing].sum())
    return need


@dataclass(frozen=True)
class SubsetFetch:
    """Fetches members of archives.

    Attributes:
        selection: which files are wanted.
        layout: where they go.
        limit: images of each table; 0: all.
        origin_of: returns the file at a path of the release.
        bring_whole: fetches a whole archive.
        transfers: the requests; receives Started, Advanced, Noted, Skipped and Saved.
    """

    selection: FileSelection
    layout: Layout
    limit: int
    origin_of: Callable[[str], Origin]
    bring_whole: Callable[[RemoteFile, Version], None]
    transfers: Transfers

    def run(self, remotes: Remotes) -> list[TableChoice]:
        """Fetch all members that the tables name; return the rows whose images are here.

        Raises:
            DataError: a table or an archive's directory is damaged.
            DownloadError: refused, missing, changed meanwhile, or the retries are exhausted.
            SpaceError: the disk is full.
        """
        images = {file: self._directory(file, remotes[file]) for file in self.selection.of("images")}
        choices = _choose(self.selection, remotes, self.layout, images, self.limit)
        for choice in choices:
            if choice.absent:
                task = f"choose from {choice.source.name}"
                self.transfers.report(Skipped(task, "no archive has the image", choice.absent, choice.example))
        numbers = {file: members_of(choices, file.archive) for file in images}
        for file, damaged in self._bring(images, numbers, remotes).items():
            choices = [choice.without(file.archive, damaged) for choice in choices]
        metas = {file: self._directory(file, remotes[file]) for file in self.selection.of("meta")}
        for file, directory in metas.items():
            if directory is not None:
                numbers[file], lost = metas_of(choices, file.archive, directory)
                if lost:
                    task = f"fetch members of {file.path}"
                    self.transfers.report(Skipped(task, "missing meta", len(lost), lost[0]))
        self._bring(metas, numbers, remotes)
        return choices

    def _directory(self, file: RemoteFile, remote: Remote) -> ZipDirectory | None:
        """Return the directory of an archive; None if the whole of it is here, or has to be."""
        if self.layout.whole(file, remote.version.size) is not None:
            return None
        origin, kept = (
            self.origin_of(file.path),
            KeptDirectory(self.layout.directories, self.layout.unpacked(file).name, remote.version),
        )
        if remote.version.size is None or not remote.has_ranges:
            reason = "the server does not serve ranges of files: the whole of it is fetched"
            self.transfers.report(Noted(f"{origin.address}: {reason}"))
            self.bring_whole(file, remote.version)
            return None
        kept = _kept(file, remote.version, self.layout)
        directory = kept.read()
        return kept.fetch(origin, self.transfers) if directory is None else directory

    def _bring(
        self, directories: Directories, numbers: Mapping[RemoteFile, np.ndarray], remotes: Remotes
    ) -> dict[RemoteFile, np.ndarray]:
        """Fetch members of several archives at once; return the numbers of those that are damaged on the server."""
        fetches, runs = {}, []
        for file, directory in directories.items():
            if directory is None or not len(numbers[file]):
                continue
            folder, version = self.layout.unpacked(file), remotes[file].version
            unpack_older_subset(self.layout.path(file), folder)
            fetch = MemberFetch(self.origin_of(file.path), version, directory, numbers[file], folder, self.transfers)
            runs += [(fetch, run) for run in fetch.begin()]
            fetches[file] = fetch
        self.transfers.at_once(lambda item: item[0].bring(item[1]), runs)
        return {file: fetch.finish() for file, fetch in fetches.items()}


def _choose(
    selection: FileSelection, remotes: Remotes, layout: Layout, images: Directories, limit: int
) -> list[TableChoice]:
    """Choose rows of every table; the published tables are here."""
    by_number = {file.archive: directory for file, directory in images.items()}
    tables = {file: layout.whole(file, remotes[file].version.size) for file in selection.of("table")}
    return [choose_rows(file, path, by_number, limit) for file, path in tables.items() if path is not None]


def _kept(file: RemoteFile, version: Version, layout: Layout) -> KeptDirectory:
    return KeptDirectory(layout.directories, layout.unpacked(file).name, version)
