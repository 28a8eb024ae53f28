"""`dove marks export` and `dove marks import`, and the marks that `dove query --marks` ranks by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dove_cli.defaults import find_index
from dove_cli.render import note
from dove_core.config import CacheConfig
from dove_core.errors import UsageError
from dove_core.events import Report

if TYPE_CHECKING:
    from dove_core.index.searchable import Searchable
    from dove_core.review.learn import LearnedSearch
    from dove_core.review.marks import Mark
    from dove_core.review.store import Marks

AUTO = Path("auto")
_GEOJSON = (".geojson", ".json")

IndexOption = Annotated[
    str | None,
    typer.Option(help="The index: a name below index/, a folder, or s3://bucket/folder. [default: the only index]"),
]


def export_marks(
    cache: CacheConfig,
    file: Annotated[Path, typer.Argument(help="File to write: FILE.csv, or FILE.geojson with footprints.")],
    index: IndexOption = None,
    history: Annotated[
        bool,
        typer.Option(
            "--history", help="Also write marks that a later one of the same analyst replaced, and withdrawals."
        ),
    ] = False,
) -> None:
    """Write the marks of an index as CSV or GeoJSON.

    - `dove marks export marks.csv`
    - `dove marks export marks.geojson --index skyscript`
    """
    if file.suffix.lower() not in (".csv", *_GEOJSON):
        raise UsageError(f"{file} is neither CSV nor GeoJSON by its name", hint="write marks.csv or marks.geojson")
    opened, stored = _opened(index, cache)
    marks = stored.history() if history else stored.current()
    if file.suffix.lower() in _GEOJSON:
        from dove_core.answers.geo import write_marks_geojson

        gone = write_marks_geojson(file, marks, opened)
    else:
        from dove_core.review.tables import write_marks_csv

        write_marks_csv(file, marks)
        keys = {mark.key for mark in marks}
        there = opened.find(sorted(keys)) if keys else {}
        gone = sum(mark.key not in there for mark in marks)
    note(f"saved {file}: {len(marks)} marks" + (f", {gone} of them of images that are not in the index" * bool(gone)))


def import_marks(
    cache: CacheConfig,
    file: Annotated[
        Path,
        typer.Argument(help="CSV with the columns key, query, verdict (confirm, reject or withdraw), as exported."),
    ],
    index: IndexOption = None,
) -> None:
    """Add the marks of a CSV to those of an index; marks that are there already are kept once.

    - `dove marks import marks.csv`
    """
    from dove_core.review.tables import read_marks_csv

    marks = read_marks_csv(file)
    opened, stored = _opened(index, cache)
    added = stored.add(marks)
    keys = sorted({mark.key for mark in marks})
    gone = len(keys) - len(opened.find(keys) if keys else ())
    path = stored.path.relative_to(Path.cwd()) if stored.path.is_relative_to(Path.cwd()) else stored.path
    note(f"{path}: {added} of {len(marks)} marks are new")
    if gone:
        note(f"{gone} of {len(keys)} marked images are not in the index; their marks are kept")


def stored_marks(index: Searchable, file: Path) -> list[Mark]:
    """Return the current marks of a file, or of the index's own file for `auto`."""
    from dove_core.review.store import marks_path
    from dove_core.review.tables import read_marks

    return read_marks(marks_path(index) if file == AUTO else file)


def learned(index: Searchable, marks: Sequence[Mark] | None, report: Report) -> LearnedSearch | None:
    """Return the ranking by marks; None without --marks."""
    from dove_core.review.learn import LearnedSearch

    return None if marks is None else LearnedSearch(index, marks, report)


def _opened(index: str | None, cache: CacheConfig) -> tuple[Searchable, Marks]:
    from dove_core.index.disk import SearchIndex
    from dove_core.review.store import Marks, marks_path

    opened = SearchIndex(find_index(index, cache))
    return opened, Marks(marks_path(opened))
