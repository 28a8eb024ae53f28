"""An answer as one HTML page that needs nothing else: images, what is known of them, and a map of their places."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from PIL import Image

from dove_core.answers.map import NARROW, WIDE, markers_of, view_of
from dove_core.files import atomic_file
from dove_core.index.images import not_there
from dove_core.index.rows import Row
from dove_core.index.searchable import Searchable
from dove_core.search.query import Hit

_SIDE = 400
_ZOOM = 15


@dataclass(frozen=True)
class _Card:
    """A hit as the page shows it: its image as an address that holds it, and where a map on the web has its place."""

    hit: Hit
    image: str
    place: str
    address: str


def write_page(path: Path, title: str, hits: Sequence[Hit], index: Searchable) -> None:
    """Write one page with the images of all hits, and a map if any of them has a place.

    The page loads nothing. Images are JPEGs of at most 400 pixels a side. A marker and its images' cards light up
    together; links lead from one to the other where scripts do not run.

    Raises:
        SearchIndexError: an image is not there any more.
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
    image = _thumbnail(index.image(hit.row), hit.row)
    if hit.row.place is None:
        return _Card(hit, image, "", "")
    longitude, latitude = hit.row.place
    place = f"{abs(latitude):.4f}° {'NS'[latitude < 0]}, {abs(longitude):.4f}° {'EW'[longitude < 0]}"
    at = (quote(f"{latitude:.5f}"), quote(f"{longitude:.5f}"))
    address = f"https://www.openstreetmap.org/?mlat={at[0]}&mlon={at[1]}#map={_ZOOM}/{at[0]}/{at[1]}"
    return _Card(hit, image, place, address)


def _thumbnail(data: bytes, row: Row) -> str:
    """Return a small image as an address that holds it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (_SIDE, _SIDE))
            small = image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise not_there(row.shard, row.key) from error
    small.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
