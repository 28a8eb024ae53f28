"""`dove query`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.answers import Outputs, show
from dove_cli.defaults import INDEX, named, only_checkpoint, only_index
from dove_cli.render import print_json, reporting
from dove_core.config import CacheConfig, ComputeConfig, FilterConfig, QueryConfig, RankConfig
from dove_core.errors import UsageError
from dove_core.places import Place

if TYPE_CHECKING:
    from dove_core.search.query import Searcher

_OUTPUT = "What to write besides"
_EXAMPLES = "Instead of words, or beside them"


def query(
    settings: QueryConfig,
    filters: FilterConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    cache: CacheConfig,
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[Path | None, typer.Option(help="An image of it.", rich_help_panel=_EXAMPLES)] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(help="Key of an image that is like it; may be repeated.", rich_help_panel=_EXAMPLES),
    ] = None,
    unlike: Annotated[
        list[str] | None, typer.Option(help="Key of an image that is not; may be repeated.", rich_help_panel=_EXAMPLES)
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="File with a query in each line; all are answered.", rich_help_panel=_EXAMPLES)
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(help="Name below index/, a folder, s3://bucket/folder, or a collection in Milvus: "
                     "http://HOST:19530/NAME, FILE.db/NAME. [default: the only index]"),
    ] = None,
    checkpoint: Annotated[
        Place | None, typer.Option(help="The model that made the index, if it was moved. [default: where it was]")
    ] = None,
    shards: Annotated[
        Place | None, typer.Option(help="What was embedded, if it was moved. [default: where it was]")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Contact sheet, PNG.", rich_help_panel=_OUTPUT)] = None,
    html: Annotated[
        Path | None, typer.Option(help="Page with images and a map of footprints.", rich_help_panel=_OUTPUT)
    ] = None,
    geojson: Annotated[Path | None, typer.Option(help="Footprints, GeoJSON.", rich_help_panel=_OUTPUT)] = None,
    geoparquet: Annotated[Path | None, typer.Option(help="Footprints, GeoParquet.", rich_help_panel=_OUTPUT)] = None,
    copy_to: Annotated[
        Path | None, typer.Option(help="Folder for the images themselves.", rich_help_panel=_OUTPUT)
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(help="PNG of where the words lie on the first six images.", rich_help_panel=_OUTPUT),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object a hit to standard output.")] = False,
) -> None:  # fmt: skip
    """Find the images that fit words, look like an image, or resemble examples. Alone on a terminal: ask and refine.

    Words need no image side of the model, so an answer does not wait for it; --image does, and --rerank unless the
    index was made with --regions.

    - `dove query "airport runway" --top 10`
    - `dove query "harbour with ships" --rerank 50 --sheet harbour.png`
    - `dove query --image field.jpg --json`
    - `dove query "solar panels" --bbox 5.9,45.8,10.5,47.8 --datetime 2018/2020 --html solar.html`
    - `dove query "parking lot" --unlike w123_US_19 --geojson parking.geojson`
    - `dove query "airport runway" --index http://milvus:19530/skyscript --checkpoint runs/skyscript/best`
    """
    if queries and (text or image or like or unlike):
        raise UsageError("--queries brings its own questions", hint="leave the others out")
    asked = bool(text or image or like or unlike or queries)
    if not asked and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("ask with words or with --image FILE", hint='for example: dove query "airport runway"')
    outputs = Outputs(sheet, html, geojson, geoparquet, copy_to, explain)
    if explain and not text:
        raise UsageError("--explain shows where words lie", hint="ask with words")
    if (queries or not asked) and outputs.any:
        raise UsageError(
            "files can be written of one query's answer only", hint="ask for --json, or one query at a time"
        )
    lines = _lines(queries) if queries else []
    searcher = _opened(index, compute, cache, checkpoint, shards)
    from dove_core.search.question import Question, read_query_image

    if not asked:
        from dove_cli.conversation import converse

        converse(searcher, settings, filters, rank)
    elif queries:
        _answer_all(searcher, lines, settings, filters, rank, as_json)
    else:
        example = None if image is None else read_query_image(image)
        question = Question(text or "", example, tuple(like or ()), tuple(unlike or ()))
        with reporting() as report:
            hits = searcher.answer(question, settings, rank, filters, report=report)
        show(hits, as_json)
        outputs.write(question.title, hits, searcher, question.text)


def _opened(
    index: str | None,
    compute: ComputeConfig,
    cache: CacheConfig,
    checkpoint: Place | None,
    shards: Place | None,
) -> Searcher:
    from dove_core.index.milvus.address import is_address
    from dove_core.search.query import Searcher

    if not (index and is_address(index)):
        return Searcher.open(
            named(INDEX, index, cache) if index else only_index(), compute, checkpoint=checkpoint, shards=shards
        )
    searcher = Searcher.open(index, compute, checkpoint=checkpoint, shards=shards)
    there = searcher.index.checkpoint
    if checkpoint is None and not there.exists():  # pushed from another machine
        searcher = Searcher.open(index, compute, checkpoint=only_checkpoint(), shards=shards)
    return searcher


def _answer_all(
    searcher: Searcher,
    lines: Sequence[str],
    settings: QueryConfig,
    filters: FilterConfig,
    rank: RankConfig,
    as_json: bool,
) -> None:
    with reporting() as report:
        for line, hits in searcher.answer_all(lines, settings, rank, filters, report=report):
            if as_json:
                print_json({"query": line, "hits": [hit.to_json() for hit in hits]})
            else:
                show(hits, False, title=line)


def _lines(path: Path) -> list[str]:
    hint = "a text file with a query in each line"
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--queries {path} cannot be read: {error}", hint=hint) from error
    found = [line for line in lines if line]
    if not found:
        raise UsageError(f"--queries {path} has no query", hint=hint)
    return found
