"""A release on a server -> the same files in a folder, or as many of them as are wanted.

Every file is asked for its length first, so that a missing one or a full disk shows before the first byte is fetched.
A file that is here under its final name with the server's length is complete: it got that name only when it was whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dove_core.config import FetchConfig
from dove_core.data.fetching.adopt import adopt as take_over, still_missing
from dove_core.data.fetching.answers import Patience, Version
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.choice import TableChoice, choose_rows
from dove_core.data.fetching.download import download
from dove_core.data.fetching.origins import Origin, opened
from dove_core.data.fetching.part import Part, subset_note
from dove_core.data.fetching.plan import FetchPlan, PlannedFile, pace_of, plan_fetch
from dove_core.data.fetching.subset import SubsetFetch
from dove_core.data.fetching.subset_zip import SubsetZip
from dove_core.data.fetching.sums import Verified
from dove_core.data.fetching.tables import write_cut
from dove_core.events import Noted, Report, Saved, silent
from dove_core.files import link_or_copy

__all__ = ["execute", "fetch", "plan_fetch"]


def fetch(
    release: Release,
    folder: Path,
    config: FetchConfig | None = None,
    *,
    mirror: str | None = None,
    adopt: Path | None = None,
    patience: Patience | None = None,
    report: Report = silent,
) -> list[Path]:
    """Fetch a release, or what the settings want of it, into `folder`, in the release's own layout.

    What is already there is not fetched again; an interrupted file goes on where it stopped.

    Returns:
        The paths of all files that were wanted, in the release's order.

    Raises:
        DataError: a table or an archive's directory is damaged.
        DownloadError: a file is refused, missing or wrong, or patience is at its end.
        SpaceError: the disk has no room for what is missing.
        UsageError: a setting, the mirror or a folder cannot be used.
    """
    plan = plan_fetch(release, folder, config or FetchConfig(), mirror=mirror, adopt=adopt, patience=patience,
                      report=report)  # fmt: skip
    report(Noted(f"{folder}: {plan.summary()}"))
    return execute(plan, patience=patience, report=report)


def execute(plan: FetchPlan, *, patience: Patience | None = None, report: Report = silent) -> list[Path]:
    """Carry out a plan.

    Returns:
        The paths of all files that were wanted, in the release's order.

    Raises:
        DataError: a table or an archive's directory is damaged.
        DownloadError: a file is refused, missing or wrong, or patience is at its end.
        SpaceError: the disk has no room for what is missing.
        UsageError: another call is at work in the folder.
    """
    plan.check()
    with plan.layout.locked(plan.selection.files), opened(plan.base, plan.config.connections) as origin_of:
        job = _Job(plan, origin_of, patience, report)
        job.adopt()
        if plan.unreachable is not None:
            missing = [file.file.path for file in plan.files if file.state == "absent" or file.state == "part"]
            if missing:
                raise still_missing(missing, plan.base, plan.unreachable)
        job.run()
    return [plan.layout.whole(file.file, None) or file.path for file in plan.files]


class _Job:
    """One fetch under way."""

    def __init__(
        self, plan: FetchPlan, origin_of: Callable[[str], Origin], patience: Patience | None, report: Report
    ) -> None:
        self._plan, self._origin_of, self._report = plan, origin_of, report
        self._layout, self._selection = plan.layout, plan.selection
        self._pace = pace_of(plan.config, patience)
        self._verified = Verified(plan.layout.folder, plan.release.md5_source)

    def adopt(self) -> None:
        """Take over what was found elsewhere."""
        checksum = self._plan.config.checksum
        for planned in self._plan.files:
            if planned.state == "adoptable" and planned.found is not None:
                take_over(planned.file, planned.found, self._plan.release, self._layout, checksum=checksum,
                          report=self._report)  # fmt: skip
                if planned.found.is_file() and checksum:
                    self._verified.settle(planned.file, planned.path, fresh=True, report=self._report)

    def run(self) -> None:
        """Bring tables, then whole archives or members, then cut tables to what is here."""
        tables = [planned for planned in self._plan.files if planned.file.kind == "table"]
        others = [planned for planned in self._plan.files if planned.file.kind != "table"]
        is_cut = self._selection.is_by_member or self._selection.is_cut
        for planned in tables:
            self._bring_table(planned, is_kept_aside=is_cut)
        if not self._selection.is_by_member:
            for planned in others:
                self._bring(planned.file, planned.version)
        if is_cut:
            for choice in self._choose(tables):
                self._place_table(choice)
        self._put_away_other_tables()

    def _choose(self, tables: list[PlannedFile]) -> list[TableChoice]:
        versions = {planned.file: planned.version for planned in self._plan.files}
        if self._selection.is_by_member:
            subset = SubsetFetch(self._selection, self._layout, self._plan.config, self._origin_of, self._bring,
                                 self._pace, self._report)  # fmt: skip
            return subset.run(versions)
        whole = {file.part: None for file in self._selection.of("images")}
        sources = {table.file: self._layout.whole(table.file, table.version.size) for table in tables}
        limit = self._plan.config.limit
        return [choose_rows(file, path, whole, limit) for file, path in sources.items() if path is not None]

    def _bring(self, file: RemoteFile, version: Version, target: Path | None = None) -> None:
        """Bring a whole file, unless it is here, and hold it to its sum."""
        path = target or self._layout.path(file)
        whole = self._layout.whole(file, version.size)
        if whole is None:
            if self._layout.is_subset(path):
                self._report(Noted(f"{path} is a part of the published file: the whole of it is fetched"))
            checksum = file.md5 if self._plan.config.checksum else None
            download(self._origin_of(file.path), path, version=version, md5=checksum, pace=self._pace,
                     md5_source=self._plan.release.md5_source, report=self._report)  # fmt: skip
        Part(path).forget()
        SubsetZip(path).part.unlink(missing_ok=True)
        if self._plan.config.checksum and (whole is None or whole.is_file()):
            self._verified.settle(file, whole or path, fresh=whole is None, report=self._report)

    def _bring_table(self, planned: PlannedFile, *, is_kept_aside: bool) -> None:
        """Bring a whole table to where `dove shard` looks, or aside if a shorter one is to stand there."""
        file, path, kept = planned.file, planned.path, self._layout.kept(planned.file)
        self._bring(file, planned.version, kept if is_kept_aside else path)
        whole = self._layout.whole(file, planned.version.size)
        if is_kept_aside:
            if whole == path:
                link_or_copy(path, kept)
        elif whole == kept:
            subset_note(path).unlink(missing_ok=True)
            link_or_copy(kept, path)
            self._report(Saved(str(path)))

    def _place_table(self, choice: TableChoice) -> None:
        """Put a table where `dove shard` looks: as published if all its images are here, else cut to those."""
        target, kept = self._layout.path(choice.file), self._layout.kept(choice.file)
        if len(choice.rows) == choice.total:
            link_or_copy(kept, target)
            subset_note(target).unlink(missing_ok=True)
        else:
            self._layout.note_cut(target, len(choice.rows), choice.total)
            write_cut(kept, np.sort(choice.rows), target)
        self._report(Saved(str(target)))

    def _put_away_other_tables(self) -> None:
        """Move other captions of the same splits aside: `dove shard` takes one table a split."""
        chosen = self._selection.of("table")
        splits = {file.split for file in chosen}
        for file in self._plan.release.files:
            path = self._layout.path(file)
            if file.kind != "table" or file in chosen or file.split not in splits or not path.exists():
                continue
            kept = self._layout.kept(file)
            if self._layout.is_subset(path):
                path.unlink()
                subset_note(path).unlink()
            else:
                link_or_copy(path, kept)
                path.unlink()
            self._report(Noted(f"{path}: put aside, other captions of this split were chosen"))
