"""From images and texts to embeddings: the same code for validation, eval, embed and query, and for every family."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from dove_core.allocator import freed_memory_kept
from dove_core.config import ComputeConfig
from dove_core.data.batch_plan import SequentialPlan
from dove_core.data.loader import load
from dove_core.data.reader import Record, Shards
from dove_core.data.samples import Known, Samples, Unusable
from dove_core.data.sharding.depth import beyond_pillow
from dove_core.data.sharding.image import check_header
from dove_core.encoding.compute import choose_device, mixed, worker_count
from dove_core.encoding.encoder import Embeddings, Encoder, Features, Preprocess, RegionFeatures, Reranker
from dove_core.errors import DataError, UsageError

T = TypeVar("T")
_EncodedSamples = tuple["_Fitted", Tensor | RegionFeatures | None]
_PAIRS_AT_ONCE = 64
"""Number of images whose pairs with all texts are scored at once."""

UNDECODABLE = "image cannot be decoded"


class Embedded(NamedTuple):
    """A batch: the embedded samples, their embeddings `vectors (n, D)` float32, and the skipped images.

    `known` are the images whose embeddings need not be computed, `deep` says which are read as scenes are.
    `regions (n, R, D)` and `fused (n, D)` float32 are there if they were requested.
    """

    records: list[Record]
    vectors: np.ndarray
    unusable: list[Unusable]
    known: list[Known]
    deep: list[str]
    regions: np.ndarray | None = None
    fused: np.ndarray | None = None


class Embedder:
    """An encoder on a device.

    >>> embedder = dove.Embedder(dove.load_encoder("runs/shapes/best"))
    >>> embedder.embed_texts(["a red circle", "a blue square"]).shape
    torch.Size([2, 32])
    """

    def __init__(self, encoder: Encoder, compute: ComputeConfig = ComputeConfig()) -> None:
        self.encoder = encoder
        self.device = choose_device(compute.device)
        encoder.to(self.device)
        self._compute = compute
        self._encode: Callable[[Tensor], Tensor] = encoder.encode_images

    @property
    def reranker(self) -> Reranker:
        """The reranker of the model.

        Raises:
            UsageError: the model's family has none.
        """
        if self.encoder.reranker is None:
            message = f"a model of the family {self.encoder.family!r} has no pairwise scores"
            raise UsageError(message, hint="remove --rerank and --regions")
        return self.encoder.reranker

    def compile(self, batch_size: int) -> None:
        """Compile the image encoder for one batch size; smaller batches are padded. It takes seconds to minutes.

        Raises:
            UsageError: the model cannot be compiled on this machine.
        """
        compiled = torch.compile(self.encoder.encode_images)

        def encode(pixels: Tensor) -> Tensor:
            count = len(pixels)
            padded = torch.cat((pixels, pixels.new_zeros(batch_size - count, *pixels.shape[1:])))
            embeddings: Tensor = compiled(padded.contiguous(memory_format=torch.channels_last))[:count]
            return embeddings

        try:
            with self._inference():
                encode(self._normalised(self._blank()[None]))
        except UsageError:
            raise
        except Exception as error:  # a missing or failing compiler raises many kinds
            reason = str(error).strip().splitlines()[0]
            hint = "install a C++ compiler, or use --compile off"
            raise UsageError(f"the model cannot be compiled here: {reason}", hint=hint) from error
        self._encode = encode

    def embed_images(self, images: Sequence[tuple[bytes, str]]) -> Tensor:
        """Return the embeddings `(B, D)` float32 of images given as (bytes, name).

        Raises:
            DataError: an image is invalid; the message has its name.
        """
        with self._inference():
            return self._encode(self._pixels(images))

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings `(C, D)` float32 of texts."""
        with self._inference():
            return self.encoder.encode_texts(texts)

    def describe_images(self, images: Sequence[tuple[bytes, str]]) -> Features:
        """Return the features of images, given as (bytes, name), for `score_pairs`.

        Raises:
            DataError: an image is invalid; the message has its name.
            UsageError: the family has no reranker.
        """
        with self._inference():
            return self.reranker.describe_images(self._pixels(images))

    def describe_regions(self, images: Sequence[tuple[bytes, str]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the regions `(B, R, D)` and fused vectors `(B, D)` float32 of images given as (bytes, name).

        Raises:
            DataError, UsageError: as `describe_images`.
        """
        with self._inference():
            _, regions, fused = self.reranker.describe_regions(self._pixels(images))
        return _floats(regions), _floats(fused)

    def relevance(self, images: Sequence[tuple[bytes, str]], texts: Sequence[str]) -> np.ndarray:
        """Return where images, given as (bytes, name), have what texts describe: `(B, C, g, g)` float32 >= 0.

        Raises:
            DataError: an image is invalid; the message has its name.
            UsageError: the model has no such maps.
        """
        if self.encoder.explainer is None:
            message = f"a model of the family {self.encoder.family!r} cannot show where an image fits a text"
            raise UsageError(message, hint="remove --explain")
        with self._inference(), torch.autocast(self.device.type, enabled=False):  # small gradients need float32
            return _floats(self.encoder.explainer.relevance(self._pixels(images), texts))

    def describe_texts(self, texts: Sequence[str], *, exact: bool) -> Features:
        """Return the features of texts: for `score_pairs` if `exact`, else only embeddings."""
        with self._inference():
            return self.reranker.describe_texts(texts) if exact else Embeddings(self.encoder.encode_texts(texts))

    def embed_shards(
        self, shards: Shards, *, batch_size: int, exact: bool = False, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[list[Record], Features]]:
        """Encode the images `start` to `stop` of a split in order; loader processes read ahead.

        Records have no image bytes. With `exact`, the features are for `score_pairs`, else only embeddings.

        Raises:
            DataError: a shard is missing or damaged.
        """
        plan = SequentialPlan(start, len(shards) if stop is None else stop, batch_size)
        workers = worker_count(self._compute.workers, self.device)
        fit, pins = _FitRecords(self.encoder.preprocess), self.device.type == "cuda"
        with freed_memory_kept(self.device.type == "cpu"):
            for records, pixels in load(shards, plan, fit, workers=workers, pin_memory=pins):
                with self._inference():
                    ready = self._normalised(pixels)
                    features = self.reranker.describe_images(ready) if exact else Embeddings(self._encode(ready))
                yield records, features

    def embed_samples(self, samples: Samples, *, batch_size: int, regions: bool = False) -> Iterator[Embedded]:
        """Encode the images of one part of a source in order; loader processes read ahead.

        Records have no image bytes. While the caller uses a batch, a GPU computes the next.

        Raises:
            DataError: the samples are `strict`, and one is damaged.
        """
        for fitted, encoded in _one_behind(self._encode_samples(samples, batch_size, regions)):
            records, unusable, known, deep = fitted.records, fitted.unusable, fitted.known, fitted.deep
            if encoded is None:
                yield Embedded(records, np.zeros((0, self.encoder.dim), np.float32), unusable, known, deep)
            elif isinstance(encoded, RegionFeatures):
                vectors, of_regions, fused = map(_floats, encoded)
                yield Embedded(records, vectors, unusable, known, deep, of_regions, fused)
            else:
                yield Embedded(records, _floats(encoded), unusable, known, deep)

    def _encode_samples(self, samples: Samples, batch_size: int, regions: bool) -> Iterator[_EncodedSamples]:
        plan = SequentialPlan(0, len(samples), batch_size)
        workers = worker_count(self._compute.workers, self.device)
        fit, pins = _FitSamples(self.encoder.preprocess, samples.strict), self.device.type == "cuda"
        with freed_memory_kept(self.device.type == "cpu"):
            for fitted in load(samples, plan, fit, workers=workers, pin_memory=pins):
                encoded = None
                if fitted.pixels is not None:
                    with self._inference():
                        ready = self._normalised(fitted.pixels)
                        encoded = self.reranker.describe_regions(ready) if regions else self._encode(ready)
                yield fitted, encoded

    def score_pairs(
        self, images: Features, texts: Features, advanced: Callable[[int], None] = lambda pairs: None
    ) -> Tensor:
        """Return the exact scores `(B, C)` float32 on the CPU; `advanced` is called with the number of pairs scored.

        Raises:
            UsageError: the family has no reranker.
        """
        rows = []
        with self._inference():
            for start in range(0, len(images.embedding), _PAIRS_AT_ONCE):
                block = images.rows(slice(start, start + _PAIRS_AT_ONCE))
                rows.append(self.reranker.score_pairs(block, texts).float().cpu())
                advanced(rows[-1].numel())
        return torch.cat(rows)

    def _pixels(self, images: Sequence[tuple[bytes, str]]) -> Tensor:
        return self._normalised(torch.stack([self.encoder.preprocess.fit(data, name) for data, name in images]))

    def _normalised(self, pixels: Tensor) -> Tensor:
        return self.encoder.preprocess.normalise(pixels.to(self.device, non_blocking=True))

    def _blank(self) -> Tensor:
        """Return a black image after `preprocess.fit`."""
        return self.encoder.preprocess.fit(b"P6 1 1 255\n\0\0\0", "a black pixel")

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Compute without gradients, and in mixed precision if the device is faster with it."""
        try:
            with torch.no_grad(), mixed(self.device, self._compute.amp):
                yield
        except torch.OutOfMemoryError as error:
            raise UsageError("the GPU's memory is full", hint="use a smaller --batch-size, or --device cpu") from error


class _FitRecords:
    """Decodes and resizes a batch of images in a loader process."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(self, records: list[Record], epoch: int) -> tuple[list[Record], Tensor]:
        pixels = torch.stack([self.preprocess.fit(r.image, f"{r.shard}: {r.sample.path}") for r in records])
        return [r.without_image() for r in records], pixels


class _Fitted(NamedTuple):
    """A batch that a loader process has made: images to encode, those that are left out, and those that are known."""

    records: list[Record]
    pixels: Tensor | None
    unusable: list[Unusable]
    known: list[Known]
    deep: list[str]


class _FitSamples:
    """Decodes and resizes a batch of images; invalid ones are skipped, or an error if `strict`."""

    def __init__(self, preprocess: Preprocess, strict: bool) -> None:
        self.preprocess, self.strict = preprocess, strict

    def __call__(self, samples: list[Record | Unusable | Known], epoch: int) -> _Fitted:
        records, pixels = list[Record](), list[Tensor]()
        unusable, known, deep = list[Unusable](), list[Known](), list[str]()
        for sample in samples:
            if isinstance(sample, Known):
                known.append(sample)
                continue
            fitted = sample if isinstance(sample, Unusable) else self._fit(sample)
            if isinstance(fitted, Unusable):
                unusable.append(fitted)
            elif isinstance(sample, Record):
                pixels.append(fitted)
                records.append(sample.without_image())
                deep += [f"{sample.name}: {what}"] if (what := beyond_pillow(sample.image)) else []
        return _Fitted(records, torch.stack(pixels) if pixels else None, unusable, known, deep)

    def _fit(self, record: Record) -> Tensor | Unusable:
        name = record.name
        if self.strict:
            return self.preprocess.fit(record.image, name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow about unusual files
                check_header(record.image)
                return self.preprocess.fit(record.image, name)
        except DataError as error:
            return Unusable(UNDECODABLE, error.message if name in error.message else f"{name}: {error.message}")
        except Exception as error:  # on damaged files, Pillow raises many kinds of exceptions
            return Unusable(UNDECODABLE, f"{name}: {error!r}")


def _one_behind(items: Iterator[T]) -> Iterator[T]:
    """Yield each item after the next one has been computed."""
    waiting = list[T]()
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def _floats(x: Tensor) -> np.ndarray:
    values: np.ndarray = x.float().cpu().numpy()
    return values
