"""Where finished files go: a folder of this machine, or a bucket behind an address such as `s3://bucket/folder`.

In both a file is whole or absent. A folder gets it by a rename; a bucket shows an object when its upload has ended.
"""

from __future__ import annotations

import io
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from dove_core.errors import UsageError
from dove_core.files import atomic_file, is_left_over, make_folder, space_checked

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class Place(ABC):
    """A folder that files are written into and read from by their names."""

    url: str

    @abstractmethod
    def __truediv__(self, name: str) -> Place:
        """Return the place of that name in this one."""

    @abstractmethod
    def make(self) -> None:
        """Make the place, if such places have to be made."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return name and length in bytes of every file right in it; none if it does not exist."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what killed processes have half written."""

    @abstractmethod
    def folders(self) -> list[str]:
        """Return the names of the folders right in it, sorted."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: there is none of that name.
        """

    @abstractmethod
    def writing(self, name: str) -> Any:
        """Return a context that gives a stream; the file appears, whole, when the context ends without an error."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the address."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        with self.open(name) as stream:
            return stream.read()

    @abstractmethod
    def at(self, name: str) -> Path | str:
        """Return a file's path, or its address in a store."""

    def where(self, name: str) -> str:
        """Return a file's path or address as text."""
        return str(self.at(name))


class Folder(Place):
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, str(path)

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.path / name)

    def sweep(self) -> None:
        """Remove what killed processes have half written."""
        for path in self.path.glob(".*.tmp"):
            if is_left_over(path):
                path.unlink(missing_ok=True)

    def make(self) -> None:
        """Make the folder and those above it.

        Raises:
            SpaceError: the disk is full.
            UsageError: the folder cannot be made.
        """
        make_folder(self.path)

    def sizes(self) -> dict[str, int]:
        """Return name and length in bytes of every file right in it."""
        with space_checked(self.path):
            files = (entry for entry in os.scandir(self.path) if entry.is_file()) if self.path.is_dir() else ()
            return {entry.name: entry.stat().st_size for entry in sorted(files, key=lambda entry: entry.name)}

    def folders(self) -> list[str]:
        """Return the names of the folders right in it, sorted."""
        return sorted(path.name for path in self.path.iterdir() if path.is_dir()) if self.path.is_dir() else []

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return (self.path / name).open("rb")

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Give a stream beside the file, then fsync and rename."""
        with atomic_file(self.path / name) as stream:
            yield stream

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def at(self, name: str) -> Path:
        """Return a file's path."""
        return self.path / name

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name


class Bucket(Place):
    """A folder in an object store, or on another machine, that fsspec can reach."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._system: Any = None

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self.url}/{name}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave connections behind when travelling to another process."""
        return {"url": self.url, "_system": None}

    def sweep(self) -> None:
        """Do nothing: an upload that broke off never appears."""

    def make(self) -> None:
        """Look for the bucket itself; folders are not made in one.

        Raises:
            UsageError: it cannot be reached, or there is none of that name.
        """
        with self._told("reached"):
            bucket = self._fs._strip_protocol(self.url).split("/", 1)[0]
            if not self._fs.exists(bucket):
                raise FileNotFoundError(f"there is no bucket {bucket}")

    def sizes(self) -> dict[str, int]:
        """Return name and length in bytes of every object right below the address."""
        return {name: size for name, kind, size in self._listed() if kind == "file"}

    def folders(self) -> list[str]:
        """Return the names right below the address that other names begin with, sorted."""
        return [name for name, kind, _ in self._listed() if kind == "directory"]

    def open(self, name: str) -> BinaryIO:
        """Bring an object here and open it."""
        with self._told("read"):
            data: bytes = self._fs.cat_file(self.where(name))
        return io.BytesIO(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Give a temporary file of this machine, then upload it."""
        file, path = tempfile.mkstemp(prefix="dove-")
        try:
            with _temporary(file) as stream:
                yield stream
            with self._told("written"):
                self._fs.put_file(path, self.where(name))
        finally:
            with suppress(OSError):
                Path(path).unlink()

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with self._told("removed"), suppress(FileNotFoundError):
            self._fs.rm_file(self.where(name))

    def at(self, name: str) -> str:
        """Return an object's address."""
        return f"{self.url}/{name}"

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def _fs(self) -> Any:
        if self._system is None:
            self._system = file_system(self.url)
        return self._system

    def _listed(self) -> list[tuple[str, str, int]]:
        with self._told("listed"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self.url, detail=True)
            except FileNotFoundError:
                return []
            entries = ((entry["name"].rstrip("/").rsplit("/", 1)[-1], entry["type"], entry["size"]) for entry in found)
            return sorted(entry for entry in entries if entry[0])

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn whatever a store's client raises into an error that names the address."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:  # each store's client has exceptions of its own
            if isinstance(error, FileNotFoundError) and what == "read":
                raise
            hint = "check the address, your rights and your credentials (AWS_PROFILE, AWS_ENDPOINT_URL and the like)"
            message = f"{self.url} cannot be {what}: {error or type(error).__name__}"
            raise UsageError(message, hint=hint) from error


@contextmanager
def _temporary(file: int) -> Iterator[BinaryIO]:
    """Give a stream on an open temporary file.

    Raises:
        SpaceError: the disk is full.
    """
    with space_checked(Path(tempfile.gettempdir())), os.fdopen(file, "wb") as stream:
        yield stream


def place_of(address: Path | str) -> Place:
    """Return the place behind a path, a `file://` address, or the address of a store such as `s3://bucket/folder`.

    Raises:
        UsageError: a `file://` address names another machine.
    """
    if isinstance(address, Path) or "://" not in address:
        return Folder(Path(address))
    kind, _, rest = address.partition("://")
    if kind.lower() != "file":
        return Bucket(f"{kind.lower()}://{rest}")
    if not rest.startswith("/"):
        raise UsageError(f"{address} is not the address of a folder here", hint="file:///folder has three slashes")
    return Folder(Path(rest))


def file_system(url: str) -> Any:
    """Return fsspec's file system for an address.

    Raises:
        UsageError: nobody knows such addresses, or what speaks to them is not installed.
    """
    import fsspec  # noqa: PLC0415  # only where an address is not a path

    kind = url.split("://", 1)[0]
    if kind == "memory":
        raise UsageError(f"{url} would be lost when this process ends", hint="for example s3://bucket/folder")
    try:
        return fsspec.filesystem(kind)
    except ImportError as error:
        extra = _EXTRAS.get(kind)
        hint = f"pip install 'dove[{extra}]'" if extra else str(error)
        raise UsageError(f"{url} needs a package that is not installed", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{url} is no address that is known here", hint="for example s3://bucket/folder") from error
