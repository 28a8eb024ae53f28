"""What a fetch will do, known before it starts: each file, what is here of it and what is still to be fetched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dove_core.config import FetchConfig
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.clients import shown
from dove_core.data.fetching.download import Partial, subset_note
from dove_core.data.fetching.layout import Layout, find_adoptable
from dove_core.data.fetching.origins import opened
from dove_core.data.fetching.selection import FileSelection, select
from dove_core.data.fetching.servers import Origin, Remote
from dove_core.data.fetching.subset import Subset
from dove_core.data.fetching.transfers import Retry, Transfers
from dove_core.errors import DownloadError, SpaceError, UsageError
from dove_core.events import Noted, Report, silent
from dove_core.files import LocalPath, free_space

_GIB = 2**30
_ENTRY = 100  # approximate bytes of a member in an archive's directory
_PROBING = Retry(retries=3)  # without an answer the plan fails in seconds, not minutes


@dataclass(frozen=True)
class PlannedFile:
    """One file of a plan.

    Attributes:
        file: the release's file.
        address: where it is fetched from.
        path: where it goes.
        remote: what the server has of it.
        state: whole here, partly here, to be adopted from the folder given with `--from`, or not here.
        to_come: bytes still to fetch; None: unknown.
        is_by_member: only some of an archive's members are wanted.
        is_estimate: `to_come` is an estimate: which members are wanted is not known yet.
        found: the file or folder that can be adopted.
    """

    file: RemoteFile
    address: str
    path: Path
    remote: Remote
    state: Literal["here", "part", "adoptable", "absent"]
    to_come: int | None
    is_by_member: bool = False
    is_estimate: bool = False
    found: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as plain data, for JSON."""
        return {
            "path": str(self.path), "url": self.address, "server": self.remote.presence,
            "size": self.remote.version.size, "here": self.state, "bytes_to_come": self.to_come,
            "estimated": self.is_estimate, "by_member": self.is_by_member,
        }  # fmt: skip


@dataclass(frozen=True)
class FetchPlan:
    """All that a fetch will do.

    Attributes:
        release: what is fetched, at the place that was chosen.
        layout: the folder that it is fetched into.
        fetching: which of its files, and how.
        selection: the files that the settings want.
        base: the address that the files are below.
        files: what is known of each file.
        free: free space in bytes.
        is_adopting: files of a folder are adopted first, so that the server may be unreachable.

    >>> plan = dove.plan_fetch(dove.RELEASES["rsicd"], "data/new", mirror="mirror")
    >>> plan.is_done, [file.state for file in plan.files]
    (False, ['absent'])
    """

    release: Release
    layout: Layout
    fetching: FetchConfig
    selection: FileSelection
    base: str
    files: tuple[PlannedFile, ...]
    free: int
    is_adopting: bool = False

    @property
    def to_come(self) -> int:
        """Return the bytes still to fetch, as far as known."""
        return sum(file.to_come or 0 for file in self.files)

    @property
    def is_done(self) -> bool:
        """Return whether there is nothing to fetch and nothing to adopt."""
        return all(file.state == "here" or (file.to_come == 0 and file.is_by_member) for file in self.files)

    def summary(self) -> str:
        """Return a line about how much is still to be fetched and how much space is free."""
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

    @property
    def source(self) -> str:
        """The address that all files are below."""
        first = self.files[0]
        return first.address.partition("?")[0].removesuffix(first.file.path)

    def problem(self) -> DownloadError | None:
        """Return why a file that is not here cannot be fetched; None if all can."""
        for file in self.files:
            problem, is_silent = file.remote.problem, file.remote.presence == "unreachable"
            is_here = file.state in ("here", "adoptable")
            if problem is not None and not is_here and not (is_silent and self.is_adopting):
                is_refused = file.remote.presence == "forbidden" and self.base == self.release.base_url
                hint = self.release.refusal if is_refused and self.release.refusal else problem.hint
                return DownloadError(problem.message, hint=hint)
        return None

    def check(self) -> None:
        """Check that the plan can be carried out.

        Raises:
            DownloadError: a file that is not here cannot be fetched.
            SpaceError: the files do not fit on the disk.
        """
        problem = self.problem()
        if problem is not None:
            raise problem
        if self.to_come > self.free:
            hint = (
                "free some space, choose a folder on a larger disk with --out, or fetch less (--limit, --split, "
                "--parts): finished files are kept"
            )
            raise SpaceError(f"{self.layout.folder} has no room for the release: {self.summary()}", hint=hint)


