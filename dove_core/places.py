"""Places of finished files: folders on this machine, and buckets at addresses such as `s3://bucket/folder`.

In both, a file is complete or absent: a folder gets it by a rename, a bucket when the upload ends. `addresses.py` turns
a path or an address into a place. Inside the library, all functions take places.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from dove_core.config import CacheConfig
from dove_core.files import atomic_file, is_left_over, make_folder, space_checked
from dove_core.names import real_name


class LocalFiles:
    """Files of a place in a folder of this machine; they stay there until this object is closed.

    `lock` is the descriptor of an open lock file that keeps cached copies from being removed; None if none is needed.
    """

    def __init__(self, folder: Path, lock: int | None = None) -> None:
        self.folder, self._lock = folder, lock

    def __enter__(self) -> LocalFiles:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        """Release the lock."""
        self.close()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Place(ABC):
    """A folder or bucket whose files are read and written by name."""

    url: str
    """The path or address as given."""

    cache = CacheConfig()
    """Settings of the cache for copies of remote files."""

    is_remote = True
    """Whether its files are on another machine and must be downloaded."""

    @property
    @abstractmethod
    def absolute(self) -> Place:
        """The same place with an absolute path or address."""

    @property
    @abstractmethod
    def resolved(self) -> Place:
        """The same place with symbolic links resolved."""

    @property
    @abstractmethod
    def fresh(self) -> Place:
        """The same place, without what is remembered of its files."""

    @abstractmethod
    def remove_all(self) -> None:
        """Remove the folder or all objects below this address, if there are any."""

    @abstractmethod
    def exists(self) -> bool:
        """Tell whether the folder exists, or any object in the bucket below this address."""

    @abstractmethod
    def local_files_matching(self, wanted: Callable[[str], bool]) -> LocalFiles:
        """Return the files below this place whose names are `wanted`, as `local_files` does; there may be none."""

    @abstractmethod
    def filling(self) -> AbstractContextManager[Path]:
        """Return a context with a folder of this machine; at the end, files written there are in the place."""

    @abstractmethod
    def __truediv__(self, name: str) -> Place:
        """Return the place `name` below this one."""

    @abstractmethod
    def make(self) -> None:
        """Create the folder; check that the bucket exists."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file directly in this place, by name; empty if it does not exist."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove temporary files of killed processes."""

    @abstractmethod
    def folders(self) -> list[str]:
        """Return the sorted names of the folders directly in this place."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: there is no such file.
        """

    @abstractmethod
    def writing(self, name: str) -> Any:
        """Return a context with a stream; the complete file appears when the context ends without an error."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the address."""

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with self.open(name) as stream:
            return stream.read()

    def where(self, name: str) -> str:
        """Return a file's path or address as text."""
        return str(self / name)

    @abstractmethod
    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """Return a context with a folder of this machine for work in progress.

        For a folder it is the subfolder `name`, which stays; for a bucket it is a temporary folder.
        """

    def __str__(self) -> str:
        return self.url

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    @abstractmethod
    def parent(self) -> Place:
        """The place that contains this one."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Tell whether a file exists; its name may be a relative path."""

    @abstractmethod
    def local_files(self, names: Sequence[str]) -> LocalFiles:
        """Return files below one folder of this machine; remote files are downloaded to the cache.

        Raises:
            FileNotFoundError: one of them does not exist.
        """

    @abstractmethod
    def range(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`; fewer at its end.

        Raises:
            OSError: the file does not exist or cannot be read.
        """

    @abstractmethod
    def seekable(self, name: str) -> Any:
        """Open a file to read small pieces in any order.

        Raises:
            FileNotFoundError: there is no such file.
        """

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        """Give the path of a file on this machine; a remote file is downloaded to the cache.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with self.local_files([name]) as copies:
            yield copies.folder / name


class Folder(Place):
    """A folder of this machine."""

    is_remote = False

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, str(path)

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.path / name)

    @property
    def absolute(self) -> Folder:
        """The folder with its absolute path; symbolic links are not resolved."""
        return Folder(self.path.absolute())

    @property
    def resolved(self) -> Folder:
        """The folder with symbolic links resolved."""
        return Folder(self.path.resolve())

    @property
    def fresh(self) -> Folder:
        """The folder itself: nothing is remembered of it."""
        return self

    def remove_all(self) -> None:
        """Remove the folder with all that is in it, if it exists."""
        with space_checked(self.path), suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def exists(self) -> bool:
        """Tell whether the folder exists."""
        return self.path.is_dir()

    def local_files_matching(self, wanted: Callable[[str], bool]) -> LocalFiles:
        """Return the folder itself; nothing is copied."""
        return LocalFiles(self.path)

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """Give the folder itself."""
        self.make()
        yield self.path

    def sweep(self) -> None:
        """Remove temporary files of killed processes."""
        for path in self.path.glob(".*.tmp"):
            if is_left_over(path):
                path.unlink(missing_ok=True)

    def make(self) -> None:
        """Create the folder and its parents.

        Raises:
            SpaceError: the disk is full.
            UsageError: the folder cannot be created.
        """
        make_folder(self.path)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file directly in it, by name."""
        with space_checked(self.path):
            files = (entry for entry in os.scandir(self.path) if entry.is_file()) if self.path.is_dir() else ()
            return {entry.name: entry.stat().st_size for entry in sorted(files, key=lambda entry: entry.name)}

    def folders(self) -> list[str]:
        """Return the sorted names of the folders directly in it."""
        return sorted(path.name for path in self.path.iterdir() if path.is_dir()) if self.path.is_dir() else []

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return (self.path / real_name(name)).open("rb")

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Write to a temporary file in the same folder, then fsync and rename it."""
        with atomic_file(self.path / name) as stream:
            yield stream

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Give the subfolder of that name; it may not exist."""
        yield self.path / name

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def parent(self) -> Folder:
        """The parent folder."""
        return Folder(self.path.parent)

    def has(self, name: str) -> bool:
        """Tell whether a file exists."""
        return (self.path / name).exists()

    def local_files(self, names: Sequence[str]) -> LocalFiles:
        """Return the folder itself; nothing is copied."""
        return LocalFiles(self.path)

    def range(self, name: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start`; fewer at its end."""
        with (self.path / real_name(name)).open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    def seekable(self, name: str) -> BinaryIO:
        """Open a file."""
        return self.open(name)
