"""Loading of an encoder, or of its text side, of any family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dove_core.addresses import Address, place_of
from dove_core.encoding.checkpoint import checkpoint_here
from dove_core.encoding.families import family_of
from dove_core.errors import CheckpointError
from dove_core.files import fingerprint_of_files

if TYPE_CHECKING:
    from dove_core.encoding.encoder import Encoder
    from dove_core.encoding.text_side import TextSide


def load_encoder(address: Address) -> Encoder:
    """Load a checkpoint of any family on the CPU, in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged, of another format, or does not match the others.
        UsageError, DownloadError: the bucket cannot be read.

    >>> dove.load_encoder("runs/shapes/best").family
    'dove'
    """
    with checkpoint_here(place_of(address)) as (folder, family):
        try:
            fingerprint = fingerprint_of_files(folder, family.files)
        except OSError as error:
            hint = "copy or train the checkpoint again"
            raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}", hint=hint) from error
        return family.load(folder, fingerprint)


def load_text_side(folder: Path) -> TextSide:
    """Load the text side of a model, without torch, from a checkpoint or from `words/` of an index.

    Raises:
        CheckpointError: a file is missing or damaged, or the family is not installed.
    """
    return family_of(folder).load_text_side(folder)
