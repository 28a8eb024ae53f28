"""`dove index`: push an index to Milvus, and hold one to the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.defaults import INDEX, named, only_index
from dove_cli.options import JsonOption
from dove_cli.render import note, output, print_json, reporting
from dove_core.config import CacheConfig, ComputeConfig, PushConfig, VerifyConfig
from dove_core.errors import SearchIndexError, UsageError
from dove_core.places import Place

if TYPE_CHECKING:
    from dove_core.index.milvus.agreement import Agreement

NameArgument = Annotated[
    str | None, typer.Argument(help="Name of the index below index/, or its folder. [default: the only index]")
]


def push(
    settings: PushConfig,
    cache: CacheConfig,
    name: NameArgument = None,
    to: Annotated[
        str, typer.Option(help="http://HOST:19530 or a FILE.db of Milvus Lite; then /NAME, if not the index's.")
    ] = ...,  # type: ignore[assignment]
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a collection that `dove index push` made before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put an index into Milvus, where it outgrows this machine's memory or many ask.

    What is there already stays: run it again after an interruption, and it goes on. Milvus keeps vectors and what is
    known of the images; `dove query` needs the model's words beside, and the shards where it reads images. A
    server's token is read from the environment variable MILVUS_TOKEN.

    - `dove index push --to http://milvus:19530`
    - `dove index push skyscript --to http://milvus:19530/sky --vector-index hnsw`
    - `dove index push skyscript --to local.db`
    """
    folder = named(INDEX, name, cache) if name else only_index()
    from dove_core.index.milvus.push import push_index

    with reporting() as report:
        pushed = push_index(folder, to, settings, overwrite=overwrite, report=report)
    note(f'{pushed.address}: {pushed.rows} rows, {pushed.written} of them written now. '
         f'Ask it: dove query --index {pushed.address} "..."')  # fmt: skip
    if as_json:
        found = {"collection": str(pushed.address), "rows": pushed.rows, "written": pushed.written}
        print_json({"index": str(folder), **found})


def verify(
    settings: VerifyConfig,
    compute: ComputeConfig,
    cache: CacheConfig,
    name: NameArgument = None,
    against: Annotated[
        str | None,
        typer.Option(help="Compare a collection's answers with the index's exact ones: http://HOST:19530/NAME, "
                     "or FILE.db/NAME."),
    ] = None,
    checkpoint: Annotated[
        Place | None, typer.Option(help="The model that made the index, if it was moved. [default: where it was]")
    ] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Hold a sample of an index to its parts and its images, embedded again; or a collection in Milvus to the index.

    - `dove index verify`
    - `dove index verify everything --sample 500`
    - `dove index verify skyscript --against http://milvus:19530/skyscript`
    """
    folder = named(INDEX, name, cache) if name else only_index()
    if against:
        if checkpoint:
            raise UsageError(
                "--against compares stored vectors and needs no --checkpoint", hint="leave one of them out"
            )
        _compare(folder, against, settings, as_json)
        return
    from dove_core.index.verify import verify_index

    with reporting() as report:
        count, faults = verify_index(folder, compute, settings, checkpoint=checkpoint, report=report)
    if as_json:
        found = [{"row": fault.row, "key": fault.key, "reason": fault.reason} for fault in faults]
        print_json({"index": str(folder), "rows": count, "faults": found})
    else:
        for fault in faults:
            note(f"row {fault.row}, {fault.key}: {fault.reason}")
    if faults:
        hint = "were the shards made again? Run `dove embed` again; parts that do not fit are made anew"
        raise SearchIndexError(f"{len(faults)} of {count} rows of {folder} are not what they say", hint=hint)
    note(f"{folder}: {count} rows, drawn at random, are what they say")


def _compare(folder: Place, against: str, settings: VerifyConfig, as_json: bool) -> None:
    from dove_core.index.milvus.agreement import compare_answers

    with reporting() as report:
        found = compare_answers(folder, against, settings, report=report)
    if as_json:
        kinds = {one.filter: {"queries": one.queries, "recall": one.recall, "wrong": one.wrong} for one in found}
        print_json({"index": str(folder), "collection": against, "top": settings.top, "filters": kinds})
    else:
        _show(found, settings.top)
    if wrong := sum(one.wrong for one in found):
        message = f"{wrong} hits of {against} pass no filter, or have another score than in {folder}"
        raise SearchIndexError(message, hint="push it again with --overwrite")


def _show(found: list[Agreement], top: int) -> None:
    from rich.table import Table

    table = Table("filter", "queries", f"recall@{top}", "wrong", box=None)
    for one in found:
        table.add_row(one.filter, str(one.queries), f"{one.recall:.4f}", str(one.wrong))
    output().print(table)
