"""Files of a release inside zips or folders, found by the path that a caption table gives.

Nothing is ever unpacked: members are looked up in an index and read into memory, so a hostile name leads nowhere.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dove_core.errors import DataError

PICTURE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2"})
META_ENDINGS = frozenset({".pickle", ".pkl"})
MAX_PICTURE_BYTES = 256 * 2**20
"""Largest file that is read as one picture; more is a mistake or an attack."""

# Macs add `__MACOSX/._x.jpg` and `.DS_Store`; other hidden files are no pictures of a release either.
_JUNK = re.compile(r"(?:^|/)(?:\.|__MACOSX/)")
_META_NAME = re.compile(r"meta\d*")
# RuntimeError covers encryption and, as NotImplementedError, unknown compression.
_BROKEN_MEMBER = (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, struct.error, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a zip or folder; `name` starts with the stem of that zip or the name of that folder."""

    name: str
    size: int
    zip: zipfile.ZipFile | None
    entry: zipfile.ZipInfo | Path

    def read(self, limit: int) -> bytes:
        """Return the file's bytes, their CRC checked if a zip holds it.

        Raises:
            DataError: the file is damaged, encrypted, cannot be read, or has more than `limit` bytes.
        """
        if self.size > limit:
            raise DataError(f"{self.name} has {self.size} bytes, more than {limit}")
        try:
            if isinstance(self.entry, Path):
                return self.entry.read_bytes()
            assert self.zip is not None
            return self.zip.read(self.entry)
        except OSError as error:
            raise DataError(f"{self.name} cannot be read: {error.strerror or error}") from error
        except _BROKEN_MEMBER as error:
            raise DataError(f"{self.name} is damaged: {error}") from error


