"""Loading of the model that made an index."""

from __future__ import annotations

from dove_core.encoding.encoder import Encoder
from dove_core.encoding.load import load_encoder
from dove_core.errors import SearchIndexError
from dove_core.index.searchable import Searchable


def encoder_of(index: Searchable) -> Encoder:
    """Load the model that made an index on the CPU, and check its fingerprint.

    Raises:
        SearchIndexError: the checkpoint is not the model that made the index.
        CheckpointError: the checkpoint is missing or damaged.
    """
    encoder, wanted = load_encoder(index.checkpoint), index.fingerprint
    if encoder.fingerprint != wanted:
        message = f"{index.name} was made by the model {wanted}; {index.checkpoint} is {encoder.fingerprint}"
        hint = "give the model of the index with --checkpoint, or embed again with `dove embed --overwrite`"
        raise SearchIndexError(message, hint=hint)
    return encoder
