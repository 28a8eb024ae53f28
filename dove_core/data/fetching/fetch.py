"""A release on a server -> the same files in a folder, one after another.

Every file is asked for its length first, so that a missing one or a full disk shows before the first byte is fetched.
A file that is here under its final name with the server's length is complete: it got that name only when it was whole.
Where a sum is known it is checked once, and `verified.json` in the folder remembers that, by length and time of change.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx

from dove_core.data.fetching.answers import PATIENT, Patience, probe
from dove_core.data.fetching.catalog import Release, RemoteFile
from dove_core.data.fetching.download import check_md5, download, partial_length
from dove_core.errors import DownloadError, SpaceError, UsageError
from dove_core.events import Noted, Report, silent
from dove_core.files import make_folder, read_record, write_record

VERIFIED = "verified.json"
_VERIFIED_FORMAT = 1
_SILENCE = 60.0  # seconds without a byte before a connection is given up
_GIB = 2**30


def fetch(
    release: Release,
    folder: Path,
    *,
    base_url: str | None = None,
    checksums: bool = True,
    patience: Patience = PATIENT,
    report: Report = silent,
) -> list[Path]:
    """Fetch every file of a release into `folder`, in the release's own layout.

    What is already there is not fetched again; an interrupted file goes on where it stopped. `base_url` is a mirror to
    use in the place of the release's own server; `checksums` holds files to their MD5 sums, where the release has one.

    Returns:
        The paths of all files of the release, in its order.

    Raises:
        DownloadError: a file is refused, missing or wrong, or patience is at its end.
        SpaceError: the disk has no room for what is missing.
        UsageError: `base_url` is no web address, or `folder` cannot be made.
    """
    base = _checked_base(base_url or release.base_url)
    make_folder(folder)
    verified = _Verified(folder, release.md5_source)
    urls = {file: base + quote(file.path) for file in release.files}
    with httpx.Client(timeout=_SILENCE) as client:
        sizes = {file: probe(url, client=client, patience=patience, report=report) for file, url in urls.items()}
        missing = [file for file in urls if not _is_here(file, folder, sizes[file], report)]
        _check_space(missing, sizes, folder, report)
        for file, url in urls.items():
            if file in missing:
                download(url, folder / file.path, client=client, size=sizes[file], patience=patience, report=report,
                         md5=file.md5 if checksums else None, md5_source=release.md5_source)  # fmt: skip
            if checksums and file.md5:
                verified.settle(file, fresh=file in missing, report=report)
    return [folder / file.path for file in release.files]


def _checked_base(base_url: str) -> str:
    """Return a base URL with its closing slash.

    Raises:
        UsageError: it is no web address.
    """
    try:
        address = httpx.URL(base_url)
    except httpx.InvalidURL:
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        raise UsageError(f"{base_url} is not a web address", hint="a mirror looks like https://example.org/SkyScript/")
    return base_url.rstrip("/") + "/"


def _is_here(file: RemoteFile, folder: Path, size: int | None, report: Report) -> bool:
    """Say whether a file is complete; one whose length the server does not tell is, by its name."""
    path = folder / file.path
    if not path.is_file():
        return False
    length = path.stat().st_size
    if size is None or length == size:
        return True
    report(Noted(f"{path} has {length} bytes, the server's has {size}: it is fetched again and then replaced"))
    return False


def _check_space(files: list[RemoteFile], sizes: dict[RemoteFile, int | None], folder: Path, report: Report) -> None:
    """Compare what is still to come with the room on the disk, and note both.

    Raises:
        SpaceError: it does not fit.
    """
    to_come = sum(max(0, (sizes[file] or 0) - partial_length(folder / file.path)) for file in files)
    free = shutil.disk_usage(folder).free
    unknown = sum(sizes[file] is None for file in files)
    beside = f" and {unknown} of unknown length" if unknown else ""
    plan = f"{len(files)} of {len(sizes)} files to fetch: {to_come / _GIB:.2f} GiB{beside}; {free / _GIB:.2f} GiB free"
    if to_come > free:
        hint = "free some space, or choose a folder on a larger disk: what is finished is kept"
        raise SpaceError(f"{folder} has no room for the release: {plan}", hint=hint)
    report(Noted(f"{folder}: {plan}"))


@dataclass(frozen=True)
class _Sums:
    files: dict[str, dict[str, int | str | None]] = field(default_factory=dict)


class _Verified:
    """Remembers in `verified.json` which files held their sums, so that 150 GB are not read again at each call."""

    def __init__(self, folder: Path, source: str) -> None:
        self._folder, self._path, self._source = folder, folder / VERIFIED, source
        self._sums = _Sums()
        if self._path.exists():
            hint = f"delete {self._path}: the sums are then checked again"
            self._sums = read_record(self._path, _Sums, _VERIFIED_FORMAT, DownloadError, hint=hint)

    def settle(self, file: RemoteFile, *, fresh: bool, report: Report) -> None:
        """Check a file's sum unless that was done, by the download of a fresh file or by an earlier call."""
        found = (self._folder / file.path).stat()
        state = {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "md5": file.md5}
        if self._sums.files.get(file.path) == state:
            return
        if file.md5 and not fresh:
            check_md5(self._folder / file.path, file.md5, self._source, report=report)
        self._sums.files[file.path] = state
        write_record(self._path, self._sums, _VERIFIED_FORMAT)
