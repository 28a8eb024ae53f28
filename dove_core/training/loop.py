"""train() and resume(): from shards to a run folder with `last/` and `best/`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

from dove_core.addresses import Address, place_of
from dove_core.config import CacheConfig, ComputeConfig, LaunchConfig, ModelConfig, TrainConfig
from dove_core.data.reader import Shards
from dove_core.encoding.dove import Checkpoint, build, read_checkpoint
from dove_core.errors import DataError, TrainingError
from dove_core.events import Noted, Report, Skipped, silent
from dove_core.files import settled_folder
from dove_core.model.tokenizer import Tokenizer
from dove_core.places import Place
from dove_core.training.home import Home
from dove_core.training.journal import COMMANDS, note_command
from dove_core.training.launch import launch, restarted
from dove_core.training.run import SETTINGS, RunSettings, hold_new, open_new
from dove_core.training.trainer import Trainer, TrainResult
from dove_core.training.world import World


def train(
    shards: Address,
    run: Address,
    model: ModelConfig = ModelConfig(),  # noqa: B008  # frozen
    training: TrainConfig = TrainConfig(),  # noqa: B008
    compute: ComputeConfig = ComputeConfig(),  # noqa: B008
    *,
    validation: Address | None = None,
    launching: LaunchConfig = LaunchConfig(),  # noqa: B008  # frozen
    cache: CacheConfig = CacheConfig(),  # noqa: B008
    command: str = "",
    report: Report = silent,
) -> TrainResult | None:
    """Train a model on a split and keep it in `run`.

    Args:
        shards: folder of the training split.
        run: folder for settings, metrics and checkpoints, here or in a bucket.
        model: shape of the model.
        training: how it learns.
        compute: where, and how precisely.
        validation: folder of the split by which `best/` is chosen: by mean recall of the global scores. Without one,
            `best/` is the last epoch.
        launching: processes on this machine (on CPUs with `device="cpu"`) and others; torchrun's own numbers count.
        cache: where shards and runs of buckets are kept here meanwhile.
        command: what started this, to be kept in the run folder.
        report: receives progress.

    Returns:
        The result, or None in the other processes of a torchrun.

    Raises:
        UsageError: a setting is out of bounds, or more GPUs are asked for than there are.
        DataError: shards are missing or damaged.
        CheckpointError: starting weights are missing or of another trunk.
        DownloadError: ImageNet weights cannot be fetched.
        TrainingError: the run exists, there are too few samples, the loss is not finite, processes died too often.
        SpaceError: the disk is full.

    >>> model = dove.ModelConfig(backbone="resnet18", image_size=32, embed_dim=32, heads=4)
    >>> training = dove.TrainConfig(weights="none", epochs=1, batch_size=16)
    >>> result = dove.train("shards/shapes/train", "runs/tiny", model, training, validation="shards/shapes/val")
    >>> result.steps
    3
    """
    if not restarted():
        hold_new(Home(place_of(run, cache), cache))
    split = place_of(shards, cache)
    chosen = None if validation is None else _absolute(validation)
    settings = RunSettings(_absolute(split), Shards(split).manifest.fingerprint, chosen, model, training)
    _hold_splits(settings, cache)
    arguments = (place_of(run, cache), settings, compute, False, command, cache)
    return launch(launching, compute.device, _train, arguments, report=report)


def resume(
    run: Address,
    compute: ComputeConfig = ComputeConfig(),  # noqa: B008  # frozen
    *,
    changes: Mapping[str, Any] = MappingProxyType({}),
    shards: Address | None = None,
    validation: Address | None = None,
    launching: LaunchConfig = LaunchConfig(),  # noqa: B008  # frozen
    cache: CacheConfig = CacheConfig(),  # noqa: B008
    command: str = "",
    report: Report = silent,
) -> TrainResult | None:
    """Go on with a run from `last/`, with the same samples in the same order.

    Args:
        run: the run folder.
        compute: where, and how precisely.
        changes: settings given anew; only `dove_core.training.run.CHANGEABLE` may differ.
        shards: where the training split is now, if it was moved.
        validation: another validation split, or where it is now.
        launching: processes; may be others than before.
        cache: where shards and runs of buckets are kept here meanwhile.
        command: what started this, to be kept in the run folder.
        report: receives progress.

    Raises:
        CheckpointError: there is nothing to go on from.
        DataError: the shards are other ones than before.
        TrainingError: the run is finished. And what `train` raises.

    >>> dove.resume("runs/stopped", changes={"max_steps": 2}).steps
    2
    """
    place = place_of(run, cache)
    home = Home(place, cache)
    home.bring()
    settings = RunSettings.read(home.path).changed(changes)
    settings = dataclasses.replace(
        settings,
        shards=str(place_of(shards)) if shards else settings.shards,
        validation=_absolute(validation) if validation else settings.validation,
    )
    _hold_splits(settings, cache)
    return launch(launching, compute.device, _train, (place, settings, compute, True, command, cache), report=report)


def _absolute(address: Address) -> str:
    """Return a path or address that is valid in any working folder."""
    return str(place_of(address).absolute)


def _hold_splits(settings: RunSettings, cache: CacheConfig) -> None:
    """Say what is wrong with the splits before any process starts."""
    shards = Shards(place_of(settings.shards, cache))
    shards.choose_field(settings.model.caption_field)
    if shards.manifest.fingerprint != settings.data:
        hint = "go on with the shards of before (--shards), or start another --run"
        raise DataError(f"{shards.folder} was made anew since this run was started", hint=hint)
    if settings.validation:
        Shards(place_of(settings.validation, cache)).choose_field(settings.model.caption_field)


def _train(
    world: World,
    report: Report,
    location: Place,
    settings: RunSettings,
    compute: ComputeConfig,
    resumed: bool,
    command: str,
    cache: CacheConfig = CacheConfig(),  # noqa: B008  # frozen
) -> TrainResult:
    torch.manual_seed(settings.training.seed)
    home = Home(location, cache)
    home.bring()
    world.wait()  # before one of them writes
    run, whole = home.path, Shards(place_of(settings.shards, cache))
    field = whole.choose_field(settings.model.caption_field)
    shards = whole.with_captions(field)
    if len(shards) < 2 * world.size:
        message = f"{shards.folder} has {len(shards)} images for {world.size} process(es)"
        raise TrainingError(message, hint="each process needs two or more; use fewer processes or more images")
    again = settled_folder(run / "last").exists()  # a launch that is not to go on finds none: these are its own
    if world.restarts or (again and not resumed):
        report(Noted(f"processes were started again: going on from {'last/' if again else 'the start'}"))
    resumed = resumed or again
    _hold_same(world, (settings.data, resumed), "other shards or another run folder")
    if resumed:
        checkpoint = read_checkpoint(settled_folder(run / "last"))
    else:
        checkpoint = _new_model(shards, field, settings)
        if world.first:
            open_new(run, settings)
    if resumed and world.first:
        settings.write(run)
    if world.first:
        note_command(run, command)
        home.send(SETTINGS)
        home.send(COMMANDS)
    world.wait()
    if len(shards) < len(whole):
        report(Skipped("training", f"no caption {field!r}", len(whole) - len(shards), str(whole.folder)))
    if world.first and field != settings.model.caption_field:
        report(Noted(f"{shards.folder} has one kind of captions, {field!r}: learning from it"))
    try:
        trainer = Trainer(world, report, home, settings, compute, shards, field, checkpoint, resumed)
        _hold_same(world, trainer.position, f"another {home.at('last')}")
        return trainer.go()
    except torch.OutOfMemoryError as error:
        hint = "lower --batch-size or --image-size; --resume goes on from last/"
        raise TrainingError("the GPU's memory is full", hint=hint) from error


def _hold_same(world: World, found: object, what: str) -> None:
    """Hold machines to one file system: all processes have to find the same."""
    if len(set(world.everyones(found))) > 1:
        hint = "run folder and shards have to be on a file system that all machines share, under the same path"
        raise TrainingError(f"processes that train together found {what}", hint=hint)


def _new_model(shards: Shards, field: str, settings: RunSettings) -> Checkpoint:
    captions = itertools.chain.from_iterable(shards.captions(field))
    count = settings.training.min_word_count
    tokenizer = Tokenizer.learn(captions, min_count=count, max_tokens=settings.model.max_tokens)
    if not tokenizer.words:
        raise TrainingError(f"no word of {shards.folder} occurs {count} times", hint="lower --min-word-count")
    checkpoint = build(settings.model, tokenizer)
    checkpoint.model.trunk.load(settings.training.weights)
    return checkpoint
