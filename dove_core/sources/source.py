"""The protocol of an input of `dove embed`: parts, whose images are read by number."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dove_core.data.samples import Samples
from dove_core.data.sharding.image import MAX_IMAGE_BYTES
from dove_core.data.sharding.meta import time_of
from dove_core.places import Place

TOO_LARGE = f"larger than {MAX_IMAGE_BYTES // 2**20} MiB"

_TIME = re.compile(r"(\d{4})(?:[-:](\d\d)(?:[-:](\d\d)(?:[T ](\d\d):(\d\d)(?::\d\d.*)?)?)?)?\s*")


class FileFacts(NamedTuple):
    """Name below the root, size, and modification time in nanoseconds of an image, and a digest of those beside it.

    Files beside it have captions and metadata; without them the digest is empty.
    """

    name: str
    size: int
    time: int
    beside: str = ""


@dataclass(frozen=True)
class Input:
    """The input of one part: its name below the root, a digest of everything its images depend on, and their number.

    The number is None if it is only known after reading the input. `files` are those of a part of a folder.
    """

    name: str
    digest: str
    count: int | None
    files: Sequence[FileFacts] = ()


@dataclass(frozen=True)
class EarlierPart:
    """A part that was made earlier: the digest of its input, its files, and those of them that have a row."""

    digest: str
    files: Sequence[FileFacts]
    usable: Container[str]


class Source(Protocol):
    """An input of `dove embed`; equal inputs have equal parts. It can be pickled."""

    has_captions: bool = False
    """Whether images without a caption are worth a message."""

    root: Place
    """The place that file names in rows are relative to."""

    def inputs(self) -> Sequence[Input]:
        """Return the input of each part."""
        ...

    def open(self, part: int) -> Samples:
        """Open the images of a part."""
        ...

    def continue_from(self, earlier: Sequence[EarlierPart]) -> None:
        """Divide the images into parts so that those made earlier stay, as far as possible."""
        return  # a part is a file, or a piece of one, wherever it is in the order

    def field(self, part: int) -> str:
        """Return the caption field of a part; its rows have the first caption of each image."""
        ...

    def notes(self, part: int) -> Sequence[str]:
        """Return what was noticed while a part was opened, for the user."""
        return ()

    def bring(self, part: int) -> None:
        """Download the files of a part before they are read; called only if `root.is_remote`."""
        return  # files of this machine need no download


def digest_of(*facts: object) -> str:
    """Return the SHA-256 of facts such as names, sizes and modification times, as 64 hexadecimal digits."""
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()


def time_in(text: object) -> str | None:
    """Return a time such as `2019:07:03 10:20:30` in the form of `Sample.time`; None if the text is not a time."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    return time_of([int(number) for number in match.groups() if number]) if match else None
