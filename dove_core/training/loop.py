"""train() and resume(): from shards to a run folder with `last/` and `best/`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from dove_core.addresses import Address, place_of
from dove_core.allocator import freed_memory_kept
from dove_core.config import CacheConfig, ComputeConfig, FineTuneConfig, LaunchConfig, ModelConfig, TrainConfig
from dove_core.data.reader import Shards
from dove_core.errors import CheckpointError, DataError, TrainingError, UsageError
from dove_core.events import Noted, Report, Skipped, silent
from dove_core.files import settled_folder
from dove_core.places import Place
from dove_core.training.initial_checkpoint import check_settings, read_initial
from dove_core.training.journal import COMMANDS, note_command
from dove_core.training.launch import joins_others, launch
from dove_core.training.opening import begin, reopen, unknown_words
from dove_core.training.result import TrainResult
from dove_core.training.run import SETTINGS, RunSettings, refuse_existing_run, start_run_folder
from dove_core.training.storage import RunStorage
from dove_core.training.trainable import Trainable
from dove_core.training.trainer import Trainer
from dove_core.training.world import World


@dataclass(frozen=True)
class TrainingJob:
    """One training, as every process gets it."""

    run: Place
    settings: RunSettings
    compute: ComputeConfig
    resumed: bool = False
    command: str = ""
    cache: CacheConfig = CacheConfig()


def train(
    shards: Address,
    run: Address,
    model: ModelConfig = ModelConfig(),
    training: TrainConfig = TrainConfig(),
    compute: ComputeConfig = ComputeConfig(),
    *,
    start: Address | None = None,
    tuning: FineTuneConfig = FineTuneConfig(),
    validation: Address | None = None,
    launching: LaunchConfig = LaunchConfig(),
    cache: CacheConfig = CacheConfig(),
    command: str = "",
    report: Report = silent,
) -> TrainResult | None:
    """Train a model on a split and store it in `run`.

    It is a new DOVE, or the DOVE or CLIP model of the checkpoint `start`. The default learning rate is for a new DOVE;
    a trained CLIP model needs one near 5e-6, as in the recipe clip-retrieval.

    Args:
        shards: folder of the training split.
        run: local folder or bucket for settings, metrics and checkpoints.
        model: shape of the model; with `start`, only the caption field, since a checkpoint has its shape.
        training: how it learns.
        compute: device and precision.
        start: checkpoint to start from.
        tuning: how the towers of a CLIP model are trained.
        validation: folder of the split that chooses `best/`, by mean recall of the global scores. Without one, `best/`
            is the last epoch.
        launching: number of processes on this machine (CPU processes with `device="cpu"`); under torchrun and srun,
            their number of processes is used.
        cache: where local copies of shards and runs in buckets are kept.
        command: the command line, to be stored in the run folder.
        report: receives progress.

    Returns:
        The result; None in all but the first process of torchrun or srun.

    Raises:
        UsageError: a setting is out of bounds or has no effect on this model, or there are fewer GPUs.
        DataError: shards are missing or damaged.
        CheckpointError: `start` or initial weights are missing or damaged, or belong to another backbone.
        DownloadError: ImageNet weights cannot be downloaded.
        TrainingError: the run exists, there are too few samples, the loss is not finite, processes died too often.
        SpaceError: the disk is full.

    >>> model = dove.ModelConfig(backbone="resnet18", image_size=32, embed_dim=32, heads=4)
    >>> training = dove.TrainConfig(weights="none", epochs=1, batch_size=16)
    >>> result = dove.train("shards/shapes/train", "runs/tiny", model, training, validation="shards/shapes/val")
    >>> result.steps
    3
    """
    split, storage = place_of(shards, cache), RunStorage(place_of(run, cache), cache)
    chosen = None if validation is None else _absolute(validation)
    found = None
    if start is not None:
        found, model = read_initial(place_of(start, cache), model)
    check_settings(found, training, tuning)
    data = Shards(split).manifest.fingerprint
    settings = RunSettings(_absolute(split), data, chosen, model, training, found, tuning)
    if not (joins_others() and _was_started_with(settings, storage)):
        refuse_existing_run(storage)
    _check_splits(settings, cache)
    job = TrainingJob(storage.location, settings, compute, command=command, cache=cache)
    return launch(launching, compute.device, partial(run_job, job), report=report)


def resume(
    run: Address,
    compute: ComputeConfig = ComputeConfig(),
    *,
    changes: Mapping[str, Any] = MappingProxyType({}),
    shards: Address | None = None,
    validation: Address | None = None,
    start: Address | None = None,
    launching: LaunchConfig = LaunchConfig(),
    cache: CacheConfig = CacheConfig(),
    command: str = "",
    report: Report = silent,
) -> TrainResult | None:
    """Continue a run from `last/`, with the same samples in the same order.

    A run that ended before it was saved for the first time starts from the beginning, with its own settings.

    Args:
        run: local folder or bucket of the run.
        compute: device and precision.
        changes: settings given again; only those of `dove_core.training.run.CHANGEABLE` may differ.
        shards: where the training split is now, if it was moved.
        validation: another validation split, or where it is now.
        start: the checkpoint that the run started from, if it is given again.
        launching: number of processes; may differ from before.
        cache: where local copies of shards and runs in buckets are kept.
        command: the command line, to be stored in the run folder.
        report: receives progress.

    Raises:
        CheckpointError: there is no run, or it has `best/` and no `last/`.
        DataError: the shards are not those of the run.
        TrainingError: the run is finished. And everything that `train` raises.

    >>> dove.resume("runs/stopped", changes={"max_steps": 2}).steps
    2
    """
    storage = RunStorage(place_of(run, cache), cache)
    storage.download()
    settings = RunSettings.read(storage.path).changed(changes)
    if start is not None and (settings.start is None or settings.start.address != _absolute(start)):
        origin = "random or ImageNet weights" if settings.start is None else settings.start.address
        raise UsageError(f"--from {start}: this run was started from {origin}", hint="leave out --from")
    if storage.has("best") and not storage.has("last"):
        best = storage.address_of("best")
        hint = f"train {best} further as another run with --from, or start this one again without --resume"
        raise CheckpointError(f"{storage.location} cannot be resumed: it has best/ and no last/", hint=hint)
    settings = dataclasses.replace(
        settings,
        shards=str(place_of(shards)) if shards else settings.shards,
        validation=_absolute(validation) if validation else settings.validation,
    )
    _check_splits(settings, cache)
    job = TrainingJob(storage.location, settings, compute, resumed=True, command=command, cache=cache)
    return launch(launching, compute.device, partial(run_job, job), report=report)


def is_run(address: Address, cache: CacheConfig = CacheConfig()) -> bool:
    """Tell whether a run was started at an address, so that it can be resumed.

    Raises:
        UsageError, DownloadError: the bucket cannot be reached, or denies access.
    """
    return place_of(address, cache).has(SETTINGS)


def _absolute(address: Address) -> str:
    """Return a path or address that is valid in any working folder."""
    return str(place_of(address).absolute)


def _was_started_with(settings: RunSettings, storage: RunStorage) -> bool:
    """Tell whether the run exists and has the same settings.

    torchrun starts the same command again when a process died or a machine came; it has to continue its own run.
    """
    storage.download()
    return (storage.path / SETTINGS).exists() and RunSettings.read(storage.path) == settings


def _check_splits(settings: RunSettings, cache: CacheConfig) -> None:
    """Check both splits before any process starts."""
    shards = Shards(place_of(settings.shards, cache))
    shards.choose_field(settings.model.caption_field)
    if shards.manifest.fingerprint != settings.data:
        hint = "give the shards of the run with --shards, or start a new one with --run"
        raise DataError(f"{shards.folder} differs from the shards that this run was started with", hint=hint)
    if settings.validation:
        Shards(place_of(settings.validation, cache)).choose_field(settings.model.caption_field)


def run_job(job: TrainingJob, world: World, report: Report) -> TrainResult:
    """Do one process's share of a training."""
    settings = job.settings
    torch.manual_seed(settings.training.seed)
    storage = RunStorage(job.run, job.cache)
    storage.download()
    world.barrier()  # before one of them writes
    shards, field = _shards_with_captions(job, world, report)
    has_checkpoint = settled_folder(storage.path / "last").exists()  # without `resumed`: of this launch
    if job.resumed and not has_checkpoint and not world.restarts:
        report(Noted(f"{storage.location} was not saved yet: starting from the beginning with its settings"))
    if world.restarts or (has_checkpoint and not job.resumed):
        start = "last/" if has_checkpoint else "the start"
        report(Noted(f"processes were started again and continue from {start}"))
    resumed = has_checkpoint
    _check_same(world, (settings.data, resumed), "other shards or another run folder")
    trainable = _open_run(job, world, storage, resumed, shards, field)
    if world.first and settings.start and not resumed and (note := unknown_words(trainable, shards, field)):
        report(Noted(note))
    try:
        trainer = Trainer(world, report, storage, settings, job.compute, shards, field, trainable, resumed)
        _check_same(world, trainer.position, f"another {storage.address_of('last')}")
        with freed_memory_kept(world.device.type == "cpu"):
            return trainer.train()
    except torch.OutOfMemoryError as error:
        is_clip = settings.start is not None and settings.start.is_clip
        less = "lower --batch-size, or give --grad-checkpointing" if is_clip else "lower --batch-size or --image-size"
        hint = f"{less}; --resume continues from last/"
        raise TrainingError("the GPU's memory is full", hint=hint) from error


