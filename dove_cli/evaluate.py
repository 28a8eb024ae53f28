"""`dove eval`."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dove_cli.defaults import find_checkpoint, only_split, say_doubt
from dove_cli.options import JsonOption, given
from dove_cli.render import note, print_json, reporting
from dove_cli.tables import show_differences, show_result, show_suite, warn
from dove_core.bounds import option_name
from dove_core.config import CacheConfig, ComputeConfig, EvalConfig, ExecutorConfig, RankConfig, ZeroShotConfig
from dove_core.errors import UsageError
from dove_core.files import make_folder
from dove_core.places import Place

if TYPE_CHECKING:
    from dove_core.evaluation.measure import EvaluationRecord

_OTHER = "Evaluate on other images than shards"


def evaluate(
    context: typer.Context,
    evaluation: EvalConfig,
    zero_shot: ZeroShotConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    execution: ExecutorConfig,
    cache: CacheConfig,
    checkpoint: Annotated[
        Place | None,
        typer.Option(
            help="Checkpoint to evaluate: a run, a model in models/, or a path. [default: the only run or model]"
        ),
    ] = None,
    shards: Annotated[Place | None, typer.Option(help="Shards of one split. [default: the only test split]")] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Zip or folder of images. It has captions or labels in a CSV, or one folder for each class; "
            "otherwise give --captions.",
            rich_help_panel=_OTHER,
        ),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(help="Captions or labels of --images: a CSV or a Karpathy JSON.", rich_help_panel=_OTHER),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Split of --images: a split in the JSON, or one of several CSVs. [default: test]",
            rich_help_panel=_OTHER,
        ),
    ] = "",
    suite: Annotated[
        Path | None,
        typer.Option(
            help="Folder of SkyScript's benchmark sets (`dove fetch benchmarks`): all are evaluated.",
            rich_help_panel=_OTHER,
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two results of `dove eval --json`: show their differences and evaluate nothing."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write an HTML page with curves, best and worst queries, and confusions.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Evaluate again, even if the result is stored in the run folder.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure retrieval with a checkpoint: recall at 1, 5, 10 (and 100), image to text and text to image, in percent.

    Rows of the table: `global` ranks by embeddings alone; `reranked` ranks the best candidates of each query again by
    pairwise scores; `pairwise` ranks all pairs by them. With the protocol `captions-5`, every caption is a text
    of its own, and an equal caption of another image counts as a miss. With `unique-text`, equal captions are one text
    that belongs to several images. Ties count as misses.

    - `dove eval`
    - `dove eval --checkpoint remoteclip-vit-b32 --shards shards/rsicd/test`
    - `dove eval --checkpoint runs/rsicd/best --shards shards/rsicd/val --report val.html`
    - `dove eval --captions dataset_rsitmd.json --images RSITMD.zip --split test --json`
    - `dove eval --images AID.zip` measures zero-shot classification: one folder of images for each class
    - `dove eval --suite data/benchmarks`
    - `dove eval --compare before.json after.json`
    """
    if compare:
        if any((checkpoint, shards, images, captions, split, suite, report, force)):
            hint = "give --compare alone, or with --json"
            raise UsageError("--compare reads two results and evaluates nothing", hint=hint)
        _compare(*compare, as_json)
        return
    from dove_core.evaluation.measure import EvaluationInput, EvaluationRequest, measure

    _check_together(shards, images, captions, split, suite)
    chosen, command = find_checkpoint(checkpoint), shlex.join(["dove", *sys.argv[1:]])
    _check_reranker(chosen, given(context, (EvalConfig,)))
    say_doubt(chosen)
    source = EvaluationInput(
        shards if shards or images or suite else only_split("test"), images, captions, split, suite
    )
    if report:
        if report.is_dir() or (report.exists() and not report.is_file()):
            raise UsageError(f"--report {report} is not a file", hint="give a file to write: --report page.html")
        make_folder(report.absolute().parent)
    request = EvaluationRequest(
        chosen, evaluation, zero_shot, rank, compute, execution, command, force, with_section=report is not None
    )
    with reporting() as progress:
        measured = measure(request, source, report=progress)
    _warn_and_report(measured, report)
    _show([one.result for one in measured], suite is not None, as_json)


def _check_reranker(checkpoint: Place, settings: Mapping[str, Any]) -> None:
    """Check that a row of pair scores is asked for only if the model can have it."""
    from dove_core.encoding.checkpoint import checkpoint_here

    asked = [name for name in ("rerank", "pairwise") if settings.get(name)]
    if not asked:
        return
    with checkpoint_here(checkpoint) as (_, family):
        if not family.has_reranker:
            message = f"{option_name(asked[0])}: {checkpoint} has no pairwise scores, only embeddings"
            raise UsageError(message, hint=f"leave out {option_name(asked[0])}")


def _check_together(
    shards: Place | None, images: Path | None, captions: Path | None, split: str, suite: Path | None
) -> None:
    """Check that at most one source of images is given, and only options that it needs."""
    sources = {"--shards": shards, "--images": images, "--suite": suite}
    chosen = [option for option, value in sources.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} are both given", hint="give one of them")
    if captions and not images:
        raise UsageError("--captions needs --images", hint="give a zip or a folder of images with --images")
    if split and not images:
        raise UsageError("--split needs --images", hint="to choose a split of shards: --shards shards/NAME/val")


def _warn_and_report(measured: Sequence[EvaluationRecord], report: Path | None) -> None:
    """Show the warnings that belong to the results, and write the page."""
    for one in measured:
        if one.was_known:
            note(f"{one.result['dataset']}: stored result, nothing has changed; --force evaluates again")
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
        note(f"no average over the suite, missing: {', '.join(left_out)}")


def _compare(first: Path, second: Path, as_json: bool) -> None:
    from dove_core.evaluation.compare import compare

    found = compare(first, second)
    if found.unlike:
        note(f"the results were not measured in the same way: {', '.join(found.unlike)} differ")
    if as_json:
        rows = {d.row: {**dataclasses.asdict(d), "difference": d.difference} for d in found.differences}
        values = {"first": str(first), "second": str(second), "unlike": found.unlike, found.metric: rows}
        print_json(values)
        return
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    show_differences(names, found.metric, found.differences)
