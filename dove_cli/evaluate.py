"""`dove eval`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from dove_cli.defaults import only_checkpoint, only_split
from dove_cli.options import JsonOption
from dove_cli.render import note, output, print_json, reporting
from dove_core.config import ComputeConfig, EvalConfig, RankConfig, ZeroShotConfig

if TYPE_CHECKING:
    from dove_core.evaluation.evaluate import Evaluation
    from dove_core.evaluation.zero_shot import ZeroShot


_CAUTION = {
    "trained on": "The scores say how well it remembers, not how well it retrieves.",
    "chosen on": "The scores are validation scores; test on a split that nothing was chosen on.",
}


def evaluate(
    evaluation: EvalConfig,
    zero_shot: ZeroShotConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint. [default: best/ of the only run]")] = None,
    shards: Annotated[Path | None, typer.Option(help="Split to evaluate on. [default: the only test split]")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two files of --json: set them side by side, measure nothing.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a checkpoint retrieves: recall at 1, 5, 10 (and 100) in percent, both ways.

    Rows: `global` ranks by embeddings alone, `reranked` lets ROAM re-rank the best of each query, `pairwise` scores
    every pair. Protocol `captions-5` takes every caption as a text of its own, so an equal caption of another picture
    is a miss; `unique-text` takes every distinct one, which may belong to many pictures. Ties count as misses.

    - `dove eval`
    - `dove eval --checkpoint runs/rsicd/best --shards shards/rsicd/val --json`
    - `dove eval --shards shards/aid/test --label-field label` classifies by words instead, without training on any
    - `dove eval --compare before.json after.json`
    """
    if compare:
        _show_difference(*compare, as_json)
        return
    checkpoint, shards = checkpoint or only_checkpoint(), shards or only_split("test")
    command = shlex.join(["dove", *sys.argv[1:]])
    result: Evaluation | ZeroShot
    with reporting() as report:
        if zero_shot.label_field:
            from dove_core.evaluation.zero_shot import classify_split

            result = classify_split(
                checkpoint, shards, zero_shot, rank, compute, batch_size=evaluation.batch_size, command=command,
                report=report,
            )  # fmt: skip
        else:
            from dove_core.evaluation.evaluate import evaluate as measure

            result = measure(checkpoint, shards, evaluation, rank, compute, command=command, report=report)
    if seen := result.provenance["seen"]:
        note(f"ATTENTION: THIS CHECKPOINT WAS {seen.upper()} THESE PICTURES. {_CAUTION[seen]}")
    if as_json:
        print_json(result.to_json())
    elif zero_shot.label_field:
        _show_classes(cast("ZeroShot", result))
    else:
        _show(cast("Evaluation", result))


def _show_classes(result: ZeroShot) -> None:
    from rich.table import Table

    table = Table("", "top-1", "top-5", "mean per class", box=None)
    for name, scores in result.rows.items():
        table.add_row(name, f"{scores.top_1:.2f}", f"{scores.top_5:.2f}", f"{scores.mean_per_class:.2f}")
    counts = f"{result.pictures} pictures, {len(result.classes)} classes"
    output().print(f"{result.dataset} {result.split}: {counts}", highlight=False)
    output().print(table)
    last = list(result.rows.values())[-1]
    each = Table("class", "pictures", "recognised, %", "mostly taken for", box=None)
    for k, name in enumerate(result.classes):
        others = last.confusion[k].copy()
        others[k] = 0
        wrong = result.classes[int(others.argmax())] if others.any() else ""
        each.add_row(name, str(last.confusion[k].sum()), f"{last.per_class[k]:.1f}", wrong)
    output().print(each)


def _show(result: Evaluation) -> None:
    from rich.table import Table

    at = list(next(iter(result.rows.values())).image_to_text)
    heads = [f"{way}R@{k}" if k == 1 else f"R@{k}" for way in ("I2T ", "T2I ") for k in at]
    table = Table("", *heads, "mean recall", "95 %", box=None)
    for name, scores in result.rows.items():
        recalls = [*scores.image_to_text.values(), *scores.text_to_image.values(), scores.mean_recall]
        label = f"reranked (best {result.rerank})" if name == "reranked" else name
        interval = "" if scores.interval is None else "{:.2f} to {:.2f}".format(*scores.interval)
        table.add_row(label, *(f"{value:.2f}" for value in recalls), interval)
    counts = f"{result.pictures} pictures, {result.captions} captions, {result.texts} texts"
    output().print(f"{result.dataset} {result.split}, protocol {result.protocol}: {counts}", highlight=False)
    output().print(table)


def _show_difference(first: Path, second: Path, as_json: bool) -> None:
    from rich.table import Table

    from dove_core.evaluation.compare import compare

    found, unlike = compare(first, second)
    if unlike:
        note(f"they are not of the same kind: {', '.join(unlike)} differ")
    if as_json:
        rows = {
            d.row: {"first": d.first, "second": d.second, "difference": d.difference, "beyond": d.beyond} for d in found
        }
        print_json({"first": str(first), "second": str(second), "unlike": unlike, "mean_recall": rows})
        return
    table = Table("mean recall", first.name, second.name, "difference", "", box=None)
    words = {True: "beyond chance", False: "within chance", None: "no interval"}
    for d in found:
        table.add_row(d.row, f"{d.first:.2f}", f"{d.second:.2f}", f"{d.difference:+.2f}", words[d.beyond])
    output().print(table)
