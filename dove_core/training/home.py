"""Where a run lies: in a folder of this machine, or in a bucket with a folder here that processes write into.

What is finished here goes to the bucket at once. A checkpoint there is replaced as a folder is: the one before is
copied beside it, under `.old`, before the first of its files changes, and the configuration, without which it is none,
goes first and comes last. So whenever a run is killed, the bucket holds a whole checkpoint.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dove_core.buckets import Bucket
from dove_core.cache import cache_folder
from dove_core.config import CacheConfig
from dove_core.encoding.checkpoint import settled_place
from dove_core.encoding.dove_text import CONFIG
from dove_core.files import make_folder, settled_folder, space_checked, write_json
from dove_core.places import Folder, Place

_RUNS, _CAME = "runs", "came.json"


class Home:
    """A run's place, `location`, and the folder that is written into, `path`: the same, unless it is in a bucket."""

    def __init__(self, location: Place, cache: CacheConfig) -> None:
        self.location, self.cache = location, cache
        self._bucket = location if isinstance(location, Bucket) else None
        if isinstance(location, Folder):
            self.path = location.path
        else:
            digest = hashlib.sha256(str(location).encode()).hexdigest()[:16]
            self.path = (cache_folder(cache) / _RUNS / f"{location.name}-{digest}").absolute()

    def at(self, name: str) -> str:
        """Return the path or address of something in the run, as others know it."""
        return str(self.location / name)

    def has(self, checkpoint: str) -> bool:
        """Tell whether there is a checkpoint of that name.

        Raises:
            UsageError: the bucket cannot be reached, or refuses.
        """
        if self._bucket is None:
            return settled_folder(self.path / checkpoint).exists()
        return settled_place(self._bucket / checkpoint).has(CONFIG)

    def bring(self) -> None:
        """Make the folder here what the bucket holds: `last/` and the files beside it, but no events nor best/.

        Several processes may call it; nothing that is here already comes again.

        Raises:
            UsageError, DownloadError: the bucket cannot be reached, or refuses.
            SpaceError: the disk is full.
        """
        if self._bucket is None:
            return
        make_folder(self.path.parent)
        with _alone(self.path.with_name(f"{self.path.name}.lock")):
            found = self._bucket.facts()
            last = next((name for name in ("last", "last.old") if f"{name}/{CONFIG}" in found), "last")
            wanted = {name: list(fact) for name, fact in found.items() if name.split("/")[0] == last or "/" not in name}
            if self._came() == wanted:
                return
            shutil.rmtree(self.path, ignore_errors=True)
            make_folder(self.path)
            for name in wanted:
                path = self.path / name.replace(f"{last}/", "last/")
                make_folder(path.parent)
                with space_checked(path):
                    self._bucket.fetch(name, path)
            write_json(self.path / _CAME, wanted)

    def send(self, name: str) -> None:
        """Bring a finished checkpoint's folder or a file to the bucket, if the run is in one.

        Raises:
            UsageError, DownloadError: the bucket cannot be reached, or refuses; what it held before is kept.
        """
        if self._bucket is None:
            return
        if (self.path / name).is_dir():
            _replace(self._bucket / name, self.path / name)
        elif (self.path / name).exists():
            self._bucket.put(self.path / name, name)

    def send_rest(self) -> None:
        """Bring what lies beside the checkpoints to the bucket: metrics, curves, events."""
        if self._bucket is None:
            return
        for path in sorted(self.path.rglob("*")):
            name = path.relative_to(self.path).as_posix()
            if path.is_file() and name != _CAME and name.split("/")[0] not in ("last", "best"):
                self._bucket.put(path, name)

    def _came(self) -> object:
        try:
            return json.loads((self.path / _CAME).read_text("utf-8"))
        except (OSError, ValueError):
            return None


def _replace(place: Bucket, folder: Path) -> None:
    """Put a checkpoint's files in the place of another's, the configuration last."""
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


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
