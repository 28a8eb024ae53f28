"""Files of a release inside zips or folders, found by the path that a caption table gives.

Nothing is ever unpacked: members are looked up in an index and read into memory, so a hostile name leads nowhere. The
index is columns, not objects: SkyScript has ten million members.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.sharding.captions import mended
from dove_core.data.sharding.members import open_zip, stem_of
from dove_core.data.zips import directory_digest, read_directory
from dove_core.errors import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2")
META_ENDINGS = (".pickle", ".pkl")

JUNK = re.compile(r"(?:^|/)(?:\.|__MACOSX/)")
"""Macs add `__MACOSX/._x.jpg` and `.DS_Store`; other hidden files are no images of a release either."""

_ODD = re.compile(r"\\|//|/$|^/|(?:^|/)\.\.?(?:/|$)")
_META_NAME = re.compile(r"meta\d*")
_NUMBERS = ("header", "length", "packed", "size", "crc", "method")


@dataclass(frozen=True)
class Found:
    """Which files fit some rows: `entry[i]` counts in the index; -1 where `problems[i]` says why there is none."""

    entry: np.ndarray
    problems: dict[int, str]


class Archives:
    """An index over the files with certain endings in several zips and folders.

    A path fits a member when one ends with the other at a folder's border: `airport_1.jpg` finds
    `RSICD_images/airport_1.jpg`, and `images2/x.jpg` finds `images2/images2/x.jpg`. The shallowest fit wins.
    """

    def __init__(self, places: Sequence[Path], endings: tuple[str, ...]) -> None:
        """Index the zips and folders in `places`.

        Raises:
            DataError: a zip cannot be read.
        """
        self.stems = [stem_of(place) for place in places]
        self._wanted = re.compile("(?i)(?:" + "|".join(map(re.escape, endings)) + ")$")
        packed = _packed(places)
        names, columns = [], []
        for number, place in enumerate(places):
            found = self._of_folder(place, packed) if place.is_dir() else self._of_zip(place)
            names.append(found[0])
            columns.append({"place": np.full(len(found[0]), number, np.int16), **found[1]})
        self._names = pa.chunked_array(names, type=pa.large_string())
        joined = {name: [column[name] for column in columns] for name in ("place", *_NUMBERS)}
        self._columns = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in joined.items()}
        bases = _bases(self._names).combine_chunks()
        encoded = bases.dictionary_encode() if len(bases) else pa.array([], pa.large_string()).dictionary_encode()
        self._bases = encoded.dictionary
        codes = encoded.indices.to_numpy()
        self._by_base = np.argsort(codes, kind="stable")
        self._starts = np.searchsorted(codes[self._by_base], np.arange(len(self._bases) + 1))
        pa.default_memory_pool().release_unused()

    def __len__(self) -> int:
        """Count the files."""
        return len(self._names)

    def example(self) -> str:
        """Return the name of one file, or "" if there is none."""
        return self.name(0) if len(self) else ""

    def name(self, entry: int) -> str:
        """Return a file's name; it starts with the stem of its zip or the name of its folder."""
        return f"{self.stems[self._columns['place'][entry]]}/{self._names[entry].as_py()}"

    def locate(self, paths: Any) -> Found:
        """Find the files that a caption table calls `paths`, an Arrow array of strings."""
        wanted = _normalised(paths)
        bases = _bases(wanted)
        codes = pc.fill_null(pc.index_in(bases, value_set=self._bases), -1).to_numpy()
        entry, problems = np.full(len(wanted), -1, np.int64), dict[int, str]()
        # Nearly every base name is there once: those are compared many at a time, the others one by one.
        many = np.diff(self._starts)[codes] != 1 if len(self._bases) else np.ones(len(codes), bool)
        single = np.flatnonzero((codes >= 0) & ~many)
        first = self._by_base[self._starts[codes[single]]] if len(single) else single
        entry[single] = first
        for at in self._perhaps_unfit(wanted.take(pa.array(single)), first).tolist():
            row, number = int(single[at]), int(first[at])
            if not _fit("/" + wanted[row].as_py(), "/" + self.name(number)):
                entry[row], problems[row] = -1, _nothing(paths, row)
        for row in np.flatnonzero((codes < 0) | many).tolist():
            entry[row], problem = self._choose(paths, row, wanted[row].as_py(), int(codes[row]))
            if problem:
                problems[row] = problem
        return Found(entry, problems)

    def columns(self, entries: np.ndarray, prefix: str) -> dict[str, Any]:
        """Return where some entries lie, as columns of a plan; -1 gives nulls."""
        absent = entries < 0
        safe = np.where(absent, 0, entries)
        if not len(self):
            return {f"{prefix}{name}": pa.nulls(len(entries)) for name in ("place", "name", *_NUMBERS)}
        names = pc.if_else(pa.array(absent), None, self._names.take(pa.array(safe)).combine_chunks())
        numbers = {name: pa.array(self._columns[name][safe], mask=absent) for name in ("place", *_NUMBERS)}
        return {f"{prefix}name": names, **{prefix + name: column for name, column in numbers.items()}}

    def _choose(self, paths: Any, row: int, wanted: str, code: int) -> tuple[int, str | None]:
        """Return the best of several files with a row's base name, or why there is none."""
        if not wanted:
            return -1, f"{paths[row].as_py()!r} is no path inside an image folder"
        called = self._by_base[self._starts[code] : self._starts[code + 1]] if code >= 0 else self._by_base[:0]
        named = {int(entry): self.name(int(entry)) for entry in called}
        fits = {entry: name for entry, name in named.items() if _fit("/" + wanted, "/" + name)}
        if not fits:
            return -1, _nothing(paths, row)
        depth = min(name.count("/") for name in fits.values())
        best = {name: entry for entry, name in fits.items() if name.count("/") == depth}
        if len(best) > 1:
            return -1, f"{len(best)} files fit {paths[row].as_py()!r}: {', '.join(sorted(best)[:3])}"
        return next(iter(best.values())), None

    def _perhaps_unfit(self, wanted: Any, entries: np.ndarray) -> np.ndarray:
        """Return the places of paths that fit their entry in none of the usual ways: those need a look.

        The usual ways: a bare name; the entry's own path, its path without a first folder, or below its zip's name.
        """
        names = self._names.take(pa.array(entries)).combine_chunks()
        fits = pc.or_(pc.equal(wanted, names), pc.invert(pc.match_substring(wanted, "/")))
        left = np.flatnonzero(~fits.to_numpy(zero_copy_only=False))
        if not len(left):
            return left
        names, wanted = names.take(pa.array(left)), wanted.take(pa.array(left))
        stems = pa.array(self.stems, pa.large_string()).take(pa.array(self._columns["place"][entries[left]]))
        full = pc.binary_join_element_wise(stems, names, pa.scalar("/", pa.large_string()))
        fits = pc.or_(pc.equal(wanted, pc.replace_substring_regex(names, "^[^/]*/", "")), pc.equal(wanted, full))
        unfit: np.ndarray = left[~fits.to_numpy(zero_copy_only=False)]
        return unfit

    def _of_zip(self, path: Path) -> tuple[Any, dict[str, np.ndarray]]:
        with open_zip(path) as (read, size):
            directory = read_directory(read, size, str(path))
        names = _normalised(directory.names)
        keep = np.flatnonzero(self._are_wanted(names).to_numpy(zero_copy_only=False))
        length = directory.end - directory.header
        columns = {"length": length, **{name: getattr(directory, name) for name in _NUMBERS if name != "length"}}
        return names.take(pa.array(keep)), {name: column[keep] for name, column in columns.items()}

    def _of_folder(self, root: Path, packed: set[Path]) -> tuple[Any, dict[str, np.ndarray]]:
        files = [(inside, size) for inside, size, _ in files_below(root, packed)]
        names = _normalised(pa.array([inside for inside, _ in files], pa.large_string()))
        keep = np.flatnonzero(self._are_wanted(names).to_numpy(zero_copy_only=False))
        columns = {name: np.full(len(keep), -1, np.int64) for name in ("header", "length")}
        sizes = np.array([size for _, size in files], np.int64)[keep]
        columns |= {"packed": sizes, "size": sizes, "crc": np.zeros(len(keep), np.uint32)}
        return names.take(pa.array(keep)), {**columns, "method": np.zeros(len(keep), np.uint16)}

    def _are_wanted(self, names: Any) -> Any:
        is_junk = pc.match_substring_regex(names, JUNK.pattern)
        return pc.and_not(pc.match_substring_regex(names, self._wanted.pattern), is_junk)


