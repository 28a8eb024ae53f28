"""A run folder: settings, metrics, and the checkpoints `last/` and `best/`."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dove_core.bounds import option_name
from dove_core.config import FineTuneConfig, ModelConfig, TrainConfig
from dove_core.errors import CheckpointError, TrainingError, UsageError, reason_of
from dove_core.files import atomic_folder, make_folder, read_json, settled_folder, write_json
from dove_core.train_config import OF_DOVE
from dove_core.training.initial_checkpoint import InitialCheckpoint
from dove_core.training.journal import COMMANDS, METRICS
from dove_core.training.storage import RunStorage

FORMAT = 1
STATE, SETTINGS = "training.pt", "settings.json"
CHANGEABLE = ("epochs", "validate_every", "save_steps", "max_steps")
"""Settings that may change when a run is resumed: how long to train and how often to save, not what is learned."""


@dataclass(frozen=True)
class RunSettings:
    """Settings that a run was started with; `--resume` keeps them. `data` is the fingerprint of its shards.

    If it starts from a CLIP model, `settings.json` has the caption field and no other setting of DOVE.
    """

    shards: str
    data: str
    validation: str | None
    model: ModelConfig
    training: TrainConfig
    start: InitialCheckpoint | None = None
    tuning: FineTuneConfig = FineTuneConfig()

    def changed(self, changes: Mapping[str, Any]) -> RunSettings:
        """Return the settings with changes for a resumed run.

        Raises:
            UsageError: a setting was changed that is not in `CHANGEABLE`.
        """
        parts = (self.model, self.training, self.tuning)
        own = {name: value for part in parts for name, value in dataclasses.asdict(part).items()}
        for name, value in changes.items():
            if name not in CHANGEABLE and own[name] != value:
                hint = f"leave it out; a resumed run can change {', '.join(map(option_name, CHANGEABLE))}"
                raise UsageError(f"{option_name(name)} {value}: this run was started with {own[name]}", hint=hint)
        training = {name: value for name, value in changes.items() if name in CHANGEABLE}
        return dataclasses.replace(self, training=dataclasses.replace(self.training, **training))

    def write(self, run: Path) -> None:
        """Write `settings.json`."""
        values = dataclasses.asdict(self)
        if self.start is not None and self.start.is_clip:
            values["model"] = {"caption_field": self.model.caption_field}
            values["training"] = {name: value for name, value in values["training"].items() if name not in OF_DOVE}
        write_json(run / SETTINGS, {"format": FORMAT, **values})

    @classmethod
    def read(cls, run: Path) -> RunSettings:
        """Read `settings.json` of a run folder.

        Raises:
            CheckpointError: it is missing, damaged or of another format.
        """
        hint = "a run folder is made by `dove train`"
        values = read_json(run / SETTINGS, CheckpointError, hint=hint)
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']}")
            model, training = ModelConfig(**values["model"]), TrainConfig(**values["training"])
            start = InitialCheckpoint(**values["start"]) if values.get("start") else None  # an earlier version has none
            tuning = FineTuneConfig(**values.get("tuning", {}))
            settings = cls(values["shards"], values["data"], values["validation"], model, training, start, tuning)
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise CheckpointError(f"{run / SETTINGS} does not fit this version: {error}", hint=hint) from error
        return settings


@dataclass(frozen=True)
class Position:
    """How far a run is: it has seen `samples` samples of `epoch`, and taken `steps` steps since the start."""

    epoch: int = 0
    samples: int = 0
    steps: int = 0


def save_best(run: Path, save: Callable[[Path], None]) -> None:
    """Write the checkpoint to `run/best` by `save(folder)`; if this fails, the earlier one stays.

    Raises:
        SpaceError: the disk is full.
    """
    with atomic_folder(run / "best") as folder:
        save(folder)


def save_last(run: Path, save: Callable[[Path], None], position: Position, parts: Mapping[str, Any]) -> None:
    """Write the checkpoint and the state for a resume to `run/last`; if this fails, the earlier one stays.

    Raises:
        SpaceError: the disk is full.
    """
    with atomic_folder(run / "last") as folder:
        save(folder)
        with (folder / STATE).open("wb") as stream:  # given a path, torch would hide why writing failed
            torch.save({"format": FORMAT, "position": dataclasses.asdict(position), **parts}, stream)


def load_state(run: Path) -> tuple[Position, dict[str, Any]]:
    """Read the position of `run/last`, and the state of its optimizer and scaler.

    Raises:
        CheckpointError: the state is missing or damaged.
    """
    path = settled_folder(run / "last") / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state.pop("format") != FORMAT:
            raise ValueError("another format")
        return Position(**state.pop("position")), state
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist", hint="start the run without --resume") from None
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {reason_of(error)}", hint="start the run again without --resume"
        ) from error


def refuse_existing_run(storage: RunStorage) -> None:
    """Check that a new run does not overwrite an earlier one.

    Raises:
        TrainingError: the folder or bucket has a checkpoint already.
    """
    if storage.has("last"):
        hint = "continue it with --resume, or choose another name with --run"
        raise TrainingError(f"{storage.location} holds a trained run", hint=hint)


def start_run_folder(run: Path, settings: RunSettings) -> None:
    """Write the settings of a new run, and remove what an earlier run without a checkpoint left."""
    make_folder(run)
    settings.write(run)
    for name in (METRICS, COMMANDS):
        (run / name).unlink(missing_ok=True)
