"""`dove eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.defaults import only_checkpoint, only_split
from dove_cli.options import JsonOption
from dove_cli.render import output, print_json, reporting
from dove_core.config import ComputeConfig, EvalConfig, RankConfig

if TYPE_CHECKING:
    from dove_core.evaluation.evaluate import Evaluation


def evaluate(
    evaluation: EvalConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint. [default: best/ of the only run]")] = None,
    shards: Annotated[Path | None, typer.Option(help="Split to evaluate on. [default: the only test split]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a checkpoint retrieves: recall at 1, 5 and 10, both ways.

    Rows: `global` ranks by embeddings alone, `reranked` lets ROAM re-rank the best of each query, `pairwise` scores
    every pair. Recall is in percent, over all captions; ties and equal captions of other pictures count as misses.

    - `dove eval`
    - `dove eval --checkpoint runs/rsicd/best --shards shards/rsicd/val --json`
    """
    checkpoint, shards = checkpoint or only_checkpoint(), shards or only_split("test")
    from dove_core.evaluation.evaluate import evaluate as measure

    with reporting() as report:
        result = measure(checkpoint, shards, evaluation, rank, compute, report=report)
    if as_json:
        print_json(result.to_json())
    else:
        _show(result)


def _show(result: Evaluation) -> None:
    from rich.table import Table

    table = Table("", "I2T R@1", "R@5", "R@10", "T2I R@1", "R@5", "R@10", "mean recall", box=None)
    for name, scores in result.rows.items():
        recalls = [*scores.image_to_text.values(), *scores.text_to_image.values(), scores.mean_recall]
        label = f"reranked (best {result.rerank})" if name == "reranked" else name
        table.add_row(label, *(f"{value:.2f}" for value in recalls))
    output().print(
        f"{result.dataset} {result.split}: {result.pictures} pictures, {result.captions} captions", highlight=False
    )
    output().print(table)