def _shards_with_captions(job: TrainingJob, world: World, report: Report) -> tuple[Shards, str]:
    """Return the samples that have captions of the chosen field, and the field."""
    every = Shards(place_of(job.settings.shards, job.cache))
    field = every.choose_field(job.settings.model.caption_field)
    shards = every.with_captions(field)
    if len(shards) < 2 * world.size:
        message = f"{shards.folder} has {len(shards)} images for {world.size} process(es)"
        raise TrainingError(message, hint="each process needs two or more; use fewer processes or more images")
    if len(shards) < len(every):
        report(Skipped("training", f"no caption {field!r}", len(every) - len(shards), str(every.folder)))
    if world.first and field != job.settings.model.caption_field:
        report(Noted(f"{shards.folder} has one kind of captions, {field!r}: training with it"))
    return shards, field


def _open_run(
    job: TrainingJob, world: World, storage: RunStorage, resumed: bool, shards: Shards, field: str
) -> Trainable:
    """Return the model to start from; the first process writes the settings."""
    run = storage.path
    if resumed:
        trainable = reopen(settled_folder(run / "last"), job.settings, world.gather)
        if world.first:
            job.settings.write(run)
    else:
        trainable = begin(job.settings, shards, field, job.cache, world.gather)
        if world.first:
            start_run_folder(run, job.settings)
    if world.first:
        note_command(run, job.command)
        storage.upload(SETTINGS)
        storage.upload(COMMANDS)
    world.barrier()
    return trainable


def _check_same(world: World, found: object, what: str) -> None:
    """Check that all processes found the same, as they do on one file system."""
    if len(set(world.gather_objects(found))) > 1:
        hint = "run folder and shards have to be on a file system that all machines share, under the same path"
        raise TrainingError(f"processes that train together found {what}", hint=hint)
