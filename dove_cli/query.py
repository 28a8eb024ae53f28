"""`dove query`."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.answers import Outputs, show
from dove_cli.defaults import find_checkpoint, find_index
from dove_cli.marks import learned, stored_marks
from dove_cli.render import print_json, reporting
from dove_core.config import CacheConfig, ComputeConfig, FilterConfig, QueryConfig, RankConfig
from dove_core.errors import UsageError, reason_of
from dove_core.places import Place

if TYPE_CHECKING:
    from dove_core.review.marks import Mark
    from dove_core.search.query import Searcher

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what PowerShell writes
_OUTPUT = "Files to write"
_EXAMPLES = "Queries other than words, or together with words"


def query(
    context: typer.Context,
    settings: QueryConfig,
    filters: FilterConfig,
    rank: RankConfig,
    compute: ComputeConfig,
    cache: CacheConfig,
    text: Annotated[str | None, typer.Argument(help="The query in words, in quotation marks.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Image file: find images like it.", rich_help_panel=_EXAMPLES)
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Key of an image in the index: find images like it; may be repeated.",
            rich_help_panel=_EXAMPLES,
        ),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Key of an image in the index: find images unlike it; may be repeated.",
            rich_help_panel=_EXAMPLES,
        ),
    ] = None,
    marks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rank by marks of this query: a file of marks or CSV; auto: the marks of the index.",
            rich_help_panel=_EXAMPLES,
        ),
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Text file with one query on each line.", rich_help_panel=_EXAMPLES)
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="The index: a name below index/, a folder, s3://bucket/folder, or a collection in Milvus, "
            "http://HOST:19530/NAME or FILE.db/NAME. [default: the only index]"
        ),
    ] = None,
    checkpoint: Annotated[
        Place | None,
        typer.Option(
            help="Checkpoint that made the index, if it was moved: a run, a model in models/, or a path. "
            "[default: its path when the index was made]"
        ),
    ] = None,
    shards: Annotated[
        Place | None,
        typer.Option(
            help="Shards, images or tars that were embedded, if they were moved. [default: their path when the "
            "index was made]"
        ),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Contact sheet of the hits, PNG.", rich_help_panel=_OUTPUT)] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="HTML page with the images and a map of their footprints.", rich_help_panel=_OUTPUT),
    ] = None,
    geojson: Annotated[
        Path | None, typer.Option(help="Footprints of the hits, GeoJSON.", rich_help_panel=_OUTPUT)
    ] = None,
    geoparquet: Annotated[
        Path | None, typer.Option(help="Footprints of the hits, GeoParquet.", rich_help_panel=_OUTPUT)
    ] = None,
    copy_to: Annotated[
        Path | None, typer.Option(help="Folder to copy the images of the hits to.", rich_help_panel=_OUTPUT)
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="PNG that shows which image regions each word matches, for the first six hits.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object for each hit to standard output.")
    ] = False,
) -> None:
    """Find images in an index by words, by an image, or by examples. Without a query, it starts a dialogue.

    A query in words needs only the text encoder, which loads fast. --image loads the image encoder too, and so does
    --rerank unless the index was made with `dove embed --regions`.

    - `dove query "airport runway" --top 10`
    - `dove query "harbour with ships" --rerank 50 --sheet harbour.png`
    - `dove query --image field.jpg --json`
    - `dove query "solar panels" --bbox 5.9,45.8,10.5,47.8 --datetime 2018/2020 --html solar.html`
    - `dove query "parking lot" --unlike w123_US_19 --geojson parking.geojson`
    - `dove query "parking lot" --marks auto`
    - `dove query "airport runway" --index http://milvus:19530/skyscript --checkpoint runs/skyscript/best`
    """
    if context.args:
        parts = [str(text), *context.args]
        hint = f'quote the words: dove query "{" ".join(parts)}"'
        raise UsageError(f"the query has several parts: {', '.join(parts)}", hint=hint)
    if queries and (text or image or like or unlike):
        raise UsageError("--queries cannot be combined with another query", hint="give --queries alone")
    has_query = bool(text or image or like or unlike or queries)
    if not has_query and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the query is missing", hint='give words or --image FILE: dove query "airport runway"')
    outputs = Outputs(sheet, html, geojson, geoparquet, copy_to, explain)
    if explain and not text:
        raise UsageError("--explain needs a query in words", hint='dove query "airport runway" --explain words.png')
    if marks and not has_query:
        raise UsageError("--marks needs a query", hint='give words: dove query "airport runway" --marks auto')
    if (queries or not has_query) and outputs.any:
        hint = "give one query in words, or write all hits with --json"
        raise UsageError("files such as --sheet can be written for one query only", hint=hint)
    outputs.check()
    lines = _lines(queries) if queries else []
    searcher = _opened(index, compute, cache, checkpoint and find_checkpoint(checkpoint), shards)
    from dove_core.search.question import Question, read_query_image

    stored = stored_marks(searcher.index, marks) if marks else None
    if not has_query:
        from dove_cli.conversation import converse

        converse(searcher, settings, filters, rank)
    elif queries:
        _answer_all(searcher, lines, settings, filters, rank, stored, as_json)
    else:
        example = None if image is None else read_query_image(image)
        question = Question(text or "", example, tuple(like or ()), tuple(unlike or ()))
        with reporting() as report:
            refine = learned(searcher.index, stored, report)
            hits = searcher.answer(question, settings, rank, filters, refine=refine, report=report)
        try:
            show(hits, as_json, notes=_notes(searcher, question.text) if as_json else ())
        finally:  # also if the reader of standard output has enough
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
        return Searcher.open(find_index(index, cache), compute, checkpoint=checkpoint, shards=shards)
    searcher = Searcher.open(index, compute, checkpoint=checkpoint, shards=shards)
    there = searcher.index.checkpoint
    if checkpoint is None and not there.exists():  # pushed from another machine
        searcher = Searcher.open(index, compute, checkpoint=find_checkpoint(None), shards=shards)
    return searcher


def _answer_all(
    searcher: Searcher,
    lines: Sequence[str],
    settings: QueryConfig,
    filters: FilterConfig,
    rank: RankConfig,
    stored: Sequence[Mark] | None,
    as_json: bool,
) -> None:
    with reporting() as report:
        refine = learned(searcher.index, stored, report)
        for line, hits in searcher.answer_all(lines, settings, rank, filters, refine=refine, report=report):
            if as_json:
                notes = _notes(searcher, line)
                found = {"query": line, "hits": [hit.to_json() for hit in hits]}
                print_json({**found, "notes": notes} if notes else found)
            else:
                show(hits, False, title=line)


def _notes(searcher: Searcher, text: str) -> list[str]:
    """Return what the model says of the words of a query."""
    return list(searcher.index.words.notes(text)) if text else []


def _lines(path: Path) -> list[str]:
    hint = "give a text file with one query on each line"
    try:
        data = path.read_bytes()
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
        lines = [line.strip() for line in text.splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--queries {path} cannot be read: {reason_of(error)}", hint=hint) from error
    found = [line for line in lines if line]
    if not found:
        raise UsageError(f"--queries {path} is empty", hint=hint)
    return found
