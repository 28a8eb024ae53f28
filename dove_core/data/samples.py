"""Images of any input, read by number: what loader processes read and `Embedder.embed_samples` encodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dove_core.data.reader import Record


@dataclass(frozen=True)
class Unusable:
    """An image that is left out: the reason, one of a few, and its name with what is wrong with it."""

    reason: str
    example: str


@dataclass(frozen=True)
class Known:
    """An image whose embedding is known: its record without the bytes, and the row of an index that has it."""

    record: Record
    row: int


class Samples(Protocol):
    """The images of one embedding part, numbered from 0. Files it holds open are not pickled with it.

    A record's `shard`, `offset` and `size` say where below the input's root its image lies, as `index.images` reads it.
    """

    strict: bool
    """Whether an image that cannot be decoded is an error, or is left out."""

    def __len__(self) -> int:
        """Count the images, usable or not."""
        ...

    def read(self, number: int) -> Record | Unusable | Known:
        """Read an image, or say why it is left out, or that it needs no encoding."""
        ...
