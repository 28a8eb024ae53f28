"""The one path from images and words to embeddings, for validation, eval, embed and query alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from dove_core.config import ComputeConfig
from dove_core.data.batch_plan import SequentialPlan
from dove_core.data.loader import load
from dove_core.data.reader import Record, Shards
from dove_core.data.sharding.image import check_header
from dove_core.encoding.checkpoint import Checkpoint
from dove_core.encoding.compute import choose_device, mixed, worker_count
from dove_core.encoding.preprocess import fit, normalise
from dove_core.errors import DataError, UsageError
from dove_core.model.dove import CaptionFeatures, ImageFeatures
from dove_core.model.tokens import padded
from dove_core.sources.source import Samples, Unusable

_CAPTIONS_AT_ONCE = 512
T = TypeVar("T")
Encode = Callable[[Tensor], tuple[ImageFeatures, Tensor]]
_EncodedSamples = tuple[list[Record], list[Unusable], tuple[ImageFeatures, Tensor] | None]
UNDECODABLE = "no image that can be decoded"


class Embedded(NamedTuple):
    """A batch: the samples that were embedded and their embeddings `(n, D)` float32; the images left out.

    Where they are wanted, `regions (n, R, D)` and `fused (n, D)` float32, as `write_regions` takes them.
    """

    records: list[Record]
    vectors: np.ndarray
    unusable: list[Unusable]
    regions: np.ndarray | None = None
    fused: np.ndarray | None = None


class Embedder:
    """A checkpoint on a device, in evaluation mode while it is used."""

    def __init__(self, checkpoint: Checkpoint, compute: ComputeConfig) -> None:
        self.checkpoint = checkpoint
        self.device = choose_device(compute.device)
        self.model = checkpoint.model.to(self.device)
        self._compute = compute
        self._encode: Encode = self.model.encode_regions

    def compile(self, batch_size: int) -> None:
        """Compile the image side for batches of one size; smaller ones are filled up. Takes from seconds to minutes.

        Raises:
            UsageError: it cannot be compiled here.
        """
        size, compiled = self.checkpoint.config.image_size, torch.compile(self.model.encode_regions)

        def encode(pixels: Tensor) -> tuple[ImageFeatures, Tensor]:
            count = len(pixels)
            filled = torch.cat((pixels, pixels.new_zeros(batch_size - count, *pixels.shape[1:])))
            images, regions = compiled(filled.contiguous(memory_format=torch.channels_last))
            return images.rows(slice(count)), regions[:count]

        try:
            with self._inference():
                encode(self._normalised(torch.zeros(1, 3, size, size, dtype=torch.uint8)))
        except UsageError:
            raise
        except Exception as error:  # a compiler that is not there, or that fails, in many ways
            reason = str(error).strip().splitlines()[0]
            hint = "is there a C++ compiler? --compile off does without"
            raise UsageError(f"the model cannot be compiled here: {reason}", hint=hint) from error
        self._encode = encode

    def embed_images(self, images: Sequence[tuple[bytes, str]]) -> ImageFeatures:
        """Encode images given as (bytes, name).

        Raises:
            DataError: bytes that are no image; the message has the name.
        """
        size = self.checkpoint.config.image_size
        return self._encode_images(torch.stack([fit(data, name, size) for data, name in images]))

    def embed_regions(self, images: Sequence[tuple[bytes, str]]) -> np.ndarray:
        """Return the regions `V_R (B, R, D)` float32 of images given as (bytes, name).

        Raises:
            DataError: bytes that are no image; the message has the name.
        """
        size = self.checkpoint.config.image_size
        with self._inference():
            pixels = torch.stack([fit(data, name, size) for data, name in images])
            return _floats(self._encode(self._normalised(pixels))[1])

    def embed_shards(
        self, shards: Shards, *, batch_size: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[list[Record], ImageFeatures]]:
        """Encode the images `start` to `stop` of a split in order, read ahead by the workers.

        Records come without their images' bytes.

        Raises:
            DataError: a shard is missing or damaged.
        """
        plan = SequentialPlan(start, len(shards) if stop is None else stop, batch_size)
        workers = worker_count(self._compute.workers, self.device)
        fit_records, pins = _FitRecords(self.checkpoint.config.image_size), self.device.type == "cuda"
        batches = load(shards, plan, fit_records, workers=workers, pin_memory=pins)
        for records, pixels in batches:
            yield records, self._encode_images(pixels)

    def embed_samples(self, samples: Samples, *, batch_size: int, regions: bool = False) -> Iterator[Embedded]:
        """Encode the images of one part of any input in order, read ahead by the workers.

        Records come without their images' bytes. While a batch is used, a GPU is at work on the next.

        Raises:
            DataError: the samples are `strict`, and one is damaged.
        """
        for records, unusable, encoded in _one_behind(self._encode_samples(samples, batch_size)):
            if encoded is None:
                none = np.zeros((0, self.checkpoint.config.embed_dim), np.float32)
                yield Embedded(records, none, unusable)
                continue
            images, found = encoded
            more = (_floats(found), _floats(images.fused)) if regions else ()
            yield Embedded(records, _floats(images.embedding), unusable, *more)

    def _encode_samples(self, samples: Samples, batch_size: int) -> Iterator[_EncodedSamples]:
        plan = SequentialPlan(0, len(samples), batch_size)
        workers = worker_count(self._compute.workers, self.device)
        fit_samples = _FitSamples(self.checkpoint.config.image_size, samples.strict)
        pins = self.device.type == "cuda"
        for records, pixels, unusable in load(samples, plan, fit_samples, workers=workers, pin_memory=pins):
            encoded = None
            if pixels is not None:
                with self._inference():
                    encoded = self._encode(self._normalised(pixels))
            yield records, unusable, encoded

    def embed_captions(self, captions: Sequence[str], *, lean: bool = False) -> CaptionFeatures:
        """Encode captions in blocks, padded to one length, or `lean`."""
        tokens, lengths = padded([self.checkpoint.tokenizer.encode(text) for text in captions])
        parts = []
        with self._inference():
            for start in range(0, len(captions), _CAPTIONS_AT_ONCE):
                rows = slice(start, start + _CAPTIONS_AT_ONCE)
                longest = int(lengths[rows].max())
                part = self.model.encode_captions(tokens[rows, :longest].to(self.device), lengths[rows])
                parts.append(part.lean() if lean else _padded(part, tokens.shape[1]))
        return CaptionFeatures(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def score_pairs(
        self, images: ImageFeatures, captions: CaptionFeatures, advanced: Callable[[int], None] = lambda pairs: None
    ) -> Tensor:
        """Return ROAM's scores `(B, C)` float32 on the CPU; `advanced` hears how many pairs each block had."""
        rows = []
        with self._inference():
            for start in range(0, len(images.fused), 64):
                part = images.rows(slice(start, start + 64))
                rows.append(self.model.score_pairs(part, captions).float().cpu())
                advanced(rows[-1].numel())
        return torch.cat(rows)

    def _encode_images(self, pixels: Tensor) -> ImageFeatures:
        with self._inference():
            return self._encode(self._normalised(pixels))[0]

    def _normalised(self, pixels: Tensor) -> Tensor:
        return normalise(pixels.to(self.device, non_blocking=True))

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Evaluation mode, no gradients, mixed precision; the mode the model was in comes back afterwards."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), mixed(self.device, self._compute.amp):
                yield
        except torch.OutOfMemoryError as error:
            raise UsageError("the GPU's memory is full", hint="use a smaller --batch-size, or --device cpu") from error
        finally:
            self.model.train(training)


