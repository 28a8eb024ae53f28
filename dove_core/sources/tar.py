"""Tar files as an input of `dove embed`: images with captions and metadata, as in webdataset.

Neighbouring members whose names are equal up to the first dot are one sample, such as `KEY.jpg`, `KEY.json` and
`KEY.txt`. Nothing is extracted: the headers are read once, then images are read at their offsets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from dove_core.data.file_kinds import kind_of
from dove_core.data.reader import Record
from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.data.samples import Unusable
from dove_core.data.sharding.image import MAX_IMAGE_BYTES
from dove_core.errors import DataError, reason_of
from dove_core.names import real_name, shown_name
from dove_core.places import Folder
from dove_core.sources.metadata import MAX_TEXT, json_in, sample_of, text_in
from dove_core.sources.source import TOO_LARGE, Input, Source, digest_of
from dove_core.sources.tar_headers import members

NO_IMAGE, SECOND_IMAGE, DAMAGED = "no image in the sample", "second image in a sample", "damaged tar"
_HEAD = 512


@dataclass(frozen=True, slots=True)
class _Span:
    """Position of some bytes in the tar."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Member:
    """A sample: its key and the positions of its image, JSON and text; None if there is none."""

    key: str
    image: _Span
    json: _Span | None
    text: _Span | None


class Tars(Source):
    """Tar files; each is a part."""

    has_captions = True

    def __init__(self, root: Path, files: Sequence[Path], field: str) -> None:
        """Take tar files below `root`; captions get the name `field`, which is the caption field of the model.

        Raises:
            DataError: a tar is missing.
        """
        self.root, self._folder, self._field = Folder(root), root, field
        self._inputs: list[Input] = []
        for path in files:
            try:
                facts = path.stat()
            except OSError as error:
                raise DataError(
                    f"{path} cannot be read: {error.strerror}", hint="check the path and its permissions"
                ) from error
            name = shown_name(path.relative_to(root).as_posix())
            self._inputs.append(Input(name, digest_of(name, facts.st_size, facts.st_mtime_ns), None))

    def inputs(self) -> Sequence[Input]:
        """Return the tar files; the number of images in one is not known before it is read."""
        return self._inputs

    def open(self, part: int) -> TarSamples:
        """Read the headers of a tar."""
        return TarSamples(self._folder, self._inputs[part].name, self._field)

    def field(self, part: int) -> str:
        """Return the caption field of the model, since a tar may use any name."""
        return self._field


class TarSamples:
    """The samples of one tar, in the order of the tar."""

    strict = False

    def __init__(self, root: Path, name: str, field: str) -> None:
        self._path, self._name, self._field = root / real_name(name), name, field
        self._members = list(_members(self._path))
        self._file: int | None = None

    def __len__(self) -> int:
        """Count the samples."""
        return len(self._members)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the open file, for another process."""
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        """Close the tar."""
        if (file := self.__dict__.get("_file")) is not None:
            os.close(file)

    def read(self, number: int) -> Record | Unusable:
        """Read an image with its caption and metadata."""
        member = self._members[number]
        if isinstance(member, Unusable):
            return member
        if member.image.size > MAX_IMAGE_BYTES:
            return Unusable(TOO_LARGE, f"{self._name}: {member.key}")
        try:
            data = self._pread(member.image)
            values, text = self._metadata(member)
        except OSError as error:
            return Unusable(DAMAGED, f"{self._path}: {reason_of(error)}")
        sample = sample_of(member.key, values, text, self._field)
        return Record(number, self._name, member.image.offset, member.image.size, data, sample)

    def _metadata(self, member: _Member) -> tuple[Any, str]:
        """Return the content of the sample's JSON and text; empty if damaged or longer than 1 MiB."""
        spans = [span if span and span.size <= MAX_TEXT else _Span(0, 0) for span in (member.json, member.text)]
        encoded, text = (self._pread(span) for span in spans)
        return json_in(encoded), text_in(text)

    def _pread(self, span: _Span) -> bytes:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)
        return os.pread(self._file, span.size, span.offset)


def _members(path: Path) -> Iterator[_Member | Unusable]:
    """Yield the samples of a tar, and the members that cannot be used."""
    for key, group in groupby(_files(path), key=lambda file: None if isinstance(file, Unusable) else file[0]):
        spans: dict[str, _Span] = {}
        skipped: list[Unusable] = []
        chosen = ""  # endings of the image
        for file in group:
            if isinstance(file, Unusable):
                yield file
                continue
            endings, span = file[1:]
            ending = endings.rpartition(".")[2]
            kind = "image" if f".{ending}" in IMAGE_ENDINGS else ending
            if kind == "image" and kind in spans:
                # KEY.jpg is the image, not KEY.mask.png, wherever it is.
                first = chosen if "." in chosen and endings == ending else ""
                skipped.append(Unusable(SECOND_IMAGE, f"{path.name}: {key}.{first or endings}"))
                if not first:
                    continue
            if kind == "image":
                chosen = endings
                spans[kind] = span
            spans.setdefault(kind, span)
        if "image" in spans and key is not None:
            yield _Member(key, spans["image"], spans.get("json"), spans.get("txt"))
        elif spans:
            yield Unusable(NO_IMAGE, f"{path.name}: {key}")
        yield from skipped


def _files(path: Path) -> Iterator[tuple[str, str, _Span] | Unusable]:
    """Yield key, endings and position of each file in a tar; at the end, a damaged or compressed tar as unusable."""
    head = b""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            count = 0
            for member in members(stream.fileno()):
                count += 1
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if stem:  # empty for hidden files
                    key = f"{folder}/{stem}" if folder else stem
                    yield key, ending.lower(), _Span(member.offset, member.size)
            if not count:
                yield Unusable(DAMAGED, f"{path}: it is empty")
    except (DataError, OSError) as error:
        kind, advice = kind_of(head)
        if kind in ("", "a tar"):
            yield Unusable(DAMAGED, f"{path}: {reason_of(error)}")
        else:
            yield Unusable(f"file that is not a tar but {kind}", f"{path}: {advice.replace('FILE', str(path))}")
