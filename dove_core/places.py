"""Where finished files lie: in a folder of this machine, or in a bucket behind an address such as `s3://bucket/folder`.

In both a file is whole or absent. A folder gets it by a rename; a bucket shows an object when its upload has ended.
`addresses.py` turns a path or an address into a place; everything behind the library's public functions has places.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dove_core.config import CacheConfig
from dove_core.files import atomic_file, is_left_over, make_folder, space_checked


class Copies:
    """Files of a place that lie in a folder of this machine, and stay there for as long as this object is not closed.

    `lock` is the descriptor of an open lock file, if only a lock keeps them.
    """

    def __init__(self, folder: Path, lock: int | None = None) -> None:
        self.folder, self._lock = folder, lock

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        """Let go of them."""
        self.close()

    def close(self) -> None:
        """Let go of them."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Place(ABC):
    """A folder that files are written into and read from by their names."""

    url: str
    """The path or address, as it was given."""

    cache = CacheConfig()
    """Where copies of what is not on this machine are kept."""

    is_remote = True
    """Whether its files have to come here to be read."""

    @property
    @abstractmethod
    def absolute(self) -> Place:
        """The same place, under a path or address that is valid in any working folder."""

    @property
    @abstractmethod
    def resolved(self) -> Place:
        """The same place, with links followed."""

    @abstractmethod
    def exists(self) -> bool:
        """Tell whether there is a folder, or any object, at this place."""

    @abstractmethod
    def hold_matching(self, wanted: Callable[[str], bool]) -> Copies:
        """Return the files below this place whose names fit, as `hold` does; none is not an error."""

    @abstractmethod
    def filling(self) -> AbstractContextManager[Path]:
        """Return a context that gives a folder of this machine; files written into it are in the place at its end."""

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

    def where(self, name: str) -> str:
        """Return a file's path or address as text."""
        return str(self / name)

    @abstractmethod
    def scratch(self, name: str) -> AbstractContextManager[Path]:
        """Return a context that gives a folder of this machine for work in progress.

        Beside other files of this machine it is the folder `name` among them, and stays; for a bucket it is temporary.
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
        """The place that this one lies in."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name, which may have folders in it."""

    @abstractmethod
    def hold(self, names: Sequence[str]) -> Copies:
        """Return some files as files of this machine, below one folder, under their names.

        Raises:
            FileNotFoundError: one of them is not there.
        """

    @abstractmethod
    def range(self, name: str, start: int, length: int) -> bytes:
        """Return bytes of a file; fewer, where it ends.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """

    @abstractmethod
    def seekable(self, name: str) -> Any:
        """Open a file of which little is to be read, in any order.

        Raises:
            FileNotFoundError: there is none of that name.
        """

    @contextmanager
    def here(self, name: str) -> Iterator[Path]:
        """Give the path of a file on this machine: its own, or that of a copy.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        with self.hold([name]) as copies:
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
        """The folder under its absolute path; links stay."""
        return Folder(self.path.absolute())

    @property
    def resolved(self) -> Folder:
        """The folder that a link leads to."""
        return Folder(self.path.resolve())

    def exists(self) -> bool:
        """Tell whether it is a folder."""
        return self.path.is_dir()

    def hold_matching(self, wanted: Callable[[str], bool]) -> Copies:
        """Return the files where they are."""
        return Copies(self.path)

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """Give the folder itself."""
        self.make()
        yield self.path

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

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Give the folder of that name, which need not exist."""
        yield self.path / name

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def parent(self) -> Folder:
        """The folder that this one lies in."""
        return Folder(self.path.parent)

    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name."""
        return (self.path / name).exists()

    def hold(self, names: Sequence[str]) -> Copies:
        """Return the files where they are."""
        return Copies(self.path)

    def range(self, name: str, start: int, length: int) -> bytes:
        """Return bytes of a file; fewer, where it ends."""
        with (self.path / name).open("rb") as stream:
            stream.seek(start)
            return stream.read(length)

    def seekable(self, name: str) -> BinaryIO:
        """Open a file."""
        return self.open(name)
