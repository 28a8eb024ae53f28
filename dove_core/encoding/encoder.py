"""The seam between a model and everything that uses one: `Encoder`, `Reranker`, `Preprocess`, `Family`.

Embedding, evaluation, search and validation know these protocols and no model's class. A family of models is a
module behind them: DOVE in `dove.py`; others are found as entry points, see `families.py`.

Letters: B images, C texts, D embedding width, R regions, S side of the model's input in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor


class Preprocess(Protocol):
    """How a family turns image files into its input. Loader processes call `fit`, so it can be pickled."""

    def fit(self, data: bytes, name: str) -> Tensor:
        """Decode an image file and resize it to `(3, S, S)` uint8.

        Raises:
            DataError: the bytes are not an image; the message has `name`.
        """
        ...

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return `(B, 3, S, S)` float32 as the model takes them, on the device of the uint8 `pixels`."""
        ...


class Features(Protocol):
    """What one side brings to a comparison: embeddings, and whatever else a reranker needs; rows come first.

    A `NamedTuple` of tensors with these two methods fits.
    """

    @property
    def embedding(self) -> Tensor:
        """The embeddings `(N, D)` float32, of length 1."""
        ...

    def rows(self, which: slice | Tensor | Sequence[int]) -> Self:
        """Return the features of some rows."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the tensors."""
        ...


class Embeddings(NamedTuple):
    """Features of a model without a reranker: embeddings `(N, D)` float32 alone."""

    embedding: Tensor

    def rows(self, which: slice | Tensor | Sequence[int]) -> Embeddings:
        """Return some rows."""
        return Embeddings(self.embedding[which])


class RegionFeatures(NamedTuple):
    """What an index can store of images for re-ranking: `regions (B, R, D)` and `fused (B, D)`, with `embedding`."""

    embedding: Tensor
    regions: Tensor
    fused: Tensor


class Reranker(Protocol):
    """Exact scores of pairs, where a family has them: DOVE's ROAM.

    >>> dove.load_encoder("runs/shapes/best").reranker.regions
    4
    """

    @property
    def regions(self) -> int:
        """Number R of an image's regions."""
        ...

    def describe_images(self, pixels: Tensor) -> Features:
        """Encode `(B, 3, S, S)` normalised floats to what `score_pairs` needs of the images."""
        ...

    def describe_texts(self, texts: Sequence[str]) -> Features:
        """Encode texts to what `score_pairs` needs of them."""
        ...

    def describe_regions(self, pixels: Tensor) -> RegionFeatures:
        """Encode `(B, 3, S, S)` normalised floats to what an index stores for re-ranking."""
        ...

    def score_pairs(self, images: Any, texts: Any) -> Tensor:
        """Return the scores `(B, C)` of all pairs, given what the two methods above returned."""
        ...


class Encoder(Protocol):
    """Images and texts into one space. Every family has one; embed, eval, query and verify know no other type.

    It is in evaluation mode, and its methods are called without gradients.

    >>> encoder = dove.load_encoder("runs/shapes/best")
    >>> encoder.family, encoder.dim
    ('dove', 32)
    >>> encoder.encode_texts(["a red circle", "a blue square"]).shape
    torch.Size([2, 32])
    """

    @property
    def family(self) -> str:
        """Name of the family, as in `model.json`."""
        ...

    @property
    def dim(self) -> int:
        """Width D of an embedding."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the checkpoint's files."""
        ...

    @property
    def caption_field(self) -> str:
        """The caption field that it was trained on; empty if any will do."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """How image files become its input."""
        ...

    @property
    def reranker(self) -> Reranker | None:
        """Exact scores of pairs; None if the family has none."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Encode `(B, 3, S, S)` normalised floats to embeddings `(B, D)` float32, of length 1."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts to embeddings `(C, D)` float32, of length 1, on the encoder's device."""
        ...

    def save_text_side(self, folder: Path) -> None:
        """Write what a query needs into an existing folder, for `Family.load_text_side`."""
        ...


def join(parts: Sequence[Features]) -> Features:
    """Join the features of several batches."""
    kind: Any = type(parts[0])
    joined: Features = kind(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return joined


def on_device(features: Features, device: torch.device) -> Features:
    """Return features on a device, in float32: half precision is only computed with."""
    kind: Any = type(features)
    moved: Features = kind(*(x.to(device, torch.float32) if x.is_floating_point() else x for x in features))
    return moved
