"""Storage of a run: a folder of this machine, or a bucket with a local folder that processes write to.

Finished files are uploaded to the bucket at once. Before a checkpoint in the bucket is replaced, the store copies the
earlier one to `.old`. The configuration file marks a complete checkpoint: it is removed first and uploaded last. So
whenever a run is killed, the bucket holds a complete checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from dove_core.buckets import Bucket
from dove_core.cache import cache_folder, locked
from dove_core.config import CacheConfig
from dove_core.encoding.checkpoint import settled_place
from dove_core.encoding.dove_text import CONFIG
from dove_core.files import make_folder, settled_folder, space_checked, write_json
from dove_core.places import Folder, Place

_RUNS, _DOWNLOADED = "runs", "came.json"


class RunStorage:
    """Where a run is stored, `location`, and the folder that is written to, `path`: the same unless it is a bucket."""

    def __init__(self, location: Place, cache: CacheConfig) -> None:
        self.location, self.cache = location, cache
        self._bucket = location if isinstance(location, Bucket) else None
        if isinstance(location, Folder):
            self.path = location.path
        else:
            digest = hashlib.sha256(str(location).encode()).hexdigest()[:16]
            self.path = (cache_folder(cache) / _RUNS / f"{location.name}-{digest}").absolute()

    def address_of(self, name: str) -> str:
        """Return the path or address of a file or folder of the run, for messages."""
        return str(self.location / name)

    def has(self, checkpoint: str) -> bool:
        """Tell whether the run has a checkpoint of that name.

        Raises:
            UsageError: the bucket cannot be reached, or denies access.
        """
        if self._bucket is None:
            return settled_folder(self.path / checkpoint).exists()
        return settled_place(self._bucket / checkpoint).has(CONFIG)

    def download(self) -> None:
        """Download `last/` and the files beside it from the bucket to the local folder, without events and `best/`.

        Several processes may call it; files that are here already are not downloaded again.

        Raises:
            UsageError, DownloadError: the bucket cannot be reached, or denies access.
            SpaceError: the disk is full.
        """
        if self._bucket is None:
            return
        make_folder(self.path.parent)
        with locked(self.path.with_name(f"{self.path.name}.lock")):
            found = self._bucket.facts()
            last = next((name for name in ("last", "last.old") if f"{name}/{CONFIG}" in found), "last")
            wanted = {name: list(fact) for name, fact in found.items() if name.split("/")[0] == last or "/" not in name}
            if self._downloaded() == wanted:
                return
            shutil.rmtree(self.path, ignore_errors=True)
            make_folder(self.path)
            for name in wanted:
                path = self.path / name.replace(f"{last}/", "last/")
                make_folder(path.parent)
                with space_checked(path):
                    self._bucket.fetch(name, path)
            write_json(self.path / _DOWNLOADED, wanted)

    def upload(self, name: str) -> None:
        """Upload a finished checkpoint folder or a file, if the run is in a bucket.

        Raises:
            UsageError, DownloadError: the bucket cannot be reached, or denies access; it keeps the earlier version.
        """
        if self._bucket is None:
            return
        if (self.path / name).is_dir():
            _replace(self._bucket / name, self.path / name)
        elif (self.path / name).exists():
            self._bucket.put(self.path / name, name)

    def upload_rest(self) -> None:
        """Upload all files except checkpoints, if the run is in a bucket: metrics, curves, events."""
        if self._bucket is None:
            return
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if path.is_file() and name != _DOWNLOADED and name.split("/")[0] not in ("last", "best"):
                self._bucket.put(path, name)

    def _downloaded(self) -> object:
        try:
            return json.loads((self.path / _DOWNLOADED).read_text("utf-8"))
        except (OSError, ValueError):
            return None


def _replace(place: Bucket, folder: Path) -> None:
    """Replace a checkpoint in a bucket by the one in a folder; the configuration is uploaded last."""
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: name == CONFIG)
    before, old = place.facts(), Bucket(f"{place}.old", place.cache)
    if CONFIG in before:
        for name in sorted(before, key=lambda name: name == CONFIG):
            place.copy(name, old)
        place.remove(CONFIG)
    for name in names:
        place.put(folder / name, name)
    for name in before.keys() - set(names):
        place.remove(name)
    if CONFIG in (left := old.facts()):
        for name in sorted(left, key=lambda name: name != CONFIG):
            old.remove(name)