def plan_fetch(
    release: Release,
    folder: LocalPath,
    fetching: FetchConfig = FetchConfig(),
    *,
    mirror: str | None = None,
    adopt: LocalPath | None = None,
    retry: Retry | None = None,
    report: Report = silent,
) -> FetchPlan:
    """Ask the server for every file that the settings want, and look what is here; nothing is fetched.

    A release with alternatives is planned at the first place that has all files; if there is none, the first place is
    planned, and the plan says what is missing.

    Args:
        release: what to fetch.
        folder: where it goes, in the release's own layout.
        fetching: which of its files, and how.
        mirror: a web address or folder to fetch from, instead of the release's own server.
        adopt: a folder with files of the release that are adopted rather than fetched.
        retry: when to repeat requests that failed.
        report: receives Noted.

    Raises:
        UsageError: a setting, the mirror or a folder cannot be used, or a package is missing.

    >>> plan = dove.plan_fetch(dove.RELEASES["rsicd"], "data/new", mirror="mirror")
    >>> plan.to_come
    22
    """
    layout, transfers = Layout(Path(folder)), Transfers(fetching.connections, retry or _PROBING, report)
    plans, places = list[FetchPlan](), _places(release, fetching, layout, adopt)
    for number, (place, selection) in enumerate(places, 1):
        plan = _plan_at(place, selection, layout, fetching, mirror, adopt, transfers)
        problem = plan.problem()
        if problem is None:
            return plan
        plans.append(plan)
        if number < len(places):
            report(Noted(f"{problem.message}; trying {shown(mirror or places[number][0].base_url)}"))
    return plans[0]


def _places(
    release: Release, fetching: FetchConfig, layout: Layout, adopt: LocalPath | None
) -> list[tuple[Release, FileSelection]]:
    """Return the places that have what the settings want, first those whose files are on this machine already."""
    found, errors = list[tuple[Release, FileSelection]](), list[UsageError]()
    for place in (release, *release.alternatives):
        try:
            found.append((place, select(place, fetching)))
        except UsageError as error:
            errors.append(error)
    if not found:
        raise errors[0]

    def is_elsewhere(place: tuple[Release, FileSelection]) -> bool:
        return not all(layout.whole(file, None) or (adopt and find_adoptable(file, Path(adopt), None))
                       for file in place[1].files)  # fmt: skip

    return sorted(found, key=is_elsewhere) if len(found) > 1 else found


def _plan_at(
    place: Release, selection: FileSelection, layout: Layout, fetching: FetchConfig, mirror: str | None,
    adopt: LocalPath | None, transfers: Transfers,
) -> FetchPlan:  # fmt: skip
    base = mirror or place.base_url
    with opened(base, fetching.connections) as origin_of:
        origins = {file: origin_of(file.path) for file in selection.files}
        try:
            first, *others = origins.items()  # without an answer for the first, the others are not asked for
            remotes = dict([_examine(first, transfers)])
            remotes |= transfers.at_once(lambda item: _examine(item, transfers), others)
        except DownloadError as error:
            remotes = dict.fromkeys(origins, Remote("unreachable", problem=error))
        need = Subset(selection, layout, fetching.limit, remotes).to_come() if selection.is_by_member else {}
        files = []
        for file, origin in origins.items():
            version = remotes[file].version
            found = None if adopt is None else find_adoptable(file, Path(adopt), version.size)
            found = found or origin.kept_elsewhere(version)
            planned = PlannedFile(file, origin.address, layout.path(file), remotes[file], "absent", None, found=found)
            files.append(_with_state(planned, need.get(file), layout, selection, transfers.report))
    is_adopting = adopt is not None
    return FetchPlan(place, layout, fetching, selection, base, tuple(files), free_space(layout.folder), is_adopting)


def _examine(item: tuple[RemoteFile, Origin], transfers: Transfers) -> tuple[RemoteFile, Remote]:
    file, origin = item
    hint = "check the network and the address, or choose another server with --mirror"
    return file, transfers.persist(origin.examine, origin.address, hint=hint)


def _with_state(
    planned: PlannedFile, need: int | None, layout: Layout, selection: FileSelection, report: Report
) -> PlannedFile:
    """Return the entry with what is here of the file, and what is still to be fetched."""
    file, path, size = planned.file, planned.path, planned.remote.version.size
    if layout.whole(file, size) is not None:
        return replace(planned, state="here", to_come=0)
    if planned.found is not None:
        return replace(planned, state="adoptable", to_come=0)
    if selection.is_by_member and file.kind != "table":
        guess = None if size is None else min(size, round(size * selection.share) + selection.members * _ENTRY)
        return replace(planned, state="part" if layout.is_subset(file) else "absent", is_by_member=True,
                       to_come=guess if need is None else need, is_estimate=need is None)  # fmt: skip
    if path.is_file() and not subset_note(path).exists():
        length = path.stat().st_size
        report(Noted(f"{path} has {length} bytes, on the server it has {size}: it will be fetched again and replaced"))
    kept = Partial(path).resumable()
    to_come = None if size is None else max(0, size - kept)
    return replace(planned, state="part" if kept else "absent", to_come=to_come)
