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
    by which false negatives are known. `broken` says which pictures could not be decoded; another of the batch stands
    in for each.
    """

    pixels: Tensor
    tokens: Tensor
    lengths: Tensor
    pictures: Tensor
    captions: Tensor
    broken: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Copy to a device; lengths stay on the CPU, where packing wants them."""
        moved = (
            part.to(device, non_blocking=True) for part in (self.pixels, self.tokens, self.pictures, self.captions)
        )
        pixels, tokens, pictures, captions = moved
        return Batch(pixels, tokens, self.lengths, pictures, captions, self.broken)


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
            DataError: no picture can be decoded, or a sample has no caption in the field.
        """
        pixels = torch.empty(len(records), 3, self.size, self.size, dtype=torch.uint8)
        texts, sources, broken = list[str](), list[int](), list[DataError]()
        for record in records:
            random = np.random.default_rng((self.seed, epoch, record.number))
            text = self._caption(record, random)
            try:
                picture = decode(record.picture, f"{record.shard}: {record.sample.path}")
            except DataError as error:
                broken.append(error)
                continue
            pixels[len(texts)] = augment(picture, self.size, random, crop_scale=self.crop_scale, turn=self.turn)
            texts.append(text)
            sources.append(record.number)
        if not texts:
            raise broken[0]
        for k in range(len(texts), len(records)):  # a batch keeps its size: every process has as many pairs as planned
            pixels[k] = pixels[k - len(texts)]
        again = [k % len(texts) for k in range(len(records))]
        tokens, lengths = self.tokenizer.batch([texts[k] for k in again])
        captions = torch.tensor([_identity(row[:length]) for row, length in zip(tokens, lengths, strict=True)])
        pictures = torch.tensor([sources[k] for k in again])
        return Batch(pixels, tokens, lengths, pictures, captions, tuple(error.message for error in broken))

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