def identity_of(places: Sequence[Path], endings: tuple[str, ...]) -> list[tuple[str, int, str]]:
    """Return name, size and digest of each place: what tells one version of it from the next, without an index.

    Raises:
        DataError: a zip cannot be read.
    """
    packed = _packed(places)
    found = []
    for place in places:
        if place.is_dir():
            files = [file for file in files_below(place, packed) if file[0].lower().endswith(endings)]
            # A folder has no directory to hash; the time of change stands in for the content.
            digest = hashlib.sha256(repr(files).encode("utf-8", "replace")).hexdigest()
            found.append((stem_of(place), sum(size for _, size, _ in files), digest))
        else:
            with open_zip(place) as (read, size):
                found.append((place.name, size, directory_digest(read, size, str(place))))
    return found


def image_places(place: Path) -> list[Path]:
    """Return where images are: one zip, or the zips of a folder and the folder with everything below it.

    Raises:
        DataError: `place` does not exist.
    """
    hint = "give the zip or the folder that holds the images"
    try:
        place.stat()
    except FileNotFoundError:
        raise DataError(f"{place} does not exist", hint=hint) from None
    except OSError as error:
        raise DataError(f"{place} cannot be looked at: {error.strerror}", hint=hint) from error
    return [*_zips(place, is_meta=False), place] if place.is_dir() else [place]


