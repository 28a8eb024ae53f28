"""Places in an object store, or on another machine, that fsspec can reach: `s3://bucket/folder`, `gs://...`.

Whole objects are read through the cache; single images are read by range and leave no copy. Requests that fail in a
way that may pass are repeated after growing pauses.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

from dove_core.cache import Cache, Fact
from dove_core.config import CacheConfig
from dove_core.errors import DoveError, DownloadError, ReplacedError, UsageError
from dove_core.files import space_checked
from dove_core.places import LocalFiles, Place

T = TypeVar("T")
_CLIENTS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_MARKS = ("ETag", "etag", "generation", "mtime", "LastModified", "created")
_BLOCK = 16 * 2**20
"""Bytes of one request: what is lost when one fails."""

_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a failed request is repeated; the store's own client has tried several times by then."""

_HINT = "check the address, your permissions and your credentials (such as AWS_PROFILE, AWS_ENDPOINT_URL)"


class Bucket(Place):
    """A folder in an object store; `cache` says where copies are kept.

    Size and mark of an object are remembered from the first request: an object that changes later is an error.
    """

    def __init__(self, url: str, cache: CacheConfig = CacheConfig()) -> None:
        self.url, self.cache = url.rstrip("/"), cache
        self._facts: dict[str, Fact] = {}

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self.url}/{name}", self.cache)

    @property
    def absolute(self) -> Bucket:
        """The place itself: addresses are absolute."""
        return self

    @property
    def resolved(self) -> Bucket:
        """The place itself: there are no links in a bucket."""
        return self

    @property
    def fresh(self) -> Bucket:
        """The same address, without the sizes and marks of its objects."""
        return Bucket(self.url, self.cache)

    def remove_all(self) -> None:
        """Remove all objects below the address."""
        for name in self.facts():
            self.remove(name)

    def exists(self) -> bool:
        """Return whether there is any object below the address."""
        return bool(self.facts())

    def local_files_matching(self, wanted: Callable[[str], bool]) -> LocalFiles:
        """Return the objects whose names fit as files of the cache."""
        return self.local_files([name for name in self._facts or self.facts() if wanted(name)])

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """Give a temporary folder, and upload what is in it."""
        with tempfile.TemporaryDirectory(prefix="dove-") as name:
            folder = Path(name)
            yield folder
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                self.put(path, path.relative_to(folder).as_posix())

    def sweep(self) -> None:
        """Do nothing: an interrupted upload never appears."""

    def make(self) -> None:
        """Check that the bucket exists; it needs no folders.

        Raises:
            UsageError: it cannot be reached, or does not exist.
        """
        with self._errors_translated("reached"):
            bucket = self._fs._strip_protocol(self.url).split("/", 1)[0]
            if not self._fs.exists(bucket):
                raise FileNotFoundError(f"there is no bucket {bucket}")

    def sizes(self) -> dict[str, int]:
        """Return name and length in bytes of every object right below the address."""
        return {name: size for name, kind, size in self._listed() if kind == "file"}

    def folders(self) -> list[str]:
        """Return the names right below the address that other names begin with, sorted."""
        return [name for name, kind, _ in self._listed() if kind == "directory"]

    def facts(self) -> dict[str, Fact]:
        """Request size and mark of every object below the address; return them by the name from there on."""
        with self._errors_translated("listed"):
            root = str(self._fs._strip_protocol(self.url)) + "/"
            found = self._retried("", lambda: self._fs.find(self.url, detail=True))
        below = {path.removeprefix(root): facts for path, facts in found.items() if path.startswith(root)}
        self._facts = {name: fact_of(facts) for name, facts in sorted(below.items()) if not name.endswith("/")}
        return self._facts

    def has(self, name: str) -> bool:
        """Return whether there is an object of that name."""
        return name in self._facts or name in self.facts()

    def open(self, name: str) -> BinaryIO:
        """Read an object into memory and open it."""
        with self._errors_translated("read"):
            data: bytes = self._retried(name, lambda: self._fs.cat_file(self.where(name)))
        return io.BytesIO(data)

    def seekable(self, name: str) -> Any:
        """Open an object to read little of it: each read is a request."""
        with self._errors_translated("read"):
            return self._retried(name, lambda: self._fs.open(self.where(name), "rb", cache_type="none"))

    def local_files(self, names: Sequence[str]) -> LocalFiles:
        """Return some objects as files of the cache."""
        if not self._facts.keys() >= set(names):
            self.facts()
        if missing := [name for name in names if name not in self._facts]:
            raise FileNotFoundError(f"{self.where(missing[0])} does not exist")
        return Cache(self.cache).hold(self.url, {name: self._facts[name] for name in names}, self.fetch)

    def range(self, name: str, start: int, length: int) -> bytes:
        """Return bytes of an object; fewer, where it ends."""

        def read() -> bytes:
            data: bytes = self._fs.cat_file(self.where(name), start=start, end=start + length)
            return data

        return self._retried(name, read)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Give a temporary file of this machine, then upload it."""
        with space_checked(Path(tempfile.gettempdir())), tempfile.NamedTemporaryFile("wb", prefix="dove-") as stream:
            yield stream.file
            stream.flush()
            self.put(Path(stream.name), name)

    def put(self, path: Path, name: str) -> None:
        """Upload a file of this machine.

        Raises:
            UsageError: the bucket refuses it, or does not exist.
            DownloadError: the retries are exhausted.
        """
        with self._errors_translated("written"):
            self._retried(name, lambda: self._fs.put_file(str(path), self.where(name)))

    def copy(self, name: str, target: Bucket) -> None:
        """Copy an object within the store, to another place under the same name.

        Raises:
            UsageError: the bucket refuses it.
            DownloadError: the retries are exhausted.
        """
        with self._errors_translated("written"):
            self._retried(name, lambda: self._fs.cp_file(self.where(name), target.where(name)))

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with self._errors_translated("removed"), suppress(FileNotFoundError):
            self._retried(name, lambda: self._fs.rm_file(self.where(name)))

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Give a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="dove-") as folder:
            yield Path(folder)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def parent(self) -> Bucket:
        """The place that contains this one; the bucket itself has no parent."""
        above = self.url.rsplit("/", 1)[0]
        return self if above.endswith(":/") else Bucket(above, self.cache)

    @property
    def _fs(self) -> Any:
        return file_system(self.url)  # fsspec keeps it, for this process

    def fetch(self, name: str, path: Path) -> None:
        """Write an object's bytes to a path, and check it against what `facts` returned.

        Raises:
            FileNotFoundError: it does not exist any more.
            DownloadError: it cannot be read.
            ReplacedError: it has changed.
        """
        size = self._facts[name].size
        with path.open("wb") as stream:
            for start in range(0, size, _BLOCK):
                length = min(_BLOCK, size - start)
                block = self.range(name, start, length)
                if len(block) != length:
                    raise self._changed(name)
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
        if self._retried(name, lambda: fact_of(self._fs.info(self.where(name)))) != self._facts[name]:
            raise self._changed(name)

    def _changed(self, name: str) -> ReplacedError:
        hint = "it was replaced meanwhile: run the same command again when the upload has finished"
        return ReplacedError(f"{self.where(name)} has changed since the first request for it", hint=hint)

    def _listed(self) -> list[tuple[str, str, int]]:
        with self._errors_translated("listed"):
            try:
                found = self._retried("", lambda: self._fs.ls(self.url, detail=True))
            except FileNotFoundError:
                return []
            entries = ((entry["name"].rstrip("/").rsplit("/", 1)[-1], entry["type"], entry["size"]) for entry in found)
            return sorted(entry for entry in entries if entry[0])

    def _retried(self, name: str, request: Callable[[], T]) -> T:
        """Make a request for an object, or for the whole address; repeat it while a failure may pass.

        Raises:
            FileNotFoundError: there is no such object.
            UsageError: access is refused.
            DownloadError: the retries are exhausted.
        """
        where = self.where(name) if name else self.url
        for pause in (*_PAUSES, None):
            try:
                return request()
            except (DoveError, FileNotFoundError):
                raise
            except Exception as error:  # each store's client has exceptions of its own
                if isinstance(error, PermissionError) or "redential" in type(error).__name__:
                    raise UsageError(f"access to {where} is refused: {error}", hint=_HINT) from error
                if pause is None:
                    message = f"{where} cannot be reached: {error or type(error).__name__}"
                    hint = "check the network, and run the same command again: finished files are kept"
                    raise DownloadError(message, hint=hint) from error
                time.sleep(pause)
        raise AssertionError

    @contextmanager
    def _errors_translated(self, what: str) -> Iterator[None]:
        """Turn an error of a store's client into one that names the address."""
        try:
            yield
        except DoveError:
            raise
        except Exception as error:  # each store's client has exceptions of its own
            if isinstance(error, FileNotFoundError) and what == "read":
                raise
            message = f"{self.url} cannot be {what}: {error or type(error).__name__}"
            raise UsageError(message, hint=_HINT) from error


def fact_of(facts: dict[str, Any]) -> Fact:
    """Return size and mark out of what a file system says of an object."""
    return Fact(int(facts["size"]), next((str(facts[name]) for name in _MARKS if facts.get(name) is not None), ""))


def file_system(url: str) -> Any:
    """Return fsspec's file system for an address.

    Raises:
        UsageError: the protocol is unknown, or its package is not installed.
    """
    import fsspec  # noqa: PLC0415  # needed only where an address is not a path

    kind = url.split("://", 1)[0]
    if kind == "memory":
        raise UsageError(
            f"{url} would be lost when this process ends", hint="use an address such as s3://bucket/folder"
        )
    try:
        return fsspec.filesystem(kind, use_listings_cache=False)
    except ImportError as error:
        client = _CLIENTS.get(kind)
        hint = f"pip install {client}" if client else str(error)
        raise UsageError(f"{url} needs a package that is not installed", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{url} has an unknown protocol", hint="use an address such as s3://bucket/folder") from error
