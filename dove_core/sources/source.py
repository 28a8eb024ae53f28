"""What every input of `dove embed` looks like: parts, whose images are read by number."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dove_core.data.samples import Samples
from dove_core.data.sharding.meta import time_of
from dove_core.places import Place

MAX_BYTES = 256 * 2**20
"""Largest image of a foreign input that is read."""

TOO_LARGE = f"more than {MAX_BYTES // 2**20} MiB"

_TIME = re.compile(r"(\d{4})(?:[-:](\d\d)(?:[-:](\d\d)(?:[T ](\d\d):(\d\d)(?::\d\d.*)?)?)?)?\s*")


@dataclass(frozen=True)
class Input:
    """What one part is made of: its name below the root, a digest of all that decides its images, and their number.

    The number is None where only reading the whole input would tell.
    """

    name: str
    digest: str
    count: int | None


class Source(Protocol):
    """An input of `dove embed`. Equal inputs have equal parts. It can be pickled."""

    root: Place
    """Rows name their images' files below it."""

    def inputs(self) -> Sequence[Input]:
        """Return what each part is made of."""
        ...

    def open(self, part: int) -> Samples:
        """Open the images of a part."""
        ...

    def field(self, part: int) -> str:
        """Return the caption field whose first caption a part's rows keep."""
        ...

    def bring(self, part: int) -> None:
        """Bring the files of a part here, so that reading does not wait for them; called where `root.is_remote`."""
        return  # inputs of this machine are where they are read


def digest_of(*facts: object) -> str:
    """Return a SHA-256 over facts such as names, sizes and times of change, as 64 hexadecimal digits."""
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()


def time_in(text: object) -> str | None:
    """Return a time in a text, such as `2019:07:03 10:20:30`, as `Sample` has it, or None if it is none."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    return time_of([int(number) for number in match.groups() if number]) if match else None
