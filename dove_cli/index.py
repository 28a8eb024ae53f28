"""`dove index push` copies an index to Milvus; `dove index verify` checks an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.defaults import find_checkpoint, find_index
from dove_cli.options import JsonOption
from dove_cli.render import note, output, print_json, reporting
from dove_core.config import CacheConfig, ComputeConfig, PushConfig, VerifyConfig
from dove_core.errors import SearchIndexError, UsageError
from dove_core.places import Place

if TYPE_CHECKING:
    from dove_core.index.milvus.agreement import Agreement

NameArgument = Annotated[
    str | None,
    typer.Argument(help="The index: a name below index/, a folder, or s3://bucket/folder. [default: the only index]"),
]


def push(
    settings: PushConfig,
    cache: CacheConfig,
    name: NameArgument = None,
    to: Annotated[
        str,
        typer.Option(
            help="Milvus server, http://HOST:19530, or file of Milvus Lite, FILE.db; add /NAME to choose the "
            "collection. Default: the name of the index."
        ),
    ] = ...,  # type: ignore[assignment]
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a collection that an earlier `dove index push` made.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy an index to Milvus, for an index larger than this machine's memory, or for many users.

    After an interruption, run the same command again: rows that are already there are kept. Milvus stores the vectors
    and metadata of the images. To query the collection, `dove query` also needs the checkpoint, and the shards if it
    reads images. A token for the server is read from the environment variable MILVUS_TOKEN.

    - `dove index push --to http://milvus:19530`
    - `dove index push skyscript --to http://milvus:19530/sky --vector-index hnsw`
    - `dove index push skyscript --to local.db`
    """
    folder = find_index(name, cache, "dove index push NAME --to ADDRESS")
    from dove_core.index.milvus.push import push_index

    with reporting() as report:
        pushed = push_index(folder, to, settings, overwrite=overwrite, report=report)
    note(f'{pushed.address}: {pushed.rows} rows, {pushed.written} of them new. '
         f'Search it with: dove query "airport runway" --index {pushed.address}')  # fmt: skip
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
        typer.Option(
            help="Compare the hits of a Milvus collection with the exact hits of the index: "
            "http://HOST:19530/NAME or FILE.db/NAME."
        ),
    ] = None,
    checkpoint: Annotated[
        Place | None,
        typer.Option(
            help="Checkpoint that made the index, if it was moved: a run, a model in models/, or a path. "
            "[default: its path when the index was made]"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a sample of an index against its images, or a collection in Milvus against its index.

    It embeds the images of some rows again and compares the vectors. With --against, it sends the same queries to the
    index and to the collection, and compares the hits.

    - `dove index verify`
    - `dove index verify everything --sample 500`
    - `dove index verify skyscript --against http://milvus:19530/skyscript`
    """
    folder = find_index(name, cache, "dove index verify NAME")
    if against:
        if checkpoint:
            hint = "leave out --checkpoint: --against compares stored vectors"
            raise UsageError("--against and --checkpoint are both given", hint=hint)
        _compare(folder, against, settings, as_json)
        return
    from dove_core.index.verify import verify_index

    with reporting() as report:
        known = checkpoint and find_checkpoint(checkpoint)
        count, faults = verify_index(folder, compute, settings, checkpoint=known, report=report)
    if as_json:
        found = [{"row": fault.row, "key": fault.key, "reason": fault.reason} for fault in faults]
        print_json({"index": str(folder), "rows": count, "faults": found})
    else:
        for fault in faults:
            note(f"row {fault.row}, {fault.key}: {fault.reason}")
    if faults:
        hint = "if the shards have changed, run `dove embed` again: it makes outdated parts again"
        raise SearchIndexError(f"{len(faults)} of {count} checked rows of {folder} have faults", hint=hint)
    note(f"{folder}: {count} rows checked, drawn at random, no faults found")


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
        message = f"{wrong} hits of {against} do not pass the filter, or have a different score in {folder}"
        raise SearchIndexError(message, hint="push the index again with --overwrite")


def _show(found: list[Agreement], top: int) -> None:
    from rich.table import Table

    table = Table("filter", "queries", f"recall@{top}", "wrong", box=None)
    for one in found:
        table.add_row(one.filter, str(one.queries), f"{one.recall:.4f}", str(one.wrong))
    output().print(table)
