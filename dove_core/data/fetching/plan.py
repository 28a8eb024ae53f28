"""What a fetch would do, known before it is done: each file, where it is, what is here, what is to come."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dove_core.config import FetchConfig
from dove_core.data.fetching.adopt import find_adoptable
from dove_core.data.fetching.answers import Pace, Patience, Remote, Version
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.layout import Layout
from dove_core.data.fetching.origins import Origin, opened, probe
from dove_core.data.fetching.part import partial_length
from dove_core.data.fetching.segments import Stop, at_once
from dove_core.data.fetching.selection import Selection, select
from dove_core.data.fetching.subset import known_need
from dove_core.errors import DownloadError, SpaceError
from dove_core.events import Noted, Report, silent

_GIB = 2**30
_ENTRY = 100  # bytes of a member in an archive's directory, about
_ASKING = Patience(retries=3)  # a plan that nobody answers shall not take minutes


@dataclass(frozen=True)
class PlannedFile:
    """One file of a plan.

    Attributes:
        file: which one.
        address: where it is fetched from.
        path: where it goes.
        remote: what the server says of it; None: nobody answers.
        state: whole here, in part, to be taken from the folder given with `--from`, or not here at all.
        to_come: bytes still to fetch; None where nobody knows.
        is_by_member: only some of an archive's members are wanted.
        is_estimate: `to_come` is a guess, because it is not known yet which members those are.
        found: what can be adopted.
    """

    file: RemoteFile
    address: str
    path: Path
    remote: Remote | None
    state: Literal["here", "part", "adoptable", "absent"]
    to_come: int | None
    is_by_member: bool = False
    is_estimate: bool = False
    found: Path | None = None

    @property
    def version(self) -> Version:
        """Return the version on the server."""
        return self.remote.version if self.remote is not None else Version(None, None)

    @property
    def presence(self) -> str:
        """Say whether the server has it: present, missing, forbidden, unusable or unreachable."""
        return self.remote.presence if self.remote is not None else "unreachable"

    def as_dict(self) -> dict[str, Any]:
        """Return what there is to know, for JSON."""
        return {
            "path": str(self.path), "url": self.address, "server": self.presence, "size": self.version.size,
            "here": self.state, "bytes_to_come": self.to_come, "estimated": self.is_estimate,
            "by_member": self.is_by_member,
        }  # fmt: skip


@dataclass(frozen=True)
class FetchPlan:
    """All that a fetch will do; `free` is the room on the disk in bytes, `unreachable` why nobody answers."""

    release: Release
    layout: Layout
    config: FetchConfig
    selection: Selection
    base: str
    files: tuple[PlannedFile, ...]
    free: int
    unreachable: DownloadError | None = None

    @property
    def to_come(self) -> int:
        """Return the bytes still to fetch, as far as they are known."""
        return sum(file.to_come or 0 for file in self.files)

    @property
    def is_done(self) -> bool:
        """Say whether there is nothing to fetch and nothing to adopt."""
        return all(file.state == "here" or (file.to_come == 0 and file.is_by_member) for file in self.files)

    def summary(self) -> str:
        """Say in a line how much is to come and how much room there is."""
        coming = [file for file in self.files if file.to_come != 0]
        unknown = sum(file.to_come is None for file in coming)
        beside = f" and {unknown} of unknown length" if unknown else ""
        about = "about " if any(file.is_estimate for file in coming) else ""
        sizes = f"{about}{self.to_come / _GIB:.2f} GiB{beside}; {self.free / _GIB:.2f} GiB free"
        return f"{len(coming)} of {len(self.files)} files to fetch: {sizes}"

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, for JSON."""
        return {
            "release": self.release.name, "folder": str(self.layout.folder),
            "files": [file.as_dict() for file in self.files], "bytes_to_come": self.to_come, "bytes_free": self.free,
        }  # fmt: skip

    def check(self) -> None:
        """Refuse a plan that cannot be carried out.

        Raises:
            DownloadError: a file that is not here cannot be had.
            SpaceError: what is to come does not fit on the disk.
        """
        for file in self.files:
            problem = file.remote.problem if file.remote is not None else None
            if problem is not None and file.state not in ("here", "adoptable"):
                raise DownloadError(problem.message, hint=problem.hint)
        if self.to_come > self.free:
            hint = (
                "free some space, choose a folder on a larger disk, or fetch less (--limit, --split, --parts): "
                "what is finished is kept"
            )
            raise SpaceError(f"{self.layout.folder} has no room for the release: {self.summary()}", hint=hint)