class _FitRecords:
    """Decodes and fits the images of a batch in the worker that read them."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, records: list[Record], epoch: int) -> tuple[list[Record], Tensor]:
        pixels = torch.stack([fit(r.image, f"{r.shard}: {r.sample.path}", self.size) for r in records])
        return [r.without_image() for r in records], pixels


class _FitSamples:
    """Decodes and fits what there is of a batch, in the worker that read it; unless `strict`, the rest is left out."""

    def __init__(self, size: int, strict: bool) -> None:
        self.size, self.strict = size, strict

    def __call__(
        self, samples: list[Record | Unusable], epoch: int
    ) -> tuple[list[Record], Tensor | None, list[Unusable]]:
        records, pixels, unusable = list[Record](), list[Tensor](), list[Unusable]()
        for sample in samples:
            fitted = sample if isinstance(sample, Unusable) else self._fit(sample)
            if isinstance(fitted, Unusable):
                unusable.append(fitted)
            elif isinstance(sample, Record):
                pixels.append(fitted)
                records.append(sample.without_image())
        return records, torch.stack(pixels) if pixels else None, unusable

    def _fit(self, record: Record) -> Tensor | Unusable:
        name = f"{record.shard}: {record.sample.path}"
        if self.strict:
            return fit(record.image, name, self.size)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of odd files
                check_header(record.image)
                return fit(record.image, name, self.size)
        except DataError as error:
            return Unusable(UNDECODABLE, error.message if name in error.message else f"{name}: {error.message}")
        except Exception as error:  # on damaged files Pillow's readers raise nearly every kind there is
            return Unusable(UNDECODABLE, f"{name}: {error!r}")


def _one_behind(items: Iterator[T]) -> Iterator[T]:
    """Yield each item when the next one has been made."""
    held = list[T]()
    for item in items:
        yield from held
        held = [item]
    yield from held


def _floats(x: Tensor) -> np.ndarray:
    values: np.ndarray = x.float().cpu().numpy()
    return values


def concatenated(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """Join the features of several batches of images."""
    return ImageFeatures(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _padded(part: CaptionFeatures, words: int) -> CaptionFeatures:
    missing = words - part.query.shape[2]
    query = torch.nn.functional.pad(part.query, (0, 0, 0, missing))
    return part._replace(query=query, weight=torch.nn.functional.pad(part.weight, (0, missing)))