class Archives:
    """An index over the files with certain endings in several zips and folders.

    A path fits a member when one ends with the other at a folder's border: `airport_1.jpg` finds
    `RSICD_images/airport_1.jpg`, and `images2/x.jpg` finds `images2/images2/x.jpg`. The shallowest fit wins.
    """

    def __init__(self, places: Sequence[Path], endings: frozenset[str]) -> None:
        """Index the zips and folders in `places`.

        Raises:
            DataError: a zip cannot be read.
        """
        self.identity: list[tuple[str, int, str]] = []
        self._zips: list[zipfile.ZipFile] = []
        # Nearly every base name is there once: a list for each of millions would cost more than the names.
        self._by_base: dict[str, Member | list[Member]] = {}
        self._count = 0
        self._endings = endings
        packed = {place.with_suffix("") for place in places if place.suffix == ".zip"}
        for place in places:
            if place.is_dir():
                self._add_folder(place, packed)
            else:
                self._add_zip(place)

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Archives:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every zip."""
        for archive in self._zips:
            archive.close()

    def example(self) -> str:
        """Return the name of one member, or "" if there is none."""
        return self._called(next(iter(self._by_base)))[0].name if self._by_base else ""

    def find(self, path: str) -> Member:
        """Return the member that a caption table calls `path`.

        Raises:
            DataError: no member fits, or two fit equally well.
        """
        parts = _parts(path)
        if not parts:
            raise DataError(f"{path!r} is no path inside an image folder")
        wanted = "/" + "/".join(parts)
        fits = [member for member in self._called(parts[-1]) if _fit(wanted, "/" + member.name)]
        if not fits:
            raise DataError(f"no file fits {path!r}")
        depth = min(member.name.count("/") for member in fits)
        best = {member.name: member for member in fits if member.name.count("/") == depth}
        if len(best) > 1:
            raise DataError(f"{len(best)} files fit {path!r}: {', '.join(sorted(best)[:3])}")
        return next(iter(best.values()))

    def _called(self, base: str) -> list[Member]:
        found = self._by_base.get(base, [])
        return found if isinstance(found, list) else [found]

    def _add(self, member: Member) -> None:
        self._count += 1
        base = member.name.rsplit("/", 1)[-1]
        known = self._by_base.setdefault(base, member)
        if isinstance(known, list):
            known.append(member)
        elif known is not member:
            self._by_base[base] = [known, member]

    def _add_zip(self, path: Path) -> None:
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, *_BROKEN_MEMBER) as error:
            hint = "fetch it again, or take it out of the folder if it does not belong there"
            raise DataError(f"{path} cannot be read as a zip: {error}", hint=hint) from error
        self._zips.append(archive)
        self.identity.append((path.name, path.stat().st_size, _directory_digest(path, archive)))
        stem = path.stem
        for entry in archive.infolist():
            name = "/".join(_parts(entry.filename))
            if name and not entry.is_dir() and self._is_wanted(name):
                self._add(Member(f"{stem}/{name}", entry.file_size, archive, entry))

    def _add_folder(self, root: Path, packed: set[Path]) -> None:
        files, folder = [], root.resolve().name
        for file in _walk(root, packed):
            inside = file.relative_to(root).as_posix()
            if self._is_wanted(inside):
                facts = file.stat()
                name = f"{folder}/{inside}"
                files.append((name, facts.st_size, facts.st_mtime_ns))
                self._add(Member(name, facts.st_size, None, file))
        # A folder has no directory to hash; the time of change stands in for the content.
        digest = hashlib.sha256(repr(sorted(files)).encode("utf-8", "replace")).hexdigest()
        self.identity.append((folder, sum(size for _, size, _ in files), digest))

    def _is_wanted(self, name: str) -> bool:
        ending = name[name.rfind(".") :].lower() if "." in name else ""
        return ending in self._endings and _JUNK.search(name) is None


def open_pictures(place: Path) -> Archives:
    """Index the pictures of one zip, of a folder of zips, or of a plain folder with everything below it.

    Raises:
        DataError: `place` does not exist, a zip is unreadable, or there is no picture at all.
    """
    if not place.exists():
        raise DataError(f"{place} does not exist", hint="give the zip or the folder that holds the pictures")
    zips = _zips(place, is_meta=False) if place.is_dir() else [place]
    pictures = Archives([*zips, place] if place.is_dir() else zips, PICTURE_ENDINGS)
    if not len(pictures):
        pictures.close()
        seen = ", ".join(sorted(entry.name for entry in place.iterdir())[:8]) if place.is_dir() else "no picture in it"
        hint = "expected images*.zip, or files ending in " + " ".join(sorted(PICTURE_ENDINGS))
        raise DataError(f"{place} holds no pictures: {seen or 'it is empty'}", hint=hint)
    return pictures


def open_metas(place: Path) -> Archives | None:
    """Index the metadata (`meta2.zip` or `meta2/`) beside the pictures in a folder; None if there is none.

    Raises:
        DataError: a zip is unreadable.
    """
    if not place.is_dir():
        return None
    zips = _zips(place, is_meta=True)
    packed = {path.stem for path in zips}
    folders = [p for p in sorted(place.iterdir()) if p.is_dir() and _META_NAME.fullmatch(p.name)]
    places = zips + [folder for folder in folders if folder.name not in packed]
    return Archives(places, META_ENDINGS) if places else None


def _zips(folder: Path, *, is_meta: bool) -> list[Path]:
    zips = sorted(p for p in folder.glob("*.zip") if p.is_file() and not p.name.startswith("."))
    return [path for path in zips if bool(_META_NAME.fullmatch(path.stem)) == is_meta]


def _walk(root: Path, packed: set[Path]) -> Iterator[Path]:
    """Yield every file below `root`, but not in a folder whose zip lies beside it: that one is read instead."""
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        subfolders[:] = [name for name in sorted(subfolders) if here / name not in packed]
        for name in sorted(names):
            file = here / name
            if file.is_file():
                yield file


def _parts(path: str) -> list[str]:
    """Return the folders and the name in `path`; nothing if it climbs out with `..`."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return [] if ".." in parts else parts


def _fit(one: str, other: str) -> bool:
    return one.endswith(other) or other.endswith(one)


def _directory_digest(path: Path, archive: zipfile.ZipFile) -> str:
    """Hash a zip's central directory: it holds every member's name, size and CRC."""
    with path.open("rb") as stream:
        stream.seek(archive.start_dir)
        return hashlib.file_digest(stream, "sha256").hexdigest()