def plan_fetch(
    release: Release,
    folder: Path,
    config: FetchConfig,
    *,
    mirror: str | None = None,
    adopt: Path | None = None,
    patience: Patience | None = None,
    report: Report = silent,
) -> FetchPlan:
    """Ask the server for every file that the settings want, and look what is here; nothing is fetched.

    Args:
        release: what to fetch.
        folder: where it goes, in the release's own layout.
        config: which of its files, and how.
        mirror: a web address or folder to fetch from instead of the release's own server.
        adopt: a folder with files of the release that are taken over rather than fetched.
        patience: how long to go on after failures that may pass.
        report: receives Noted.

    Raises:
        DownloadError: the server cannot be reached, and there is no folder to adopt from.
        UsageError: a setting, the mirror or a folder cannot be used.
    """
    selection = select(release, config)
    layout, base = Layout(folder), mirror or release.base_url
    unreachable = None
    with opened(base, config.connections) as origin_of:
        try:
            remotes = _probe_all(selection, origin_of, config.connections, patience or _ASKING, report)
        except DownloadError as error:
            if adopt is None:
                raise
            remotes, unreachable = {}, error
        addresses = {file: origin_of(file.path).address for file in selection.files}
    versions = {file: remote.version for file, remote in remotes.items()}
    need = known_need(selection, versions, layout, config) if selection.is_by_member else {}
    files = [
        _planned(file, addresses[file], remotes.get(file), need.get(file), layout, selection, adopt, report)
        for file in selection.files
    ]
    return FetchPlan(release, layout, config, selection, base, tuple(files), _free(folder), unreachable)


def pace_of(config: FetchConfig, patience: Patience | None) -> Pace:
    """Return how bytes are brought under these settings."""
    return Pace(config.connections, config.segment_mib * 2**20, patience or Patience())


def _free(folder: Path) -> int:
    """Return the room on the disk where `folder` is, or will be, in bytes."""
    while not folder.exists():
        folder = folder.absolute().parent
    return shutil.disk_usage(folder).free


def _probe_all(
    selection: Selection, origin_of: Callable[[str], Origin], connections: int, patience: Patience, report: Report
) -> dict[RemoteFile, Remote]:
    """Ask for the first file, and only if somebody answers for the others, at once."""

    def ask(file: RemoteFile, stop: Stop) -> Remote:
        return probe(origin_of(file.path), patience=patience, pause=stop.pause, report=report)

    first, *rest = selection.files
    return {first: ask(first, Stop()), **dict(at_once(ask, rest, connections))}


def _planned(
    file: RemoteFile,
    address: str,
    remote: Remote | None,
    need: int | None,
    layout: Layout,
    selection: Selection,
    adopt: Path | None,
    report: Report,
) -> PlannedFile:
    path = layout.path(file)
    size = remote.version.size if remote is not None else None
    found = find_adoptable(file, adopt, size) if adopt is not None else None
    planned = PlannedFile(file, address, path, remote, "absent", None, found=found)
    if layout.whole(file, size) is not None:
        return replace(planned, state="here", to_come=0)
    if found is not None:
        return replace(planned, state="adoptable", to_come=0)
    is_subset = layout.is_subset(path) and file.kind != "table"
    if selection.is_by_member and file.kind != "table":
        guess = None if size is None else min(size, round(size * selection.share) + selection.members * _ENTRY)
        return replace(planned, state="part" if is_subset else "absent", to_come=guess if need is None else need,
                       is_by_member=True, is_estimate=need is None)  # fmt: skip
    if path.is_file() and not layout.is_subset(path):
        length = path.stat().st_size
        report(Noted(f"{path} has {length} bytes, the server's has {size}: it is fetched again and then replaced"))
    kept = partial_length(path)
    to_come = None if size is None else max(0, size - kept)
    return replace(planned, state="part" if kept else "absent", to_come=to_come)
