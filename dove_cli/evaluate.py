"""`dove eval`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dove_cli.defaults import only_checkpoint, only_split
from dove_cli.options import JsonOption
from dove_cli.render import note, print_json, reporting
from dove_cli.tables import show_differences, show_result, show_suite, warn
from dove_core.config import CacheConfig, ComputeConfig, EvalConfig, ExecutorConfig, RankConfig, ZeroShotConfig
from dove_core.errors import UsageError
from dove_core.files import make_folder
from dove_core.places import Place

if TYPE_CHECKING:
    from dove_core.evaluation.measure import EvaluationRecord

_OTHER = "Instead of shards"


def evaluate(
    evaluation: EvalConfig,
    zero_shot: ZeroShotConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    execution: ExecutorConfig,
    cache: CacheConfig,
    checkpoint: Annotated[Place | None, typer.Option(help="Checkpoint. [default: best/ of the only run]")] = None,
    shards: Annotated[Place | None, typer.Option(help="Split to evaluate on. [default: the only test split]")] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Zip or folder of images: with --captions, with a CSV in it, or in folders named like classes.",
            rich_help_panel=_OTHER,
        ),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(help="Captions or labels of --images: CSV, Karpathy JSON.", rich_help_panel=_OTHER),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Split of a JSON, or of several CSVs. [default: test]", rich_help_panel=_OTHER)
    ] = "",
    suite: Annotated[
        Path | None,
        typer.Option(help="Folder of SkyScript's benchmark zips: each as SkyScript does.", rich_help_panel=_OTHER),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two files of --json: set them side by side, measure nothing.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write an HTML page: curves, best and worst queries, confusions.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure again what was measured before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a checkpoint retrieves: recall at 1, 5, 10 (and 100) in percent, both ways.

    Rows: `global` ranks by embeddings alone, `reranked` lets ROAM re-rank the best of each query, `pairwise` scores
    every pair. Protocol `captions-5` takes every caption as a text of its own, so an equal caption of another image
    is a miss; `unique-text` takes every distinct one, which may belong to many images. Ties count as misses.

    - `dove eval`
    - `dove eval --checkpoint runs/rsicd/best --shards shards/rsicd/val --report val.html`
    - `dove eval --captions dataset_rsitmd.json --images RSITMD.zip --split test --json`
    - `dove eval --images AID.zip` classifies by words instead: images in folders named like classes
    - `dove eval --suite data/benchmarks`
    - `dove eval --compare before.json after.json`
    """
    if compare:
        if shards or images or suite or report:
            raise UsageError("--compare measures nothing", hint="leave out what is to be measured, and --report")
        _compare(*compare, as_json)
        return
    from dove_core.evaluation.measure import EvaluationInput, EvaluationRequest, measure

    _check_together(shards, images, captions, split, suite)
    chosen, command = checkpoint or only_checkpoint(), shlex.join(["dove", *sys.argv[1:]])
    source = EvaluationInput(
        shards if shards or images or suite else only_split("test"), images, captions, split, suite
    )
    if report:
        if report.is_dir() or (report.exists() and not report.is_file()):
            raise UsageError(f"--report {report} is no file", hint="name a file to write: --report page.html")
        make_folder(report.absolute().parent)
    request = EvaluationRequest(
        chosen, evaluation, zero_shot, rank, compute, execution, command, force, with_section=report is not None
    )
    with reporting() as tell:
        measured = measure(request, source, report=tell)
    _say(measured, report)
    _show([one.result for one in measured], suite is not None, as_json)


def _check_together(
    shards: Place | None, images: Path | None, captions: Path | None, split: str, suite: Path | None
) -> None:
    """Hold that one source is chosen, and nothing that does not go with it."""
    given = {"--shards": shards, "--images": images, "--suite": suite}
    chosen = [option for option, value in given.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} are both given", hint="choose one of them to measure on")
    if captions and not images:
        raise UsageError("--captions needs the images", hint="give them with --images, a zip or a folder")
    if split and not images:
        raise UsageError("--split goes with --images", hint="a split of shards is a folder: --shards shards/NAME/val")


def _say(measured: Sequence[EvaluationRecord], report: Path | None) -> None:
    """Write the page, and what a reader of the numbers has to know."""
    for one in measured:
        if one.was_known:
            note(f"{one.result['dataset']}: measured before, and nothing has changed since; --force measures again")
        warn(one.result)
    if report:
        from dove_core.evaluation.report import write_report

        write_report(report, [one.section for one in measured if one.section])
        note(f"saved {report}")


def _show(results: Sequence[dict[str, Any]], is_suite: bool, as_json: bool) -> None:
    if not is_suite:
        print_json(results[0]) if as_json else show_result(results[0])
        return
    from dove_core.evaluation.suite import average, missing

    mean = average(results)
    if as_json:
        for result in [*results, *([mean] if mean else [])]:
            print_json(result)
    else:
        show_suite(results, mean)
    if left_out := missing(results):
        note(f"no average: {', '.join(left_out)} are not there")


def _compare(first: Path, second: Path, as_json: bool) -> None:
    from dove_core.evaluation.compare import compare

    found = compare(first, second)
    if found.unlike:
        note(f"they are not of the same kind: {', '.join(found.unlike)} differ")
    if as_json:
        rows = {d.row: {**dataclasses.asdict(d), "difference": d.difference} for d in found.differences}
        values = {"first": str(first), "second": str(second), "unlike": found.unlike, found.metric: rows}
        print_json(values)
        return
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    show_differences(names, found.metric, found.differences)
