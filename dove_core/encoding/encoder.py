"""Protocols of a model: `Encoder`, `Reranker`, `Explainer`, `Preprocess` and `Features`.

Embedding, evaluation, search and validation use these protocols, and no class of a model. `dove.py` implements them
for DOVE; other families are installed as entry points, see `families.py`.

Letters: B images, C texts, D dimensions of an embedding, R regions, S side of the model's input in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor


class Preprocess(Protocol):
    """How a family turns image files into its input. It can be pickled, since loader processes call `fit`."""

    def fit(self, data: bytes, name: str) -> Tensor:
        """Decode an image file and resize it to `(3, S, S)` uint8.

        Raises:
            DataError: the bytes are not a valid image; the message has `name`.
        """
        ...

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return the model's input `(B, 3, S, S)` float32 for uint8 `pixels`, on their device."""
        ...


class Features(Protocol):
    """Embeddings of images or texts, and other tensors that a reranker needs; the first axis is the row.

    A `NamedTuple` of tensors with `rows` implements it.
    """

    @property
    def embedding(self) -> Tensor:
        """The embeddings `(N, D)` float32 of length 1."""
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
        """Return the features of some rows."""
        return Embeddings(self.embedding[which])


class RegionFeatures(NamedTuple):
    """Features of images that an index can store for re-ranking: `regions (B, R, D)` and `fused (B, D)`."""

    embedding: Tensor
    regions: Tensor
    fused: Tensor


class Reranker(Protocol):
    """Exact scores of pairs, if a family has them, such as DOVE's ROAM.

    >>> dove.load_encoder("runs/shapes/best").reranker.regions
    4
    """

    @property
    def regions(self) -> int:
        """Number R of regions of an image."""
        ...

    def describe_images(self, pixels: Tensor) -> Features:
        """Return the features of images `(B, 3, S, S)`, normalised, for `score_pairs`."""
        ...

    def describe_texts(self, texts: Sequence[str]) -> Features:
        """Return the features of texts for `score_pairs`."""
        ...

    def describe_regions(self, pixels: Tensor) -> RegionFeatures:
        """Return the features of images `(B, 3, S, S)`, normalised, that an index stores for re-ranking."""
        ...

    def score_pairs(self, images: Any, texts: Any) -> Tensor:
        """Return the scores `(B, C)` of all pairs, given features of `describe_images` and `describe_texts`."""
        ...


class Explainer(Protocol):
    """Maps of where an image has what a text describes, if a family can compute them."""

    def relevance(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """Return maps `(B, C, g, g)` float32 >= 0 of images `(B, 3, S, S)`, normalised, over g x g regions.

        Raises:
            UsageError: this model has no maps.
        """
        ...


class Encoder(Protocol):
    """A model that maps images and texts to one space; every family has one.

    It is in evaluation mode, and its methods are called without gradients.

    >>> encoder = dove.load_encoder("runs/shapes/best")
    >>> encoder.family, encoder.dim
    ('dove', 32)
    >>> encoder.encode_texts(["a red circle", "a blue square"]).shape
    torch.Size([2, 32])
    """

    @property
    def family(self) -> str:
        """Name of the family as in `model.json`."""
        ...

    @property
    def dim(self) -> int:
        """Dimensions D of an embedding."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the checkpoint's files."""
        ...

    @property
    def caption_field(self) -> str:
        """The caption field that the model was trained on; empty if it has none."""
        ...

    @property
    def is_convolutional(self) -> bool:
        """Tell whether images are encoded by convolutions: compiling these pays on a CPU, that of a transformer not."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """How image files become the model's input."""
        ...

    @property
    def reranker(self) -> Reranker | None:
        """Exact scores of pairs; None if the family has none."""
        ...

    @property
    def explainer(self) -> Explainer | None:
        """Maps of where an image has what a text describes; None if the family has none, or only its reranker's."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the embeddings `(B, D)` float32 of length 1 of images `(B, 3, S, S)`, normalised."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings `(C, D)` float32 of length 1 of texts, on the encoder's device."""
        ...

    def save_text_side(self, folder: Path) -> None:
        """Write the files that `Family.load_text_side` reads into an existing folder."""
        ...


def join(parts: Sequence[Features]) -> Features:
    """Join the features of several batches."""
    kind: Any = type(parts[0])
    joined: Features = kind(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return joined


def on_device(features: Features, device: torch.device) -> Features:
    """Return features on a device in float32, also those computed in half precision."""
    kind: Any = type(features)
    moved: Features = kind(*(x.to(device, torch.float32) if x.is_floating_point() else x for x in features))
    return moved
