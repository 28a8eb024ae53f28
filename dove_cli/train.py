"""`dove train`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.defaults import RUNS, name_above, named, only_run, only_split, say_default
from dove_cli.options import JsonOption, given
from dove_cli.render import output, print_json, reporting
from dove_core.config import CacheConfig, ComputeConfig, LaunchConfig, ModelConfig, TrainConfig
from dove_core.errors import UsageError
from dove_core.places import Folder, Place
from dove_core.recipes import read_recipe

if TYPE_CHECKING:
    from dove_core.training.trainer import TrainResult


def train(
    context: typer.Context,
    model: ModelConfig,
    training: TrainConfig,
    compute: ComputeConfig,
    launching: LaunchConfig,
    cache: CacheConfig,
    shards: Annotated[
        Place | None, typer.Option(help="Shards of the training split. [default: the only train split]")
    ] = None,
    validation: Annotated[
        Place | None,
        typer.Option(help="Shards of the split that chooses best/. [default: `val` next to the training split]"),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            help="The run: a name below runs/, a folder, or s3://bucket/folder. [default: the name of the release]"
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Settings that replace the defaults: rsicd-imagenet, rsicd-scratch, rsicd-scratch-gpu, or a .toml."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from last/ with the settings of the run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train DOVE on shards and store the last and the best checkpoint.

    - `dove train`
    - `dove train --gpus 4`
    - `dove train --backbone resnet18 --image-size 96 --weights none --epochs 12`
    - `dove train --recipe rsicd-scratch`: good settings for a data set; other options override them
    - `dove train --resume --epochs 30`
    - `dove train --shards s3://bucket/shards/skyscript/train --run s3://bucket/runs/skyscript`
    - `torchrun --nnodes 2 --nproc-per-node 4 ... -m -- dove_cli train`: several machines, see docs/scale.md
    """
    command = shlex.join(["dove", *sys.argv[1:]])
    with reporting() as report:
        if resume and recipe:
            raise UsageError("--recipe cannot be given with --resume", hint="a resumed run keeps its settings")
        if resume:
            folder = named(RUNS, run, cache) if run else only_run()
            changes = given(context, (ModelConfig, TrainConfig))
            from dove_core.training.loop import resume as resume_run

            result = resume_run(
                folder, compute, changes=changes, shards=shards, validation=validation, launching=launching,
                cache=cache, command=command, report=report,
            )  # fmt: skip
        else:
            model, training = _by_recipe(context, recipe, model, training)
            shards = shards or only_split("train")
            folder = named(RUNS, run, cache) if run else Folder(RUNS / name_above(shards))
            validation = validation or _split_next_to(shards)
            if shards.has("manifest.json"):
                chosen = f"choosing best/ on {validation}" if validation else "no val split: best/ is the last epoch"
                say_default(chosen)
            from dove_core.training.loop import train as start_run

            result = start_run(shards, folder, model, training, compute, validation=validation, launching=launching,
                           cache=cache, command=command, report=report)  # fmt: skip
    if result is not None:
        _show(result, as_json)


def _by_recipe(
    context: typer.Context, recipe: str | None, model: ModelConfig, training: TrainConfig
) -> tuple[ModelConfig, TrainConfig]:
    """Return the settings of a recipe, overridden by the options that were given."""
    if recipe is None:
        return model, training
    settings = read_recipe(recipe) | given(context, (ModelConfig, TrainConfig))
    names = [{field.name for field in dataclasses.fields(kind)} & settings.keys() for kind in (model, training)]
    of_model, of_training = ({name: settings[name] for name in own} for own in names)
    return dataclasses.replace(model, **of_model), dataclasses.replace(training, **of_training)


def _split_next_to(shards: Place) -> Place | None:
    folder = shards.resolved.parent / "val"
    return shards.parent / "val" if folder != shards.resolved and folder.has("manifest.json") else None


def _show(result: TrainResult, as_json: bool) -> None:
    if as_json:
        best = result.best_mean_recall
        print_json({"run": str(result.run), "steps": result.steps, "best_mean_recall": best, "history": result.history})
        return
    if not result.history:
        say_default(f"{result.run} stopped at step {result.steps}, within an epoch; use --resume --max-steps 0")
        return
    from rich.table import Table

    table = Table("epoch", "loss", "pair loss", "global loss", "val mean recall", "images/s", box=None)
    for figures in result.history:
        recall = f"{figures['mean_recall']:.2f}" if "mean_recall" in figures else ""
        losses = (f"{figures[name]:.4f}" for name in ("loss", "pair_loss", "global_loss"))
        table.add_row(str(figures["epoch"]), *losses, recall, f"{figures['samples_per_second']:.0f}")
    output().print(table)
