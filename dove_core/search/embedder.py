"""The one path from pictures and words to embeddings, for validation, eval, embed and query alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from dove_core.config import ComputeConfig
from dove_core.data.loader import load
from dove_core.data.plan import SequentialPlan
from dove_core.data.reader import Record, Shards
from dove_core.errors import UsageError
from dove_core.model.checkpoint import Checkpoint
from dove_core.model.compute import choose_device, mixed, worker_count
from dove_core.model.dove import CaptionFeatures, ImageFeatures
from dove_core.model.preprocess import fit, normalise

_CAPTIONS_AT_ONCE = 512


class Embedder:
    """A checkpoint on a device, in evaluation mode while it is used."""

    def __init__(self, checkpoint: Checkpoint, compute: ComputeConfig) -> None:
        self.checkpoint = checkpoint
        self.device = choose_device(compute.device)
        self.model = checkpoint.model.to(self.device)
        self._compute = compute

    def embed_pictures(self, pictures: Sequence[tuple[bytes, str]]) -> ImageFeatures:
        """Encode pictures given as (bytes, name).

        Raises:
            DataError: bytes that are no picture; the message has the name.
        """
        size = self.checkpoint.config.image_size
        return self._encode_images(torch.stack([fit(data, name, size) for data, name in pictures]))

    def embed_shards(
        self, shards: Shards, *, batch_size: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[list[Record], ImageFeatures]]:
        """Encode the pictures `start` to `stop` of a split in order, read ahead by the workers.

        Records come without their pictures' bytes.

        Raises:
            DataError: a shard is missing or damaged.
        """
        plan = SequentialPlan(start, len(shards) if stop is None else stop, batch_size)
        workers = worker_count(self._compute.workers, self.device)
        batches = load(shards, plan, _FitRecords(self.checkpoint.config.image_size), workers=workers)
        for records, pixels in batches:
            yield records, self._encode_images(pixels)

    def embed_captions(self, captions: Sequence[str]) -> CaptionFeatures:
        """Encode captions in blocks, padded to one length."""
        tokens, lengths = self.checkpoint.tokenizer.batch(captions)
        parts = []
        with self._inference():
            for start in range(0, len(captions), _CAPTIONS_AT_ONCE):
                rows = slice(start, start + _CAPTIONS_AT_ONCE)
                longest = int(lengths[rows].max())
                part = self.model.encode_captions(tokens[rows, :longest].to(self.device), lengths[rows])
                parts.append(_padded(part, tokens.shape[1]))
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
            floats = normalise(pixels.to(self.device, non_blocking=True))
            return self.model.encode_images(floats)

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
    """Decodes and fits the pictures of a batch in the worker that read them."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, records: list[Record], epoch: int) -> tuple[list[Record], Tensor]:
        pixels = torch.stack([fit(r.picture, f"{r.shard}: {r.sample.path}", self.size) for r in records])
        return [r.without_picture() for r in records], pixels


def concatenated(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """Join the features of several batches of pictures."""
    return ImageFeatures(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _padded(part: CaptionFeatures, words: int) -> CaptionFeatures:
    missing = words - part.query.shape[2]
    query = torch.nn.functional.pad(part.query, (0, 0, 0, missing))
    return part._replace(query=query, weight=torch.nn.functional.pad(part.weight, (0, missing)))
