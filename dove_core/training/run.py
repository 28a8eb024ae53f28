"""A run folder: settings, metrics, and the checkpoints `last/` and `best/`."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dove_core.bounds import option_name
from dove_core.config import ModelConfig, TrainConfig
from dove_core.encoding.dove import Checkpoint, save_checkpoint
from dove_core.errors import CheckpointError, TrainingError, UsageError
from dove_core.files import atomic_folder, make_folder, read_json, settled_folder, write_json
from dove_core.training.home import Home
from dove_core.training.journal import COMMANDS, METRICS

FORMAT = 1
STATE, SETTINGS = "training.pt", "settings.json"
CHANGEABLE = ("epochs", "validate_every", "save_steps", "max_steps")
"""Settings that may differ when a run is resumed: how long, how often; never what is learned from what."""


@dataclass(frozen=True)
class RunSettings:
    """What a run was started with; `--resume` goes on with the same. `data` is the fingerprint of its shards."""

    shards: str
    data: str
    validation: str | None
    model: ModelConfig
    training: TrainConfig

    def changed(self, changes: Mapping[str, Any]) -> RunSettings:
        """Return settings with a resumed run's changes.

        Raises:
            UsageError: a change that would make it another run.
        """
        own = {**dataclasses.asdict(self.model), **dataclasses.asdict(self.training)}
        for name, value in changes.items():
            if name not in CHANGEABLE and own[name] != value:
                hint = f"leave it out; a resumed run can change {', '.join(map(option_name, CHANGEABLE))}"
                raise UsageError(f"{option_name(name)} {value}: this run was started with {own[name]}", hint=hint)
        training = {name: value for name, value in changes.items() if name in CHANGEABLE}
        return dataclasses.replace(self, training=dataclasses.replace(self.training, **training))

    def write(self, run: Path) -> None:
        """Write `settings.json`."""
        write_json(run / SETTINGS, {"format": FORMAT, **dataclasses.asdict(self)})

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
            settings = cls(values["shards"], values["data"], values["validation"], model, training)
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise CheckpointError(f"{run / SETTINGS} does not fit this version: {error}", hint=hint) from error
        return settings


@dataclass(frozen=True)
class Position:
    """How far a run is: `samples` of `epoch` are seen, after `steps` steps in all."""

    epoch: int = 0
    samples: int = 0
    steps: int = 0


def save_best(run: Path, checkpoint: Checkpoint) -> None:
    """Write `run/best`: the checkpoint, finished or as it was before.

    Raises:
        SpaceError: the disk is full; the checkpoint before is kept.
    """
    with atomic_folder(run / "best") as folder:
        save_checkpoint(folder, checkpoint)


def save_last(run: Path, checkpoint: Checkpoint, position: Position, parts: Mapping[str, Any]) -> None:
    """Write `run/last`: the checkpoint and what a resume needs; finished or as it was before.

    Raises:
        SpaceError: the disk is full; the checkpoint before is kept.
    """
    with atomic_folder(run / "last") as folder:
        save_checkpoint(folder, checkpoint)
        with (folder / STATE).open("wb") as stream:  # a path would hide from us why writing failed
            torch.save({"format": FORMAT, "position": dataclasses.asdict(position), **parts}, stream)


def load_state(run: Path) -> tuple[Position, dict[str, Any]]:
    """Read where `run/last` stopped, and the state of its optimizer and scaler.

    Raises:
        CheckpointError: there is nothing to go on from, or it is damaged.
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
        raise CheckpointError(f"{path} cannot be read: {error}", hint="start the run again without --resume") from error


def hold_new(run: Home) -> None:
    """Refuse to train over an earlier run.

    Raises:
        TrainingError: there is a checkpoint in the folder already.
    """
    if run.has("last"):
        raise TrainingError(
            f"{run.location} holds a trained run", hint="go on with --resume, or name another one with --run"
        )


def open_new(run: Path, settings: RunSettings) -> None:
    """Start a run folder."""
    make_folder(run)
    settings.write(run)
    for name in (METRICS, COMMANDS):
        (run / name).unlink(missing_ok=True)