def meta_places(place: Path) -> list[Path]:
    """Return where metadata is beside the images in a folder: `meta2.zip` or `meta2/`; nowhere if there is none."""
    if not place.is_dir():
        return []
    zips = _zips(place, is_meta=True)
    packed = {path.stem for path in zips}
    folders = [p for p in sorted(place.iterdir()) if p.is_dir() and _META_NAME.fullmatch(p.name)]
    return zips + [folder for folder in folders if folder.name not in packed]


def index_images(places: Sequence[Path]) -> Archives:
    """Index the images in some places.

    Raises:
        DataError: a zip is unreadable, or there is no image at all.
    """
    images = Archives(places, IMAGE_ENDINGS)
    if not len(images):
        place = places[-1]
        seen = ", ".join(sorted(entry.name for entry in place.iterdir())[:8]) if place.is_dir() else "no image in it"
        hint = "expected zips, or files ending in " + " ".join(sorted(IMAGE_ENDINGS))
        raise DataError(f"{place} holds no images: {seen or 'it is empty'}", hint=hint)
    return images


def _zips(folder: Path, *, is_meta: bool) -> list[Path]:
    zips = sorted(
        p for p in folder.iterdir() if p.suffix.lower() == ".zip" and p.is_file() and not p.name.startswith(".")
    )
    return [path for path in zips if bool(_META_NAME.fullmatch(path.stem)) == is_meta]


def files_below(root: Path, packed: Collection[Path] = ()) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of every file below `root`, but not in a folder whose zip lies beside it.

    Links are followed, and each folder is entered once.

    Raises:
        DataError: a folder cannot be read.
    """
    entered = set()
    try:
        for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse):
            here, facts = Path(folder), Path(folder).stat()
            if (facts.st_dev, facts.st_ino) in entered:
                subfolders.clear()
                continue
            entered.add((facts.st_dev, facts.st_ino))
            subfolders[:] = [name for name in sorted(subfolders) if here / name not in packed]
            inside = "" if here == root else here.relative_to(root).as_posix() + "/"
            for name in sorted(names):
                with suppress(FileNotFoundError):  # a link to nowhere
                    facts = (here / name).stat()
                    if stat.S_ISREG(facts.st_mode):
                        yield (inside + name).encode("utf-8", "replace").decode(), facts.st_size, facts.st_mtime_ns
    except OSError as error:
        hint = "check the rights of folders and files, and links that lead in a circle"
        raise DataError(f"{error.filename or root} cannot be read: {error.strerror}", hint=hint) from error


def _refuse(error: OSError) -> None:
    raise error


def _packed(places: Sequence[Path]) -> set[Path]:
    """Return the folders that zips would unpack to: what lies there is in the zip."""
    return {place.with_suffix("") for place in places if place.suffix.lower() == ".zip" and not place.is_dir()}


def _normalised(paths: Any) -> Any:
    """Return paths in NFC with plain slashes; empty ones in the place of those that climb out with `..`."""
    odd = pc.or_(pc.match_substring_regex(paths, _ODD.pattern), pc.invert(pc.string_is_ascii(paths)))
    return mended(paths, odd, _normal, paths)


def _bases(paths: Any) -> Any:
    return pc.replace_substring_regex(paths, "(?s)^.*/", "")


def _normal(path: str) -> str:
    """Return a path in NFC with plain slashes; nothing if it climbs out with `..`."""
    path = unicodedata.normalize("NFC", path)
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return "" if ".." in parts else "/".join(parts)


def _fit(one: str, other: str) -> bool:
    return one.endswith(other) or other.endswith(one)


def _nothing(paths: Any, row: int) -> str:
    return f"no file fits {paths[row].as_py()!r}"
