"""The reader of images that a plan finds in rows of Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dove_core.data.parquet_images import RowReader
from dove_core.data.sharding.member_reader import LostSourceError, NoImageError
from dove_core.errors import DataError, reason_of


@dataclass(frozen=True, slots=True)
class RowLocation:
    """Where an image is: in the Parquet file number `place`, in row `row`."""

    place: int
    row: int


class RowImages:
    """Reads images of Parquet files, one file at a time; best in the order of files and rows."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._versions: dict[int, tuple[int, int]] = {}
        self._opened: tuple[int, RowReader] | None = None

    def __del__(self) -> None:
        """Close the file."""
        self._close()

    def expect(self, locations: Sequence[RowLocation]) -> None:
        """Do nothing: a row group is read in one sweep."""

    def read(self, where: RowLocation, limit: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            NoImageError: they are null.
            DataError: the row group is damaged, or the image has more than `limit` bytes.
            LostSourceError: the file cannot be read.
        """
        path = self._places[where.place]
        try:
            data = self._reader(where.place).image(where.row)
        except OSError as error:
            raise LostSourceError(f"{path} cannot be read: {reason_of(error)}") from error
        name = f"row {where.row} of {path.name}"
        if not data:
            raise NoImageError(f"{name} has no image")
        if len(data) > limit:
            raise DataError(f"{name} has {len(data)} bytes, more than {limit}")
        return data

    def check_unchanged(self) -> None:
        """Check that no file was written to since it was opened.

        Raises:
            LostSourceError: a file was written to.
        """
        for place, version in self._versions.items():
            if self._version(place) != version:
                raise LostSourceError(f"{self._places[place]} was changed while it was read")

    def _reader(self, place: int) -> RowReader:
        if self._opened is None or self._opened[0] != place:
            self._close()
            self._versions.setdefault(place, self._version(place))
            try:
                self._opened = place, RowReader(self._places[place], self._places[place].name)
            except DataError as error:
                raise LostSourceError(error.message) from error
        return self._opened[1]

    def _close(self) -> None:
        if opened := self.__dict__.get("_opened"):
            opened[1].close()
            self._opened = None

    def _version(self, place: int) -> tuple[int, int]:
        facts = self._places[place].stat()
        return facts.st_size, facts.st_mtime_ns
