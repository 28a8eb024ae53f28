"""`dove train`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dove_cli.defaults import RUNS, find_checkpoint, name_above, named, only_run, only_split, say_default, say_doubt
from dove_cli.options import Given, JsonOption
from dove_cli.render import output, print_json, reporting
from dove_core.config import CacheConfig, ComputeConfig, FineTuneConfig, LaunchConfig, ModelConfig, TrainConfig
from dove_core.places import Folder, Place
from dove_core.recipes import read_recipe

if TYPE_CHECKING:
    from dove_core.training.result import TrainResult


def train(
    context: typer.Context,
    model: Given[ModelConfig],
    training: Given[TrainConfig],
    tuning: Given[FineTuneConfig],
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
    start: Annotated[
        Place | None,
        typer.Option(
            "--from", help="Train this checkpoint further: the name or folder of a run or of a model in models/."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Settings that replace the defaults: rsicd-scratch, rsicd-scratch-gpu, rsicd-imagenet, "
            "clip-retrieval, or a .toml file. [default: clip-retrieval if --from is a CLIP model]"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue from last/ with the settings of the run; start it if it does not exist yet."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train DOVE, or a CLIP model further, on shards and store the last and the best checkpoint.

    - `dove train`
    - `dove train --gpus 4`
    - `dove train --backbone resnet18 --image-size 96 --weights none --epochs 12`
    - `dove train --recipe rsicd-scratch`: good settings for a data set; other options override them
    - `dove train --from remoteclip-vit-b32 --shards shards/rsicd/train`: train a CLIP model further
    - `dove train --resume --epochs 30`
    - `dove train --shards s3://bucket/shards/skyscript/train --run s3://bucket/runs/skyscript`
    - `torchrun --nnodes 2 --nproc-per-node 4 ... -m -- dove_cli train`: several machines, see docs/scale.md
    """
    command = shlex.join(["dove", *sys.argv[1:]])
    with reporting() as report:
        start = find_checkpoint(start) if start else None
        if resume and (folder := _run_to_resume(run, cache)):
            from dove_core.training.loop import resume as resume_run

            result = resume_run(
                folder, compute, changes=_again(recipe, model, training, tuning), shards=shards,
                validation=validation, start=start, launching=launching, cache=cache, command=command, report=report,
            )  # fmt: skip
        else:
            if start is not None:
                say_doubt(start)
            recipe = recipe or _default_recipe(start)
            settings = read_recipe(recipe) if recipe else {}
            parts = (model.over(settings), training.over(settings))
            tuned = tuning.over(settings)
            shards = shards or only_split("train")
            folder = named(RUNS, run, cache) if run else Folder(RUNS / name_above(shards))
            validation = validation or _split_next_to(shards)
            if shards.has("manifest.json"):
                chosen = f"choosing best/ on {validation}" if validation else "no val split: best/ is the last epoch"
                say_default(chosen)
            from dove_core.training.loop import train as start_run

            result = start_run(
                shards, folder, *parts, compute, start=start, tuning=tuned, validation=validation,
                launching=launching, cache=cache, command=command, report=report,
            )  # fmt: skip
    if result is not None:
        _show(result, as_json)


def _run_to_resume(name: str | None, cache: CacheConfig) -> Place | None:
    """Return the run that --resume continues; None if there is none yet, so that it is started."""
    if name is None and any(RUNS.glob("*/settings.json")):
        return only_run()
    from dove_core.training.loop import is_run

    if name is not None and is_run(place := named(RUNS, name, cache), cache):
        return place
    say_default(f"there is no run {name} to resume: starting it" if name else "there is no run to resume: starting one")
    return None


def _again(recipe: str | None, *parts: Given[Any]) -> dict[str, Any]:
    """Return the settings that a command gives again for a run that exists."""
    from dove_core.training.run import CHANGEABLE

    again = {} if recipe is None else read_recipe(recipe)
    kept = {name: value for name, value in again.items() if name not in CHANGEABLE}
    for part in parts:
        kept |= part.values
    return kept


def _default_recipe(start: Place | None) -> str | None:
    """Return the recipe for a CLIP model; None for DOVE, whose defaults need none."""
    if start is None:
        return None
    from dove_core.encoding.checkpoint import checkpoint_here
    from dove_core.encoding.families import ClipFamily

    with checkpoint_here(start) as (_, family):
        if not isinstance(family, ClipFamily):
            return None
    say_default("a CLIP model: using --recipe clip-retrieval; other options override it")
    return "clip-retrieval"


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

    shown = [name for name in ("loss", "pair_loss", "global_loss", "logit_scale") if name in result.history[0]]
    titles = (name.replace("_", " ") for name in shown)
    table = Table("epoch", *titles, "val mean recall", "images/s", box=None)
    for figures in result.history:
        recall = f"{figures['mean_recall']:.2f}" if "mean_recall" in figures else ""
        losses = (f"{figures[name]:.4f}" for name in shown)
        table.add_row(str(figures["epoch"]), *losses, recall, f"{figures['samples_per_second']:.0f}")
    output().print(table)
