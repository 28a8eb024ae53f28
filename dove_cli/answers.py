"""The hits of a query as a table, as JSON, and as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dove_cli.render import cell, note, output, print_json
from dove_core.bounds import option_name
from dove_core.errors import UsageError
from dove_core.files import make_folder

if TYPE_CHECKING:
    from dove_core.search.query import Hit, Searcher

_EXPLAINED = 6
"""Number of hits, the first ones, that --explain shows."""


@dataclass(frozen=True)
class Outputs:
    """Files to write for one query; None for those that are not wanted."""

    sheet: Path | None = None
    html: Path | None = None
    geojson: Path | None = None
    geoparquet: Path | None = None
    copy_to: Path | None = None
    explain: Path | None = None

    @property
    def any(self) -> bool:
        """Tell whether any file is wanted."""
        return any(asdict(self).values())

    def check(self) -> None:
        """Check that each path can be written, before a long search.

        Raises:
            UsageError: a file is wanted where a folder is, or a folder where a file is.
        """
        for name, path in asdict(self).items():
            option = option_name(name)
            if path and name == "copy_to" and path.exists() and not path.is_dir():
                raise UsageError(f"{option} {path} is not a folder", hint=f"give a folder: {option} images")
            if path and name != "copy_to" and path.is_dir():
                raise UsageError(f"{option} {path} is a folder", hint=f"give a file: {option} {path / 'hits'}")

    def write(self, title: str, hits: Sequence[Hit], searcher: Searcher, text: str = "") -> None:
        """Write all files that are wanted; `text` has the words of the query."""
        index = searcher.index
        for path in (self.sheet, self.html, self.geojson, self.geoparquet, self.explain):
            if path:
                make_folder(path.resolve().parent)
        if self.sheet:
            from dove_core.answers.sheet import write_sheet

            write_sheet(self.sheet, title, hits, index)
            note(f"saved {self.sheet}")
        if self.html:
            from dove_core.answers.page import write_page

            write_page(self.html, title, hits, index)
            note(f"saved {self.html}")
        self._write_places(hits)
        if self.copy_to:
            from dove_core.answers.copies import copy_images

            copied = copy_images(self.copy_to, hits, index)
            note(f"saved {len(copied)} images in {self.copy_to}")
        if self.explain:
            self._write_explanations(self.explain, title, hits[:_EXPLAINED], searcher, text)

    def _write_explanations(self, path: Path, title: str, hits: Sequence[Hit], searcher: Searcher, text: str) -> None:
        from dove_core.answers.explain import explain, write_explanations

        found = explain(searcher, text, hits)
        write_explanations(path, title, found)
        note(f"saved {path}")
        if found:
            shares = ", ".join(f"{one.certainty:.0%}" for one in found)
            note(f"share of each map above a uniform map: {shares}")
        if empty := [str(one.hit.rank) for one in found if one.shows_nothing]:
            note(f"nothing to see on hit {', '.join(empty)}: the words fit all regions alike, or none")

    def _write_places(self, hits: Sequence[Hit]) -> None:
        if not (self.geojson or self.geoparquet):
            return
        from dove_core.answers.geo import write_geojson, write_geoparquet

        for path, write in ((self.geojson, write_geojson), (self.geoparquet, write_geoparquet)):
            if path:
                count = write(path, hits)
                left_out = f"; {len(hits) - count} hits have no footprint" if count < len(hits) else ""
                note(f"saved {path}: {count} footprints{left_out}")


def show(hits: Sequence[Hit], as_json: bool, *, title: str = "", notes: Sequence[str] = ()) -> None:
    """Print hits as a table, or as one JSON object for each hit, with notes about the words of the query."""
    if as_json:
        for hit in hits:
            print_json({**hit.to_json(), "notes": list(notes)} if notes else hit.to_json())
        return
    if not hits:
        note(f"{title}: no hits" if title else "no hits: no image passes the filters and reaches --min-score")
        return
    from rich.table import Table

    has_place, has_time = any(hit.row.place for hit in hits), any(hit.row.time for hit in hits)
    heads = ["", "score", "caption", "key", *(["place"] if has_place else []), *(["time"] if has_time else [])]
    table = Table(*heads, box=None, title=cell(title) or None, title_justify="left")
    for hit in hits:
        row = hit.row
        cells = [str(hit.rank), f"{hit.score:.3f}", cell(row.caption or ""), cell(row.key)]
        cells += [f"{row.place[1]:.4f}, {row.place[0]:.4f}" if row.place else ""] if has_place else []
        table.add_row(*cells, *([cell(row.time or "")] if has_time else []))
    output().print(table)
