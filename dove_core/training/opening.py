"""The model that a run starts from or continues with."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

from dove_core.addresses import place_of
from dove_core.config import CacheConfig
from dove_core.data.reader import Shards
from dove_core.encoding.checkpoint import checkpoint_here
from dove_core.encoding.clip import ClipEncoder, load_clip
from dove_core.encoding.dove import Checkpoint, build, read_checkpoint
from dove_core.errors import TrainingError
from dove_core.files import fingerprint_of_files
from dove_core.model.tokenizer import Tokenizer, split_words
from dove_core.training.clip import ClipTrainable
from dove_core.training.dove import DoveTrainable
from dove_core.training.initial_checkpoint import InitialCheckpoint
from dove_core.training.initial_weights import load_initial_weights
from dove_core.training.run import RunSettings
from dove_core.training.trainable import Gather, Trainable


def begin(settings: RunSettings, shards: Shards, field: str, cache: CacheConfig, gather: Gather) -> Trainable:
    """Return a new model, or that of the run's initial checkpoint, trained on captions of `field`.

    Raises:
        CheckpointError: the initial checkpoint or a file of weights is missing or damaged, or does not fit.
        DownloadError: ImageNet weights cannot be downloaded.
        TrainingError: the captions have no words, or the initial checkpoint changed.
    """
    start = settings.start
    if start is None:
        return _trainable(_new_model(shards, field, settings), settings, gather)
    with checkpoint_here(place_of(start.address, cache)) as (folder, family):
        if fingerprint_of_files(folder, family.files) != start.fingerprint:
            message = f"{start.address} is not the checkpoint any more that this run was started from"
            raise TrainingError(message, hint="start another run with --run")
        model = _read(folder, is_clip=start.is_clip)
    if isinstance(model, ClipEncoder):
        origin = f"{start.address}, trained further by dove; before: {model.config.origin}"
        model.config = dataclasses.replace(model.config, origin=origin, sha256="", caption_field=field)
    else:
        model = dataclasses.replace(model, config=settings.model)
    return _trainable(model, settings, gather)


def reopen(folder: Path, settings: RunSettings, gather: Gather) -> Trainable:
    """Return the model of a run's checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    return _trainable(_read(folder, is_clip=_is_clip(settings.start)), settings, gather)


def unknown_words(trainable: Trainable, shards: Shards, field: str) -> str:
    """Return a note about the words of captions that the vocabulary of a model lacks; "" if it has all, or subwords."""
    tokenizer = trainable.tokenizer
    if not isinstance(tokenizer, Tokenizer):
        return ""
    captions = itertools.chain.from_iterable(shards.captions(field))
    words = Counter(word for caption in captions for word in split_words(caption))
    unknown = [word for word, _ in words.most_common() if tokenizer.unknown_words(word)]
    if not unknown:
        return ""
    share = sum(words[word] for word in unknown) / words.total()
    return (
        f"the vocabulary of the checkpoint lacks {len(unknown)} of the {len(words)} words of the captions "
        f"({share:.1%} of the text), such as {', '.join(unknown[:3])}; it stays, and they all count as one unknown word"
    )


def _is_clip(start: InitialCheckpoint | None) -> bool:
    return start is not None and start.is_clip


def _read(folder: Path, *, is_clip: bool) -> Checkpoint | ClipEncoder:
    return load_clip(folder) if is_clip else read_checkpoint(folder)


def _trainable(model: Checkpoint | ClipEncoder, settings: RunSettings, gather: Gather) -> Trainable:
    if isinstance(model, ClipEncoder):
        return ClipTrainable(model, settings.training, settings.tuning, gather)
    return DoveTrainable(model, settings.training, gather)


def _new_model(shards: Shards, field: str, settings: RunSettings) -> Checkpoint:
    captions = itertools.chain.from_iterable(shards.captions(field))
    count = settings.training.min_word_count
    tokenizer = Tokenizer.learn(captions, min_count=count, max_tokens=settings.model.max_tokens)
    if not tokenizer.words:
        raise TrainingError(f"no word of {shards.folder} occurs {count} times", hint="lower --min-word-count")
    checkpoint = build(settings.model, tokenizer)
    load_initial_weights(checkpoint.model.trunk, settings.training.weights, settings.training.input_scaling)
    return checkpoint
