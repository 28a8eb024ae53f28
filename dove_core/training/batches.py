"""Makes the batches of training steps from records, in the worker that read them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dove_core.data.jpegs import orientation
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
from dove_core.model.tokens import padded
from dove_core.training.trainable import TextTokens

_MOST_SHRUNK = 32
"""An image that is shrunk by a larger factor is decoded on the CPU: antialiasing on a GPU has a limit, near 47."""


class EncodedImage(NamedTuple):
    """A JPEG in `encoded[start:stop]` of a batch, to be decoded into a row of its pixels."""

    row: int
    start: int
    stop: int
    view: Crop
    name: str


class Batch(NamedTuple):
    """B images, and n captions of each.

    `pixels (B, 3, S, S)` are uint8. The U distinct captions of the batch are `tokens (U, T)` and `lengths (U,)`;
    `rows (n, B)` are the numbers of each image's captions. The first captions of all images come first: those that
    ROAM's term uses have numbers below `paired`.
    `images (B,)` and `captions (n, B)` are identities; equal ones are not negatives. `broken` names the images that
    could not be decoded; each is replaced by another one of the batch. JPEGs that the GPU decodes are concatenated in
    `encoded`; `views` has the bytes, the row of pixels and the crop of each.
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
    views: tuple[EncodedImage, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Copy to a device; lengths stay on the CPU, where packing needs them."""
        names = ("pixels", "tokens", "rows", "images", "captions")
        return self._replace(**{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def decoded(self) -> Batch:
        """Decode the encoded images on the pixels' device; the CPU decodes those that the device cannot.

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
    """Decode JPEGs on a device; if it fails, one at a time, and the failed ones on the CPU."""
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
    """Decodes, crops and rotates images, draws `count` captions of each and tokenizes them; ROAM's term uses `paired`.

    With `leave_jpegs`, JPEGs stay encoded in the batch; their crop and rotation are drawn here too.

    Random numbers depend only on (seed, epoch, sample): they do not change with the number of processes or a resume.
    """

    tokenizer: TextTokens
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
        encoded, views = bytearray(), list[EncodedImage]()
        texts, sources, broken = list[list[str]](), list[int](), list[DataError]()
        for record in records:
            random = np.random.default_rng((self.seed, epoch, record.number))
            own = self._captions(record, random)
            name, data = record.name, record.image
            try:
                height, width = image_size(data, name)
                view = draw_crop(height, width, random, crop_scale=self.crop_scale, turn=self.turn)
                shrunk = max(view.height * height, view.width * width) / self.size
                if self.leave_jpegs and is_jpeg(data) and orientation(data) == 1 and shrunk <= _MOST_SHRUNK:
                    views.append(EncodedImage(len(texts), len(encoded), len(encoded) + len(data), view, name))
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
        # The batch keeps its planned size, which other processes rely on: the first images are repeated.
        repeated = [k % len(texts) for k in range(len(records))]
        pixels = pixels[repeated] if broken else pixels
        of_row = {v.row: v for v in views}
        views += [of_row[k]._replace(row=row) for row, k in enumerate(repeated) if row != k and k in of_row]
        number: dict[tuple[int, ...], int] = {}  # of each distinct caption, as tokens
        ordered = [tuple(self.tokenizer.encode(texts[k][n])) for n in range(self.count) for k in repeated]
        rows = torch.tensor([number.setdefault(text, len(number)) for text in ordered]).view(self.count, -1)
        tokens, lengths = padded(list(number))
        identities = torch.tensor([_identity(text) for text in number])
        images = torch.tensor([sources[k] for k in repeated])
        paired = int(rows[: self.paired].max()) + 1
        messages = tuple(error.message for error in broken)
        left = torch.frombuffer(encoded, dtype=torch.uint8) if encoded else None
        return Batch(pixels, tokens, lengths, rows, paired, images, identities[rows], messages, left, tuple(views))

    def _captions(self, record: Record, random: np.random.Generator) -> list[str]:
        texts = record.sample.captions.get(self.field, ())
        if not texts:
            message = f"{record.name} has no caption {self.field!r}"
            raise DataError(message, hint="choose another --caption-field, or shard the release again")
        order = random.permutation(len(texts))  # an image with fewer captions repeats them
        return [texts[int(order[k % len(texts)])] for k in range(self.count)]


def _identity(tokens: tuple[int, ...]) -> int:
    """Return 63 bits that are equal for equal tokens."""
    digest = hashlib.blake2b(np.array(tokens, np.int64).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
