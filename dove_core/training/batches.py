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
from dove_core.model.tokenizer import Tokenizer


class Batch(NamedTuple):
    """B pairs of a picture and one of its captions.

    `pixels (B, 3, S, S)` uint8, `tokens (B, T)`, `lengths (B,)`, and the identities `pictures (B,)` and `captions (B,)`
    by which false negatives are known.
    """

    pixels: Tensor
    tokens: Tensor
    lengths: Tensor
    pictures: Tensor
    captions: Tensor

    def to(self, device: torch.device) -> Batch:
        """Copy to a device; lengths stay on the CPU, where packing wants them."""
        moved = Batch(*(part.to(device, non_blocking=True) for part in self))
        return moved._replace(lengths=self.lengths)


@dataclass(frozen=True)
class MakeBatch:
    """Decodes, crops and turns pictures, draws one caption each, and tokenizes it.

    Chance depends on (seed, epoch, sample) alone: the same at any number of processes and after a resume.
    """

    tokenizer: Tokenizer
    field: str
    size: int
    crop_scale: float
    turn: bool
    seed: int

    def __call__(self, records: list[Record], epoch: int) -> Batch:
        """Make one batch.

        Raises:
            DataError: a picture cannot be decoded, or a sample has no caption in the field.
        """
        pixels = torch.empty(len(records), 3, self.size, self.size, dtype=torch.uint8)
        texts = []
        for k, record in enumerate(records):
            random = np.random.default_rng((self.seed, epoch, record.number))
            texts.append(self._caption(record, random))
            picture = decode(record.picture, f"{record.shard}: {record.sample.path}")
            pixels[k] = augment(picture, self.size, random, crop_scale=self.crop_scale, turn=self.turn)
        tokens, lengths = self.tokenizer.batch(texts)
        captions = torch.tensor([_identity(row[:length]) for row, length in zip(tokens, lengths, strict=True)])
        return Batch(pixels, tokens, lengths, torch.tensor([record.number for record in records]), captions)

    def _caption(self, record: Record, random: np.random.Generator) -> str:
        texts = record.sample.captions.get(self.field, ())
        if not texts:
            message = f"{record.shard}: {record.sample.path} has no caption {self.field!r}"
            raise DataError(message, hint="choose another --caption-field, or shard the release again")
        return texts[int(random.integers(len(texts)))]


def _identity(tokens: Tensor) -> int:
    """Return 63 bits that equal captions, as the model reads them, share."""
    digest = hashlib.blake2b(tokens.numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
