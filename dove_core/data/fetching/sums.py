"""Which files held their published sums, so that 150 GB are not read again at each call."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dove_core.data.fetching.catalog import RemoteFile
from dove_core.data.fetching.download import check_md5
from dove_core.errors import DownloadError
from dove_core.events import Report
from dove_core.files import read_record, write_record

VERIFIED = "verified.json"
_VERIFIED_FORMAT = 1


@dataclass(frozen=True)
class _Sums:
    files: dict[str, dict[str, int | str | None]] = field(default_factory=dict)


class Verified:
    """Remembers in `verified.json`, by length and time of change, which files held their sums."""

    def __init__(self, folder: Path, source: str) -> None:
        self._folder, self._path, self._source = folder, folder / VERIFIED, source
        self._sums = _Sums()
        if self._path.exists():
            hint = f"delete {self._path}: the sums are then checked again"
            self._sums = read_record(self._path, _Sums, _VERIFIED_FORMAT, DownloadError, hint=hint)

    def settle(self, file: RemoteFile, path: Path, *, fresh: bool, report: Report) -> None:
        """Check a file's sum unless that was done, by the download of a fresh file or by an earlier call.

        Raises:
            DownloadError: the sum is another one.
        """
        if file.md5 is None:
            return
        found, name = path.stat(), path.relative_to(self._folder).as_posix()
        state: dict[str, int | str | None] = {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "md5": file.md5}
        if self._sums.files.get(name) == state:
            return
        if not fresh and state not in self._sums.files.values():
            check_md5(path, file.md5, self._source, report=report)
        self._sums.files[name] = state
        write_record(self._path, self._sums, _VERIFIED_FORMAT)
