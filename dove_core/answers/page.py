"""Hits as one self-contained HTML page: images, their metadata, and a map of their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader

from dove_core.answers.map import NARROW, WIDE, markers_of, view_of
from dove_core.answers.thumbnails import thumbnail_uri
from dove_core.files import atomic_file
from dove_core.index.searchable import Searchable
from dove_core.search.query import Hit

_SIDE = 400
_ZOOM = 15


@dataclass(frozen=True)
class _Card:
    """A hit as the page shows it: its image as a `data:` URI, its coordinates, and a link to OpenStreetMap."""

    hit: Hit
    image: str
    place: str
    link: str


def write_page(path: Path, title: str, hits: Sequence[Hit], index: Searchable) -> None:
    """Write one page with the images of all hits, and a map if any of them has a place.

    The page loads no other file. Images are JPEGs of at most 400 pixels a side. A marker on the map is highlighted
    together with the cards of its images; links between them work without scripts, too.

    Raises:
        SearchIndexError: an image is missing or was changed.
        SpaceError: the disk is full.
        UsageError: the file cannot be written.
    """
    cards = [_card(hit, index) for hit in hits]
    view = view_of(hits)
    spots = [view.spot(hit) for hit in hits if hit.row.place] if view else []
    markers = {
        name: markers_of(spots, view, width) if view else [] for name, width in (("wide", WIDE), ("narrow", NARROW))
    }
    environment = Environment(loader=PackageLoader("dove_core.answers", "."), autoescape=True, trim_blocks=True)
    page = environment.get_template("page.html.j2").render(
        title=title, cards=cards, index=Path(index.name).name, size=len(index), view=view, spots=spots, markers=markers
    )
    with atomic_file(path) as stream:
        stream.write(page.encode())


def _card(hit: Hit, index: Searchable) -> _Card:
    image = thumbnail_uri(index.image(hit.row), hit.row, _SIDE)
    if hit.row.place is None:
        return _Card(hit, image, "", "")
    longitude, latitude = hit.row.place
    place = f"{abs(latitude):.4f}° {'NS'[latitude < 0]}, {abs(longitude):.4f}° {'EW'[longitude < 0]}"
    at = (quote(f"{latitude:.5f}"), quote(f"{longitude:.5f}"))
    link = f"https://www.openstreetmap.org/?mlat={at[0]}&mlon={at[1]}#map={_ZOOM}/{at[0]}/{at[1]}"
    return _Card(hit, image, place, link)
