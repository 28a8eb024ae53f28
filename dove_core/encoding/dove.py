"""DOVE as an `Encoder`, and the files of its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from dove_core.config import ModelConfig
from dove_core.encoding.dove_text import (
    CONFIG,
    FAMILY,
    FORMAT,
    TEXT_WEIGHTS,
    VOCABULARY,
    WEIGHTS,
    config_values,
    read_config,
    read_normalisation,
    read_words,
)  # fmt: skip
from dove_core.encoding.encoder import RegionFeatures
from dove_core.encoding.preprocess import CenterSquare
from dove_core.errors import CheckpointError, reason_of
from dove_core.files import write_json
from dove_core.model.dove import CaptionFeatures, Dove, ImageFeatures
from dove_core.model.tokenizer import Tokenizer
from dove_core.model.tokens import padded

_CAPTIONS_AT_ONCE = 512


@dataclass(frozen=True)
class Checkpoint:
    """A DOVE model with its configuration and tokenizer."""

    model: Dove
    config: ModelConfig
    tokenizer: Tokenizer


def build(config: ModelConfig, tokenizer: Tokenizer) -> Checkpoint:
    """Make a new model for a vocabulary."""
    return Checkpoint(Dove(config, len(tokenizer)), config, tokenizer)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write weights, configuration and vocabulary into an existing folder, best within `files.atomic_folder`."""
    weights = {name: value.detach().cpu().contiguous() for name, value in checkpoint.model.state_dict().items()}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(weights))  # save_file makes files only the owner can read
    write_json(folder / CONFIG, config_values(checkpoint.config, checkpoint.model.trunk.normalisation))
    write_json(folder / VOCABULARY, {"format": FORMAT, "words": checkpoint.tokenizer.words})


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint from a folder; the model is on the CPU, in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged, of another format, or does not match the others.
    """
    config = read_config(folder)
    checkpoint = build(config, Tokenizer(read_words(folder), config.max_tokens))
    try:
        checkpoint.model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as error:
        message = f"{folder / WEIGHTS} cannot be read: {reason_of(error).splitlines()[0]}"
        hint = "the file is incomplete or from another model; copy or train the checkpoint again"
        raise CheckpointError(message, hint=hint) from error
    checkpoint.model.trunk.normalisation = read_normalisation(folder)
    checkpoint.model.eval()
    return checkpoint


class DoveEncoder:
    """An `Encoder` and `Reranker`: DOVE's global embeddings, and ROAM's scores of pairs.

    A model that is in training has no `fingerprint`.

    Raises:
        ValueError: the model is in training mode, in which dropout changes the embeddings.
    """

    family, explainer = FAMILY, None

    def __init__(self, checkpoint: Checkpoint, fingerprint: str = "") -> None:
        if checkpoint.model.training:
            raise ValueError("the model must be in evaluation mode: call model.eval()")
        self.checkpoint, self.model = checkpoint, checkpoint.model
        config = checkpoint.config
        self.dim, self.fingerprint, self.caption_field = config.embed_dim, fingerprint, config.caption_field
        self.preprocess = CenterSquare(config.image_size, checkpoint.model.trunk.normalisation)
        self.regions = config.region_grid**2 + (config.center_box == "center")

    @property
    def is_convolutional(self) -> bool:
        """Tell whether images are encoded by convolutions; a transformer has one, for its patches."""
        return sum(isinstance(module, torch.nn.Conv2d) for module in self.model.trunk.modules()) > 1

    @property
    def reranker(self) -> DoveEncoder:
        """The encoder itself, with ROAM's scores."""
        return self

    def to(self, device: torch.device) -> None:
        """Move the weights to a device."""
        self.model.to(device)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the global embeddings `v_M (B, D)` float32 of length 1."""
        return self.model.embed_images(pixels)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the global embeddings `t_G (C, D)` float32 of length 1."""
        return torch.cat([block.embedding for block in self._blocks(texts)])

    def describe_images(self, pixels: Tensor) -> ImageFeatures:
        """Return the features of images `(B, 3, S, S)` for ROAM."""
        return self.model.encode_images(pixels)

    def describe_texts(self, texts: Sequence[str]) -> CaptionFeatures:
        """Return the features of texts for ROAM, padded to the longest text."""
        blocks = list(self._blocks(texts))
        words = max(block.query.shape[2] for block in blocks)
        columns = zip(*(_padded(block, words) for block in blocks), strict=True)
        return CaptionFeatures(*(torch.cat(column) for column in columns))

    def describe_regions(self, pixels: Tensor) -> RegionFeatures:
        """Return `v_M (B, D)`, the regions `V_R (B, R, D)` and `v_MR (B, D)`."""
        images, regions = self.model.encode_regions(pixels)
        return RegionFeatures(images.embedding, regions, images.fused)

    def score_pairs(self, images: ImageFeatures, texts: CaptionFeatures) -> Tensor:
        """Return ROAM's scores `(B, C)`."""
        return self.model.score_pairs(images, texts)

    def save_text_side(self, folder: Path) -> None:
        """Write the weights of the text encoder and of IGA, the configuration and the vocabulary."""
        state = self.model.state_dict()
        weights = {name: state[name].cpu().contiguous() for name in state if name.startswith(TEXT_WEIGHTS)}
        (folder / WEIGHTS).write_bytes(safetensors.torch.save(weights))
        vocabulary = {"format": FORMAT, "words": self.checkpoint.tokenizer.words}
        config = config_values(self.checkpoint.config, self.model.trunk.normalisation)
        for name, content in ((CONFIG, config), (VOCABULARY, vocabulary)):
            (folder / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")

    def _blocks(self, texts: Sequence[str]) -> Iterator[CaptionFeatures]:
        """Encode texts in blocks, each padded to its longest text."""
        tokens, lengths = padded([self.checkpoint.tokenizer.encode(text) for text in texts])
        device = next(self.model.parameters()).device
        for start in range(0, len(texts), _CAPTIONS_AT_ONCE):
            rows = slice(start, start + _CAPTIONS_AT_ONCE)
            longest = int(lengths[rows].max())
            yield self.model.encode_captions(tokens[rows, :longest].to(device), lengths[rows])


def _padded(block: CaptionFeatures, words: int) -> CaptionFeatures:
    missing = words - block.query.shape[2]
    query = torch.nn.functional.pad(block.query, (0, 0, 0, missing))
    return block._replace(query=query, weight=torch.nn.functional.pad(block.weight, (0, missing)))
