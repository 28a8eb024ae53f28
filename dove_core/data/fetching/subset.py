"""The images that caption tables name, and their metadata, without the archives that they are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dove_core.data.fetching.catalog import RemoteFile
from dove_core.data.fetching.layout import Layout
from dove_core.data.fetching.members import KeptDirectory, MemberFetch, missing_members, unpack_older_subset
from dove_core.data.fetching.selection import FileSelection
from dove_core.data.fetching.servers import Origin, Remote, Version
from dove_core.data.fetching.tables import TableChoice, choose_rows, members_of, metas_of
from dove_core.data.fetching.transfers import Transfers
from dove_core.data.zips import ZipDirectory
from dove_core.events import Noted, Skipped

Directories = Mapping[RemoteFile, ZipDirectory]
"""The directory of each archive that is not here as a whole."""


@dataclass(frozen=True)
class Subset:
    """The members of archives that a selection wants.

    Attributes:
        selection: which files are wanted.
        layout: where they go.
        limit: images of each table; 0: all.
        remotes: what the server has of each file.
    """

    selection: FileSelection
    layout: Layout
    limit: int
    remotes: Mapping[RemoteFile, Remote]

    def whole(self, file: RemoteFile) -> Path | None:
        """Return where the whole of a file is, as `Layout.whole`."""
        return self.layout.whole(file, self._version(file).size)

    def choose(self, directories: Directories) -> list[TableChoice]:
        """Choose rows of every table; the published tables are here."""
        archives = {file.archive: directories.get(file) for file in self.selection.of("images")}
        tables = {file: self.whole(file) for file in self.selection.of("table")}
        return [choose_rows(file, path, archives, self.limit) for file, path in tables.items() if path is not None]

    def to_come(self) -> dict[RemoteFile, int]:
        """Return how many bytes are still to be fetched of each archive, if earlier calls left what shows it."""
        kept = {file: self._kept(file).read() for file in self._partial()}
        directories = {file: directory for file, directory in kept.items() if directory is not None}
        tables = [self.whole(file) for file in self.selection.of("table")]
        if len(directories) < len(kept) or None in tables:
            return {}
        choices, need = self.choose(directories), {}
        for file, directory in directories.items():
            missing = missing_members(directory, _members(choices, file, directory)[0], self.layout.unpacked(file))
            need[file] = int(directory.packed[missing].sum())
        return need

    def fetch(
        self, origin_of: Callable[[str], Origin], bring_whole: Callable[[RemoteFile], None],
        transfers: Transfers,
    ) -> list[TableChoice]:  # fmt: skip
        """Fetch all members that the tables name; return the rows whose images are here.

        `bring_whole` fetches a whole archive, from a server that does not serve ranges.

        Raises:
            DataError: a table or an archive's directory is damaged.
            DownloadError: refused, missing, changed meanwhile, or the retries are exhausted.
            SpaceError: the disk is full.
        """
        for file in self._partial():
            unpack_older_subset(self.layout.path(file), self.layout.unpacked(file))
            if self._version(file).size is None or not self.remotes[file].has_ranges:
                reason = "the server does not serve ranges of files: the whole of it is fetched"
                transfers.report(Noted(f"{origin_of(file.path).address}: {reason}"))
                bring_whole(file)

        def directory_of(file: RemoteFile) -> tuple[RemoteFile, ZipDirectory]:
            kept = self._kept(file)
            return file, kept.read() or kept.fetch(origin_of(file.path), transfers)

        found = dict(transfers.at_once(directory_of, self._partial()))
        choices, fetches = self.choose(found), dict[RemoteFile, MemberFetch]()
        for choice in choices:
            if choice.absent:
                task = f"choose from {choice.source.name}"
                transfers.report(Skipped(task, "no archive has the image", choice.absent, choice.example))
        for file, directory in found.items():
            numbers, lost = _members(choices, file, directory)
            if lost:
                transfers.report(Skipped(f"fetch members of {file.path}", "missing meta", len(lost), lost[0]))
            if len(numbers):
                folder, origin = self.layout.unpacked(file), origin_of(file.path)
                fetches[file] = MemberFetch(origin, self._version(file), directory, numbers, folder, transfers)
        runs = [(fetch, run) for fetch in fetches.values() for run in fetch.begin()]
        transfers.at_once(lambda item: item[0].bring(item[1]), runs)
        for file, fetch in fetches.items():
            damaged = fetch.finish()
            if file.kind == "images":
                choices = [choice.without(file.archive, damaged) for choice in choices]
        return choices

    def _partial(self) -> list[RemoteFile]:
        """Return the archives that are not here as a whole."""
        archives = [*self.selection.of("images"), *self.selection.of("meta")]
        return [file for file in archives if self.whole(file) is None]

    def _kept(self, file: RemoteFile) -> KeptDirectory:
        folder = self.layout.cache / "directories"
        return KeptDirectory(folder, self.layout.unpacked(file).name, self._version(file))

    def _version(self, file: RemoteFile) -> Version:
        return self.remotes[file].version


def _members(choices: list[TableChoice], file: RemoteFile, directory: ZipDirectory) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of an archive's members that are wanted, and the images without metadata in it."""
    if file.kind == "meta":
        return metas_of(choices, file.archive, directory)
    return members_of(choices, file.archive), []
