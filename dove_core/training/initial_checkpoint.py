"""The checkpoint that a run starts from, and which settings its family has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dove_core.addresses import Address, place_of
from dove_core.bounds import Settings, option_name
from dove_core.config import FineTuneConfig, ModelConfig, TrainConfig
from dove_core.encoding import clip_config, dove_text
from dove_core.encoding.checkpoint import checkpoint_here
from dove_core.encoding.families import ClipFamily, DoveFamily
from dove_core.errors import CheckpointError, UsageError
from dove_core.files import fingerprint_of_files
from dove_core.train_config import OF_DOVE

_OF_MODEL = tuple(field.name for field in dataclasses.fields(ModelConfig) if field.name != "caption_field")
_OF_START = ("weights", "input_scaling", "min_word_count")


@dataclass(frozen=True)
class InitialCheckpoint:
    """A checkpoint that a run starts from: its address, family and fingerprint."""

    address: str
    family: str
    fingerprint: str

    @property
    def is_clip(self) -> bool:
        """Tell whether it is a model of open_clip."""
        return self.family == clip_config.FAMILY


def read_initial(address: Address, model: ModelConfig) -> tuple[InitialCheckpoint, ModelConfig]:
    """Return the checkpoint at an address, and the model's settings: those of the checkpoint, for captions of `model`.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or its family cannot be trained.
        UsageError: a setting of `model` was given that the checkpoint has already.
    """
    place = place_of(address)
    with checkpoint_here(place) as (folder, family):
        fingerprint = fingerprint_of_files(folder, family.files)
        if isinstance(family, DoveFamily):
            name, own = dove_text.FAMILY, dove_text.read_config(folder)
            field = own.caption_field
        elif isinstance(family, ClipFamily):
            name, own = clip_config.FAMILY, ModelConfig()
            field = clip_config.read_config(folder).caption_field
        else:
            message = f"{place} is of a family that `dove train` cannot train"
            raise CheckpointError(message, hint="start from a checkpoint of DOVE or of a CLIP model")
    refuse(model, _OF_MODEL, f"{place} has its own")
    if field and model.caption_field == ModelConfig().caption_field:
        model = dataclasses.replace(model, caption_field=field)
    return InitialCheckpoint(str(place.absolute), name, fingerprint), dataclasses.replace(
        own, caption_field=model.caption_field
    )


def check_settings(start: InitialCheckpoint | None, training: TrainConfig, tuning: FineTuneConfig) -> None:
    """Check that no setting was given which has no effect on this model.

    Raises:
        UsageError: a setting is of another family, or of a model that starts from random weights.
    """
    if start is None or not start.is_clip:
        refuse(tuning, (field.name for field in dataclasses.fields(tuning)), "only a CLIP model has it: give --from")
    if start is not None:
        why = (
            f"{start.address} is a CLIP model, which does not have it"
            if start.is_clip
            else f"{start.address} has its own"
        )
        refuse(training, OF_DOVE if start.is_clip else _OF_START, why)


def refuse(settings: Settings, names: Iterable[str], why: str) -> None:
    """Check that settings have their defaults.

    Raises:
        UsageError: one has another value; `why` it may not.
    """
    default: Any = type(settings)()
    for name in names:
        if (value := getattr(settings, name)) != getattr(default, name):
            raise UsageError(
                f"{option_name(name)} {value}: {why}", hint=f"leave out {option_name(name)}, or the recipe that sets it"
            )
