"""The model that made an index, loaded and checked against it."""

from __future__ import annotations

from dove_core.encoding.encoder import Encoder
from dove_core.encoding.load import load_encoder
from dove_core.errors import SearchIndexError
from dove_core.index.searchable import Searchable
from dove_core.places import Place


def encoder_of(index: Searchable, checkpoint: Place | None = None) -> Encoder:
    """Load the model that made an index, on the CPU.

    Args:
        index: the index.
        checkpoint: where the model is now, if it was moved.

    Raises:
        SearchIndexError: the checkpoint is another model than the one that made the index.
        CheckpointError: it is missing or damaged.
    """
    place = checkpoint or index.checkpoint
    encoder, wanted = load_encoder(place), index.fingerprint
    if encoder.fingerprint != wanted:
        message = f"{index.name} was made by the model {wanted}; {place} is {encoder.fingerprint}"
        hint = "embed again with this model (`dove embed --overwrite`), or give the earlier one with --checkpoint"
        raise SearchIndexError(message, hint=hint)
    return encoder
