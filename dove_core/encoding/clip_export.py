"""From a checkpoint of the family `clip` to a folder that open_clip loads by itself."""

from __future__ import annotations

from pathlib import Path

from dove_core.addresses import Address, place_of
from dove_core.encoding.checkpoint import checkpoint_here
from dove_core.encoding.clip_config import TOKENIZER, WEIGHTS, read_config
from dove_core.encoding.families import ClipFamily
from dove_core.errors import UsageError
from dove_core.files import LocalPath, atomic_folder, link_or_copy, write_json

CONFIG_OF_OPEN_CLIP, WEIGHTS_OF_OPEN_CLIP = "open_clip_config.json", "open_clip_model.safetensors"


def export_open_clip(checkpoint: Address, out: LocalPath, *, overwrite: bool = False) -> Path:
    """Write a CLIP checkpoint as open_clip reads it: `open_clip.create_model_and_transforms("local-dir:FOLDER")`.

    Args:
        checkpoint: folder or address of a checkpoint of the family `clip`.
        out: folder to write.
        overwrite: replace `out` if it exists.

    Returns:
        The folder. Weights are linked where the disk allows, otherwise copied.

    Raises:
        UsageError: the checkpoint is of another family, or `out` exists.
        CheckpointError: the checkpoint is missing or damaged.
        SpaceError: the disk is full.

    >>> import pathlib
    >>> folder = dove.export_open_clip("models/small", "exported")
    >>> sorted(path.name for path in pathlib.Path(folder).iterdir())
    ['open_clip_config.json', 'open_clip_model.safetensors', 'tokenizer.json']
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already", hint="choose another --out, or replace it with --overwrite")
    with checkpoint_here(place_of(checkpoint)) as (folder, family):
        if not isinstance(family, ClipFamily):
            message = f"{checkpoint} is not a CLIP model: open_clip cannot load it"
            raise UsageError(message, hint="choose a model of the family clip, such as one in models/")
        config = read_config(folder)
        with atomic_folder(out) as aside:
            link_or_copy(folder / WEIGHTS, aside / WEIGHTS_OF_OPEN_CLIP)
            link_or_copy(folder / TOKENIZER, aside / TOKENIZER)
            write_json(aside / CONFIG_OF_OPEN_CLIP, config.open_clip_config())
    return out
