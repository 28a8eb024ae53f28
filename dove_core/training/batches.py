"""Records to the batches that a training step takes; made in the worker that read them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dove_core.data.reader import Record
from dove_core.errors import DataError
from dove_core.model.preprocess import augment, decode
from dove_core.model.tokenizer import Tokenizer, padded


class Batch(NamedTuple):
    """B pictures, and n captions of each.

    `pixels (B, 3, S, S)` uint8; the batch's U distinct captions as `tokens (U, T)` and `lengths (U,)`; `rows (n, B)`
    says which of them are each picture's, the first of all pictures coming first: `rows[0]` lies below `paired`.
    `pictures (B,)` and `captions (n, B)` are the identities by which false negatives are known. `broken` says which
    pictures could not be decoded; another of the batch stands in for each.
    """

    pixels: Tensor
    tokens: Tensor
    lengths: Tensor
    rows: Tensor
    paired: int
    pictures: Tensor
    captions: Tensor
    broken: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Copy to a device; lengths stay on the CPU, where packing wants them."""
        names = ("pixels", "tokens", "rows", "pictures", "captions")
        return self._replace(**{name: getattr(self, name).to(device, non_blocking=True) for name in names})


@dataclass(frozen=True)
class MakeBatch:
    """Decodes, crops and turns pictures, draws `count` captions of each, and tokenizes them.

    Chance depends on (seed, epoch, sample) alone: the same at any number of processes and after a resume.
    """

    tokenizer: Tokenizer
    field: str
    size: int
    crop_scale: float
    turn: bool
    seed: int
    count: int = 1

    def __call__(self, records: list[Record], epoch: int) -> Batch:
        """Make one batch.

        Raises:
            DataError: no picture can be decoded, or a sample has no caption in the field.
        """
        pixels = torch.empty(len(records), 3, self.size, self.size, dtype=torch.uint8)
        texts, sources, broken = list[list[str]](), list[int](), list[DataError]()
        for record in records:
            random = np.random.default_rng((self.seed, epoch, record.number))
            own = self._captions(record, random)
            try:
                picture = decode(record.picture, f"{record.shard}: {record.sample.path}")
            except DataError as error:
                broken.append(error)
                continue
            pixels[len(texts)] = augment(picture, self.size, random, crop_scale=self.crop_scale, turn=self.turn)
            texts.append(own)
            sources.append(record.number)
        if not texts:
            raise broken[0]
        for k in range(len(texts), len(records)):  # a batch keeps its size: every process has as many pairs as planned
            pixels[k] = pixels[k - len(texts)]
        again = [k % len(texts) for k in range(len(records))]
        number: dict[tuple[int, ...], int] = {}  # of each distinct caption, as the model reads it
        ordered = [tuple(self.tokenizer.encode(texts[k][n])) for n in range(self.count) for k in again]
        rows = torch.tensor([number.setdefault(text, len(number)) for text in ordered]).view(self.count, -1)
        tokens, lengths = padded(list(number))
        identities = torch.tensor([_identity(text) for text in number])
        pictures = torch.tensor([sources[k] for k in again])
        paired = int(rows[0].max()) + 1
        said = tuple(error.message for error in broken)
        return Batch(pixels, tokens, lengths, rows, paired, pictures, identities[rows], said)

    def _captions(self, record: Record, random: np.random.Generator) -> list[str]:
        texts = record.sample.captions.get(self.field, ())
        if not texts:
            message = f"{record.shard}: {record.sample.path} has no caption {self.field!r}"
            raise DataError(message, hint="choose another --caption-field, or shard the release again")
        order = random.permutation(len(texts))  # those of a picture that has fewer come again
        return [texts[int(order[k % len(texts)])] for k in range(self.count)]


def _identity(tokens: tuple[int, ...]) -> int:
    """Return 63 bits that equal captions, as the model reads them, share."""
    digest = hashlib.blake2b(np.array(tokens, np.int64).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
