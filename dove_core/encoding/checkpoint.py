"""A checkpoint: weights (safetensors), the model's configuration and its vocabulary, in one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from dove_core.config import ModelConfig
from dove_core.errors import CheckpointError, UsageError
from dove_core.files import read_json, read_record, settled_folder, write_json, write_record
from dove_core.model.dove import Dove
from dove_core.model.tokenizer import Tokenizer
from dove_core.places import Location, Place

FORMAT = 1
WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "model.json", "vocabulary.json"
_HINT = "a checkpoint is a folder such as runs/NAME/best, made by `dove train`"


@dataclass(frozen=True)
class Checkpoint:
    """A model with all it needs to be used; `fingerprint` is 16 hexadecimal digits over the three files."""

    model: Dove
    config: ModelConfig
    tokenizer: Tokenizer
    fingerprint: str = ""


def build(config: ModelConfig, tokenizer: Tokenizer) -> Checkpoint:
    """Make a fresh model for a vocabulary; it has no fingerprint until it is saved and read."""
    return Checkpoint(Dove(config, len(tokenizer)), config, tokenizer)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the three files into an existing folder (use `dove_core.files.atomic_folder` around it)."""
    weights = {name: value.detach().cpu().contiguous() for name, value in checkpoint.model.state_dict().items()}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(weights))  # save_file makes files only the owner can read
    write_record(folder / CONFIG, checkpoint.config, FORMAT)
    write_json(folder / VOCABULARY, {"format": FORMAT, "words": checkpoint.tokenizer.words})


@contextmanager
def checkpoint_here(location: Location) -> Iterator[Path]:
    """Give a checkpoint's folder on this machine: its own, or one with copies of the three files from a bucket.

    Raises:
        CheckpointError: the bucket holds none there.
        UsageError, DownloadError: the bucket cannot be reached, or refuses.
    """
    if isinstance(location, Path):
        yield settled_folder(location)
        return
    try:
        copies = settled_place(location).hold([WEIGHTS, VOCABULARY, CONFIG])
    except FileNotFoundError as error:
        raise CheckpointError(str(error), hint=_HINT) from None
    with copies:
        yield copies.folder


def settled_place(place: Place) -> Place:
    """Return a place, or the older one beside it if the checkpoint there is not whole: the configuration comes last."""
    old = place.parent / f"{place.name}.old"
    return old if not place.has(CONFIG) and old.has(CONFIG) else place


def load_checkpoint(location: Location) -> Checkpoint:
    """Read a checkpoint from a folder or a bucket, its model on the CPU in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged, of another format, or does not fit the others.
        UsageError, DownloadError: the bucket cannot be reached, or refuses.
    """
    with checkpoint_here(location) as folder:
        return _load(folder)


def _load(folder: Path) -> Checkpoint:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder", hint=_HINT)
    try:
        config = read_record(folder / CONFIG, ModelConfig, FORMAT, CheckpointError, hint=_HINT)
    except UsageError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error.message}", hint=_HINT) from error
    checkpoint = build(config, Tokenizer(_read_words(folder / VOCABULARY), config.max_tokens))
    try:
        checkpoint.model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as error:
        message = f"{folder / WEIGHTS} cannot be read: {str(error).splitlines()[0]}"
        raise CheckpointError(
            message, hint="the file is incomplete or of another model; copy or train it again"
        ) from error
    checkpoint.model.eval()
    return Checkpoint(checkpoint.model, config, checkpoint.tokenizer, fingerprint_of(folder))


def fingerprint_of(folder: Path) -> str:
    """Return 16 hexadecimal digits that change when weights, configuration or vocabulary do."""
    digest = hashlib.sha256()
    for name in (WEIGHTS, CONFIG, VOCABULARY):
        with (folder / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _read_words(path: Path) -> list[str]:
    content = read_json(path, CheckpointError, hint=_HINT)
    words = content.get("words") if isinstance(content, dict) and content.get("format") == FORMAT else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{path} is not a vocabulary of format {FORMAT}", hint=_HINT)
    return words
