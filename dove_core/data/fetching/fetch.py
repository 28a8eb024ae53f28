"""A release on a server -> the same files in a folder, or some of them.

The server is asked for every file first, so that a missing one or a full disk shows before anything is fetched. A file
that is here under its final name with the server's length is complete: it got that name when it was whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.clients import shown
from dove_core.data.fetching.download import Partial, download, subset_note
from dove_core.data.fetching.layout import adopt as adopt_file
from dove_core.data.fetching.origins import opened
from dove_core.data.fetching.plan import FetchPlan, plan_fetch
from dove_core.data.fetching.servers import Origin
from dove_core.data.fetching.subset import Subset
from dove_core.data.fetching.tables import TableChoice, write_cut
from dove_core.data.fetching.transfers import Retry, Transfers
from dove_core.errors import DownloadError
from dove_core.events import Noted, Report, Saved, silent
from dove_core.files import LocalPath, link_or_copy, write_json

__all__ = ["execute", "fetch", "plan_fetch"]


def fetch(
    release: Release,
    folder: LocalPath,
    fetching: FetchConfig = FetchConfig(),
    *,
    mirror: str | None = None,
    adopt: LocalPath | None = None,
    retry: Retry | None = None,
    report: Report = silent,
) -> list[Path]:
    """Fetch a release, or what the settings want of it, into `folder`, in the release's own layout.

    What is already here is not fetched again; an interrupted file resumes.

    Returns:
        The paths of all files that were wanted, in the release's order; of an archive's members, their folder.

    Raises:
        DataError: a table or an archive's directory is damaged.
        DownloadError: a file is refused, missing or wrong, or the retries are exhausted.
        SpaceError: the disk has no room for what is missing.
        UsageError: a setting, the mirror or a folder cannot be used.

    >>> dove.fetch(dove.RELEASES["rsicd"], "data/rsicd", mirror="mirror")
    [PosixPath('data/rsicd/benchmark/RSICD.zip')]
    """
    plan = plan_fetch(release, folder, fetching, mirror=mirror, adopt=adopt, retry=retry, report=report)
    report(Noted(f"{folder}: {plan.summary()}"))
    return execute(plan, retry=retry, report=report)


def execute(plan: FetchPlan, *, retry: Retry | None = None, report: Report = silent) -> list[Path]:
    """Carry out a plan; returns and raises as `fetch`."""
    plan.check()
    transfers = Transfers(plan.fetching.connections, retry, report)
    with plan.layout.locked(plan.selection.files), opened(plan.base, plan.fetching.connections) as origin_of:
        for file in plan.files:
            if file.state == "adoptable" and file.found is not None:
                checksum = plan.fetching.checksum
                adopt_file(file.file, file.found, plan.release, plan.layout, transfers, checksum=checksum)
        _check_reachable(plan)
        _FetchRun(plan, origin_of, transfers).run()
    places = [(plan.layout.whole(file.file, None), file) for file in plan.files]
    paths = [whole or (plan.layout.unpacked(file.file) if file.is_by_member else file.path) for whole, file in places]
    return [path for path in paths if path.exists()]


class _FetchRun:
    """One fetch while it runs."""

    def __init__(self, plan: FetchPlan, origin_of: Callable[[str], Origin], transfers: Transfers) -> None:
        self._plan, self._origin_of, self._transfers = plan, origin_of, transfers
        self._layout, self._selection = plan.layout, plan.selection
        self._checksum = plan.fetching.checksum
        remotes = {planned.file: planned.remote for planned in plan.files}
        self._subset = Subset(plan.selection, plan.layout, plan.fetching.limit, remotes)

    def run(self) -> None:
        """Fetch tables, then archives or members, then cut tables to the images that are here."""
        tables, choices = self._selection.of("table"), list[TableChoice]()
        self._transfers.at_once(self._bring, tables)
        if self._selection.is_by_member:
            choices = self._subset.fetch(self._origin_of, self._bring, self._transfers)
        else:
            others = [file for file in self._selection.files if file.kind != "table"]
            failed = [error for error in self._transfers.at_once(self._bring_or_fail, others) if error is not None]
            if failed:
                raise failed[0]
            if self._selection.is_cut:
                choices = self._subset.choose({})
        chosen = {choice.file: choice for choice in choices}
        for table in tables:
            self._place_table(table, chosen.get(table))
        self._put_away_other_tables()

    def _bring(self, file: RemoteFile) -> None:
        """Fetch a whole file, unless it is here, and compare it with its MD5."""
        path, whole, version = self._layout.path(file), self._subset.whole(file), self._subset.remotes[file].version
        if whole is None:
            if self._layout.is_subset(file):
                folder = self._layout.unpacked(file)
                rest = f"; delete {folder} after that to free its space" if folder.is_dir() else ""
                self._transfers.report(Noted(f"{path}: only some of it is here: the whole of it is fetched{rest}"))
            md5 = file.md5 if self._checksum else None
            download(self._origin_of(file.path), path, self._transfers, size=version.size, md5=md5,
                     md5_source=self._plan.release.md5_source)  # fmt: skip
        elif whole == path:
            Partial(path).discard()
        if self._checksum and (whole is None or whole.is_file()):
            source = self._plan.release.md5_source
            self._layout.verify(file, whole or path, source, self._transfers, is_checked=whole is None)

    def _bring_or_fail(self, file: RemoteFile) -> DownloadError | None:
        """Fetch a whole file; return why that failed, so that the other files are fetched first."""
        try:
            self._bring(file)
        except DownloadError as error:
            self._transfers.report(Noted(f"{error.message}; fetching the other files"))
            return error
        return None

    def _place_table(self, file: RemoteFile, choice: TableChoice | None) -> None:
        """Put a table where `dove shard` looks: as published if all its images are here, else cut to those."""
        source, target, published = self._subset.whole(file), self._layout.path(file), self._layout.published(file)
        assert source is not None
        if choice is not None and len(choice.rows) < choice.total:
            if source == target:
                link_or_copy(target, published)
            write_json(subset_note(target), {"format": 1, "rows": len(choice.rows), "total": choice.total})
            write_cut(published, np.sort(choice.rows), target)
        elif source != target:
            subset_note(target).unlink(missing_ok=True)
            link_or_copy(source, target)
        else:
            return
        self._transfers.report(Saved(str(target)))

    def _put_away_other_tables(self) -> None:
        """Move other captions of the same splits aside: `dove shard` reads one table of each split."""
        chosen = self._selection.of("table")
        splits = {file.split for file in chosen}
        for file in self._plan.release.files:
            path = self._layout.path(file)
            if file.kind != "table" or file in chosen or file.split not in splits or not path.exists():
                continue
            if not subset_note(path).exists():
                link_or_copy(path, self._layout.published(file))
            path.unlink()
            subset_note(path).unlink(missing_ok=True)
            self._transfers.report(Noted(f"{path} was put aside: other captions of this split were chosen"))


def _check_reachable(plan: FetchPlan) -> None:
    """Check that the server has answered, or that all files are adopted."""
    missing = [
        file for file in plan.files if file.remote.presence == "unreachable" and file.state in ("absent", "part")
    ]
    if missing:
        cause = missing[0].remote.problem
        named = ", ".join(file.file.path for file in missing)
        hint = "run the same command again when the server can be reached: adopted files stay"
        raise DownloadError(f"{shown(plan.base)} cannot be reached ({cause}); still missing: {named}", hint=hint)
