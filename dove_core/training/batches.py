"""Records to the batches that a training step takes; made in the worker that read them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dove_core.data.reader import Record
from dove_core.encoding.preprocess import (
    Crop,
    apply_crop,
    decode,
    decode_jpegs,
    draw_crop,
    image_size,
    is_jpeg,
    least_pixels,
)
from dove_core.errors import DataError
from dove_core.model.tokenizer import Tokenizer
from dove_core.model.tokens import padded

_MOST_SHRUNK = 32
"""An image that is made smaller than by this is left to the CPU: antialiasing on a GPU has a limit, near 47."""


class Undeveloped(NamedTuple):
    """A JPEG in a batch's `encoded[start:stop]`, to be decoded and put into a row of its pixels."""

    row: int
    start: int
    stop: int
    view: Crop
    name: str


class Batch(NamedTuple):
    """B images, and n captions of each.

    `pixels (B, 3, S, S)` uint8; the batch's U distinct captions as `tokens (U, T)` and `lengths (U,)`; `rows (n, B)`
    says which of them are each image's, the first of all images coming first: those that ROAM's term takes lie
    below `paired`.
    `images (B,)` and `captions (n, B)` are the identities by which false negatives are known. `broken` says which
    images could not be decoded; another of the batch stands in for each. Where JPEGs are decoded on the GPU, they are
    in `encoded`, one behind the other, and `views` says which bytes become which row of pixels, and how.
    """

    pixels: Tensor
    tokens: Tensor
    lengths: Tensor
    rows: Tensor
    paired: int
    images: Tensor
    captions: Tensor
    broken: tuple[str, ...] = ()
    encoded: Tensor | None = None
    views: tuple[Undeveloped, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Copy to a device; lengths stay on the CPU, where packing wants them."""
        names = ("pixels", "tokens", "rows", "images", "captions")
        return self._replace(**{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def developed(self) -> Batch:
        """Decode on the pixels' device what is still encoded there; what it cannot decode, the CPU does.

        Raises:
            DataError: no image of the batch can be decoded.
        """
        if self.encoded is None:
            return self
        size, device = self.pixels.shape[-1], self.pixels.device
        images, broken = _decoded([(self.encoded[v.start : v.stop], v.name) for v in self.views], device)
        bad = {v.row for v, image in zip(self.views, images, strict=True) if image is None}
        good = [row for row in range(len(self.pixels)) if row not in bad]
        if not good:
            raise broken[0]
        for v, image in zip(self.views, images, strict=True):
            if image is not None:
                self.pixels[v.row] = apply_crop(image, v.view, size)
        if not bad:
            return self._replace(encoded=None, views=())
        source = torch.arange(len(self.pixels))
        source[sorted(bad)] = torch.tensor([good[k % len(good)] for k in range(len(bad))], dtype=torch.int64)
        source = source.to(device)
        return self._replace(
            pixels=self.pixels[source],
            rows=self.rows[:, source],
            images=self.images[source],
            captions=self.captions[:, source],
            broken=(*self.broken, *(error.message for error in broken)),
            encoded=None,
            views=(),
        )


def _decoded(parts: list[tuple[Tensor, str]], device: torch.device) -> tuple[list[Tensor | None], list[DataError]]:
    """Decode JPEGs on a device; where it refuses, each alone, and the refused ones on the CPU."""
    try:
        return [*decode_jpegs([part for part, _ in parts], device)], []
    except RuntimeError:
        images, broken = list[Tensor | None](), list[DataError]()
    for part, name in parts:
        try:
            images.append(decode_jpegs([part], device)[0])
        except RuntimeError:
            try:
                images.append(decode(part.numpy().tobytes(), name).to(device))
            except DataError as error:
                images.append(None)
                broken.append(error)
    return images, broken


@dataclass(frozen=True)
class MakeBatch:
    """Decodes, crops and turns images, draws `count` captions of each, and tokenizes them; ROAM takes `paired`.

    With `leave_jpegs`, JPEGs stay encoded in the batch; how they are cropped and turned is drawn here all the same.

    Chance depends on (seed, epoch, sample) alone: the same at any number of processes and after a resume.
    """

    tokenizer: Tokenizer
    field: str
    size: int
    crop_scale: float
    turn: bool
    seed: int
    count: int = 1
    paired: int = 1
    leave_jpegs: bool = False

    def __call__(self, records: list[Record], epoch: int) -> Batch:
        """Make one batch.

        Raises:
            DataError: no image can be decoded, or a sample has no caption in the field.
        """
        pixels = torch.empty(len(records), 3, self.size, self.size, dtype=torch.uint8)
        encoded, views = bytearray(), list[Undeveloped]()
        texts, sources, broken = list[list[str]](), list[int](), list[DataError]()
        for record in records:
            random = np.random.default_rng((self.seed, epoch, record.number))
            own = self._captions(record, random)
            name, data = f"{record.shard}: {record.sample.path}", record.image
            try:
                height, width = image_size(data, name)
                view = draw_crop(height, width, random, crop_scale=self.crop_scale, turn=self.turn)
                shrunk = max(view.height * height, view.width * width) / self.size
                if self.leave_jpegs and is_jpeg(data) and shrunk <= _MOST_SHRUNK:
                    views.append(Undeveloped(len(texts), len(encoded), len(encoded) + len(data), view, name))
                    encoded += data
                else:
                    image = decode(data, name, least=least_pixels(view, self.size))
                    pixels[len(texts)] = apply_crop(image, view, self.size)
            except DataError as error:
                broken.append(error)
                continue
            texts.append(own)
            sources.append(record.number)
        if not texts:
            raise broken[0]
        # A batch keeps its size, since every process has as many pairs as planned: the first ones come again.
        again = [k % len(texts) for k in range(len(records))]
        pixels = pixels[again] if broken else pixels
        of_row = {v.row: v for v in views}
        views += [of_row[k]._replace(row=row) for row, k in enumerate(again) if row != k and k in of_row]
        number: dict[tuple[int, ...], int] = {}  # of each distinct caption, as the model reads it
        ordered = [tuple(self.tokenizer.encode(texts[k][n])) for n in range(self.count) for k in again]
        rows = torch.tensor([number.setdefault(text, len(number)) for text in ordered]).view(self.count, -1)
        tokens, lengths = padded(list(number))
        identities = torch.tensor([_identity(text) for text in number])
        images = torch.tensor([sources[k] for k in again])
        paired = int(rows[: self.paired].max()) + 1
        said = tuple(error.message for error in broken)
        bytes_left = torch.frombuffer(encoded, dtype=torch.uint8) if encoded else None
        return Batch(pixels, tokens, lengths, rows, paired, images, identities[rows], said, bytes_left, tuple(views))

    def _captions(self, record: Record, random: np.random.Generator) -> list[str]:
        texts = record.sample.captions.get(self.field, ())
        if not texts:
            message = f"{record.shard}: {record.sample.path} has no caption {self.field!r}"
            raise DataError(message, hint="choose another --caption-field, or shard the release again")
        order = random.permutation(len(texts))  # those of an image that has fewer come again
        return [texts[int(order[k % len(texts)])] for k in range(self.count)]


def _identity(tokens: tuple[int, ...]) -> int:
    """Return 63 bits that equal captions, as the model reads them, share."""
    digest = hashlib.blake2b(np.array(tokens, np.int64).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
