"""Images and metadata in zips and folders, found by the paths in a caption table.

Nothing is ever unpacked: members are looked up in an index and read into memory, so a hostile name leads nowhere. The
index is columns, not objects: SkyScript has ten million members.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.data.sharding.member_reader import open_zip, stem_of
from dove_core.data.sharding.name_lookup import NameLookup, normalised
from dove_core.data.zips import directory_digest, read_directory
from dove_core.errors import DataError
from dove_core.names import shown_name

META_ENDINGS = (".pickle", ".pkl")
_PACKED = (".zip", ".rar", ".7z", ".tar", ".tar.gz", ".tgz", ".gz", ".bz2", ".xz", ".zst")

JUNK = re.compile(r"(?:^|/)(?:\.|__MACOSX/)")
"""Files that macOS adds, such as `__MACOSX/._x.jpg` and `.DS_Store`, and all other hidden files."""

_ENCODINGS = ("gb18030", "shift_jis", "cp949", "big5", "cp1252", "cp1251", "cp1250", "cp850", "cp866")
_META_NAME = re.compile(r"meta\d*")
_NUMBERS = ("header", "length", "packed", "size", "crc", "method")


@dataclass(frozen=True)
class FoundFiles:
    """The files that fit some rows: `entry[i]` counts in the index; -1 where `problems[i]` says why there is none.

    `loose` has the rows whose file has another ending or other capital letters.
    """

    entry: np.ndarray
    problems: dict[int, str]
    loose: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


class Archives:
    """An index of the files with certain endings in several zips and folders.

    A path fits a file if the folders and name of one are the last ones of the other: `airport_1.jpg` finds
    `RSICD_images/airport_1.jpg`, and `images2/x.jpg` finds `images2/images2/x.jpg`. The file in the fewest folders is
    taken.
    """

    def __init__(self, places: Sequence[Path], endings: tuple[str, ...]) -> None:
        """Index the zips and folders in `places`.

        Raises:
            DataError: a zip cannot be read.
        """
        self.stems = [stem_of(place) for place in places]
        self._wanted = re.compile("(?i)(?:" + "|".join(map(re.escape, endings)) + ")$")
        unpacked = _unpacked(places)
        names, columns = [], []
        for number, place in enumerate(places):
            found = self._of_folder(place, unpacked) if place.is_dir() else self._of_zip(place)
            names.append(found[0])
            columns.append({"place": np.full(len(found[0]), number, np.int16), **found[1]})
        self._names = pa.chunked_array(names, type=pa.large_string())
        joined = {name: [column[name] for column in columns] for name in ("place", *_NUMBERS)}
        self._columns = {name: np.concatenate(pieces) if pieces else np.zeros(0) for name, pieces in joined.items()}
        self._exact = NameLookup(self._names, self._full_names)
        pa.default_memory_pool().release_unused()

    def __len__(self) -> int:
        """Count the files."""
        return len(self._names)

    def example(self) -> str:
        """Return the name of one file, or "" if there is none."""
        return next(iter(self._full_names(np.arange(len(self))[:1])), "")

    def name_of(self, entry: int) -> str:
        """Return the name of a file."""
        return self._full_names(np.array([entry]))[0]

    def names(self) -> list[str]:
        """Return the names of all files; each starts with the stem of its zip or the name of its folder."""
        return self._full_names(np.arange(len(self)))

    def locate(self, paths: Any, *, loosely: bool = False) -> FoundFiles:
        """Find the files for `paths`, an Arrow array of strings from a caption table.

        With `loosely`, a path that no file fits may differ from it in the ending of images and in capital letters.
        """
        entry, problems = self._exact.find(paths)
        left = np.flatnonzero(entry < 0)
        if not loosely or not len(left):
            return FoundFiles(entry, problems)
        found, reasons = self._loose.find(paths.take(pa.array(left)))
        entry[left] = found
        for row, other in zip(left.tolist(), found.tolist(), strict=True):
            if other >= 0:
                del problems[row]
        several = {int(left[row]): why for row, why in reasons.items() if " files fit " in why}
        problems |= several
        for row in left[found < 0].tolist():
            if (other := self._in_other_encodings(paths[row].as_py())) >= 0:
                entry[row] = other
                del problems[row]
        return FoundFiles(entry, problems, left[entry[left] >= 0])

    def _in_other_encodings(self, path: str) -> int:
        """Return the file whose name is `path` in the encoding of an old system; -1 if there is none.

        Zips do not say the encoding of such names, and `read_directory` takes them as code page 437.
        """
        if path.isascii():
            return -1
        aliases = []
        for encoding in _ENCODINGS:
            with suppress(UnicodeError):
                raw = path.encode(encoding)
                aliases += [raw.decode("cp437"), shown_name(os.fsdecode(raw))]
        found, _ = self._exact.find(pa.array(aliases, pa.large_string()))
        return int(max(found, default=-1))

    @cached_property
    def _loose(self) -> NameLookup:
        return NameLookup(self._names, self._full_names, loose=True)

    def columns(self, entries: np.ndarray, prefix: str) -> dict[str, Any]:
        """Return where some files lie, as columns of a plan; -1 gives nulls."""
        absent = entries < 0
        safe = np.where(absent, 0, entries)
        if not len(self):
            return {f"{prefix}{name}": pa.nulls(len(entries)) for name in ("place", "name", *_NUMBERS)}
        names = pc.if_else(pa.array(absent), None, self._names.take(pa.array(safe)).combine_chunks())
        numbers = {name: pa.array(self._columns[name][safe], mask=absent) for name in ("place", *_NUMBERS)}
        return {f"{prefix}name": names, **{prefix + name: column for name, column in numbers.items()}}

    def _full_names(self, entries: np.ndarray) -> list[str]:
        """Return the names of some files, each below the stem of its zip or the name of its folder."""
        names = self._names.take(pa.array(entries)).to_pylist()
        places = self._columns["place"][entries].tolist()
        return [f"{self.stems[place]}/{name}" for place, name in zip(places, names, strict=True)]

    def _of_zip(self, path: Path) -> tuple[Any, dict[str, np.ndarray]]:
        with open_zip(path) as (read, size):
            directory = read_directory(read, size, str(path))
        names = normalised(directory.names)
        keep = np.flatnonzero(self._are_wanted(names).to_numpy(zero_copy_only=False))
        length = directory.end - directory.header
        columns = {"length": length, **{name: getattr(directory, name) for name in _NUMBERS if name != "length"}}
        return names.take(pa.array(keep)), {name: column[keep] for name, column in columns.items()}

    def _of_folder(self, root: Path, unpacked: set[Path]) -> tuple[Any, dict[str, np.ndarray]]:
        files = [(inside, size) for inside, size, _ in files_below(root, unpacked)]
        names = normalised(pa.array([inside for inside, _ in files], pa.large_string()))
        keep = np.flatnonzero(self._are_wanted(names).to_numpy(zero_copy_only=False))
        columns = {name: np.full(len(keep), -1, np.int64) for name in ("header", "length")}
        sizes = np.array([size for _, size in files], np.int64)[keep]
        columns |= {"packed": sizes, "size": sizes, "crc": np.zeros(len(keep), np.uint32)}
        return names.take(pa.array(keep)), {**columns, "method": np.zeros(len(keep), np.uint16)}

    def _are_wanted(self, names: Any) -> Any:
        is_junk = pc.match_substring_regex(names, JUNK.pattern)
        return pc.and_not(pc.match_substring_regex(names, self._wanted.pattern), is_junk)


def identity_of(places: Sequence[Path], endings: tuple[str, ...]) -> list[tuple[str, int, str]]:
    """Return name, size and digest of each place, which differ between versions of it; no index is needed.

    Raises:
        DataError: a zip cannot be read.
    """
    unpacked = _unpacked(places)
    found = []
    for place in places:
        if place.is_dir():
            files = [file for file in files_below(place, unpacked) if file[0].lower().endswith(endings)]
            # A folder has no directory to hash: the times of change stand for the contents.
            digest = hashlib.sha256(repr(files).encode("utf-8", "replace")).hexdigest()
            found.append((stem_of(place), sum(size for _, size, _ in files), digest))
        else:
            with open_zip(place) as (read, size):
                found.append((place.name, size, directory_digest(read, size, str(place))))
    return found


def image_places(place: Path) -> list[Path]:
    """Return the places of images: one zip, or the zips of a folder and the folder itself.

    Raises:
        DataError: `place` does not exist.
    """
    hint = "give the zip or the folder that holds the images"
    try:
        place.stat()
    except FileNotFoundError:
        raise DataError(f"{place} does not exist", hint=hint) from None
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror}", hint=hint) from error
    return [*_zips(place, is_meta=False), place] if place.is_dir() else [place]


def meta_places(place: Path) -> list[Path]:
    """Return the places of metadata in a folder, such as `meta2.zip` or `meta2/`."""
    if not place.is_dir():
        return []
    zips = _zips(place, is_meta=True)
    zipped = {path.stem for path in zips}
    folders = [p for p in sorted(place.iterdir()) if p.is_dir() and _META_NAME.fullmatch(p.name)]
    return zips + [folder for folder in folders if folder.name not in zipped]


def index_images(places: Sequence[Path]) -> Archives:
    """Index the images in some places.

    Raises:
        DataError: a zip cannot be read, or there is no image at all.
    """
    images = Archives(places, IMAGE_ENDINGS)
    if not len(images):
        place = places[-1]
        names = sorted(entry.name for entry in place.iterdir()) if place.is_dir() else _names_in(place)
        packed = next((name for name in names if name.lower().endswith(_PACKED)), "")
        hint = "expected zips, or files ending in " + " ".join(sorted(IMAGE_ENDINGS))
        if packed:
            hint = f"unpack {packed}, and give the folder with its images"
        raise DataError(f"{place} holds no images: {', '.join(names[:8]) or 'it is empty'}", hint=hint)
    return images


def _names_in(path: Path) -> list[str]:
    with open_zip(path) as (read, size):
        names: list[str] = read_directory(read, size, str(path)).names.to_pylist()
    return names


def _zips(folder: Path, *, is_meta: bool) -> list[Path]:
    zips = sorted(
        p for p in folder.iterdir() if p.suffix.lower() == ".zip" and p.is_file() and not p.name.startswith(".")
    )
    return [path for path in zips if bool(_META_NAME.fullmatch(path.stem)) == is_meta]


def files_below(root: Path, skipped: Collection[Path] = ()) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of every file below `root`, but not of those in the folders `skipped`.

    Links are followed, and each folder is entered once.

    Raises:
        DataError: a folder cannot be read.
    """
    folders, entered = [(root, "")], set[tuple[int, int]]()
    try:
        while folders:
            folder, inside = folders.pop()
            facts = folder.stat()
            if (facts.st_dev, facts.st_ino) in entered:
                continue
            entered.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            for entry in entries:
                with suppress(FileNotFoundError):  # a link to a file that is not there
                    facts = entry.stat()
                    if stat.S_ISREG(facts.st_mode):
                        yield shown_name(inside + entry.name), facts.st_size, facts.st_mtime_ns
            below = [(folder / entry.name, f"{inside}{entry.name}/") for entry in entries if entry.is_dir()]
            folders += [found for found in reversed(below) if found[0] not in skipped]
    except OSError as error:
        hint = "check the permissions of folders and files, and links that form a circle"
        raise DataError(f"{error.filename or root} cannot be read: {error.strerror}", hint=hint) from error


def _unpacked(places: Sequence[Path]) -> set[Path]:
    """Return the folders that the zips among some places would unpack to: their files are in the zips already."""
    return {place.with_suffix("") for place in places if place.suffix.lower() == ".zip" and not place.is_dir()}
