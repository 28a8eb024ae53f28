"""`Hits`: the hits of a question as a table, a map layer, a contact sheet, a page, copies of the images."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dove_core.errors import DoveError
from dove_core.files import LocalPath
from dove_core.search.query import Hit, Searcher
from dove_core.search.question import Question

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

_SHOWN, _SIDE = 24, 160
"""Hits that a notebook shows, and the largest side of their images in pixels."""

_PLACE = ("lon", "lat", "west", "south", "east", "north")
_COLUMNS = ("rank", "score", "key", "caption", *_PLACE, "time", "source", "gsd", "tags", "shard")


class Hits(Sequence[Hit]):
    """The hits of one question, best first. A slice is `Hits`, too; a notebook shows them with their images.

    `notes` are remarks about the question, such as words that the model does not know.

    >>> hits = dove.open_index("index/shapes").search("a red circle", top=5)
    >>> hits
    <5 hits for 'a red circle'>
    >>> hits[0].rank, hits[1:3]
    (1, <2 hits for 'a red circle'>)
    >>> hits.to_pandas()[["rank", "key", "caption"]].shape
    (5, 3)
    >>> hits.sheet("circles.png")
    """

    def __init__(self, hits: Sequence[Hit], searcher: Searcher, question: Question, notes: Sequence[str] = ()) -> None:
        self.question, self.notes = question, tuple(notes)
        self._hits, self._searcher = list(hits), searcher

    def __len__(self) -> int:
        """Count the hits."""
        return len(self._hits)

    @overload
    def __getitem__(self, number: int) -> Hit: ...

    @overload
    def __getitem__(self, number: slice) -> Hits: ...

    def __getitem__(self, number: int | slice) -> Hit | Hits:
        """Return one hit, counted from 0, or `Hits` for a slice."""
        if isinstance(number, slice):
            return Hits(self._hits[number], self._searcher, self.question, self.notes)
        return self._hits[number]

    def __repr__(self) -> str:
        count = f"{len(self)} hit{'' if len(self) == 1 else 's'}"
        return f"<{'; '.join([f'{count} for {self.question.title!r}', *self.notes])}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: small images with rank, score and caption. It loads no other file."""
        from dove_core.answers.thumbnails import thumbnail_uri

        shown, notes = self._hits[:_SHOWN], [*self.notes]
        if len(self) > _SHOWN:
            notes.append(f"the first {_SHOWN} of {len(self)} hits")
        try:
            data = self._searcher.index.images([hit.row for hit in shown])
            images = [thumbnail_uri(one, hit.row, _SIDE) for one, hit in zip(data, shown, strict=True)]
        except DoveError as error:
            images = [""] * len(shown)
            notes.append(f"no images: {error.message}")
        title = f"<b>{escape(self.question.title)}</b>{'' if self._hits else ': no hits'}"
        head = "".join(f"<div>{line}</div>" for line in [title, *map(escape, notes)])
        cards = "".join(_card(hit, image) for hit, image in zip(shown, images, strict=True))
        return f'{head}<div style="display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0">{cards}</div>'

    def images(self) -> list[Image.Image]:
        """Return the images as RGB, in their full size.

        Raises:
            SearchIndexError: an image is missing or was changed.

        >>> hits = dove.open_index("index/shapes").search("a red circle", top=2)
        >>> [image.size for image in hits.images()]
        [(48, 48), (48, 48)]
        """
        from dove_core.index.images import decode_image

        rows = [hit.row for hit in self]
        return [decode_image(data, row) for data, row in zip(self._searcher.index.images(rows), rows, strict=True)]

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with a row for each hit.

        The columns are rank, score, key, caption, lon, lat (the centre of the footprint), west, south, east, north (the
        footprint, in degrees), time, source, gsd (metres per pixel), tags (a dict) and shard.
        """
        import pandas as pd

        from dove_core.answers.geo import properties_of

        places = [(*(hit.row.place or ()), *(hit.row.box or ())) for hit in self]
        rows = [
            properties_of(hit) | dict(zip(_PLACE, place, strict=False)) for hit, place in zip(self, places, strict=True)
        ]
        numbers = dict.fromkeys((*_PLACE, "score", "gsd"), "float64")
        return pd.DataFrame(rows, columns=[*_COLUMNS]).astype({"rank": "int64", **numbers})

    def to_geojson(self) -> dict[str, Any]:
        """Return the footprints as a GeoJSON feature collection; hits without a footprint are left out.

        >>> dove.open_index("index/shapes").search("a red circle").to_geojson()  # these images have no location
        {'type': 'FeatureCollection', 'features': []}
        """
        from dove_core.answers.geo import geojson_of

        return geojson_of(self)

    def to_geoparquet(self, path: LocalPath) -> int:
        """Write the footprints as GeoParquet; return their number. Hits without a footprint are left out.

        Raises:
            SpaceError: the disk is full.
            UsageError: the file cannot be written.
        """
        from dove_core.answers.geo import write_geoparquet

        return write_geoparquet(Path(path), self)

    def sheet(self, path: LocalPath, *, columns: int = 5) -> None:
        """Write a contact sheet as PNG: the images with rank, score and caption.

        Raises:
            SearchIndexError: an image is missing or was changed.
            SpaceError: the disk is full.
            UsageError: the file cannot be written.
        """
        from dove_core.answers.sheet import write_sheet

        write_sheet(Path(path), self.question.title, self, self._searcher.index, columns=columns)

    def page(self, path: LocalPath) -> None:
        """Write one HTML page with the images, their metadata and a map; errors as of `sheet`."""
        from dove_core.answers.page import write_page

        write_page(Path(path), self.question.title, self, self._searcher.index)

    def copy_images(self, folder: LocalPath) -> list[Path]:
        """Copy the image files into a folder, with a table `hits.csv`; return their paths.

        Raises:
            SearchIndexError: an image is missing or was changed.
            SpaceError: the disk is full.
            UsageError: a file exists with other content, or the folder cannot be written.
        """
        from dove_core.answers.copies import copy_images

        return copy_images(Path(folder), self, self._searcher.index)

    def explain(self, path: LocalPath) -> None:
        """Write a PNG that shows where the words of the question attend on each image.

        Raises:
            UsageError: the question has no words, the model cannot say, or the file cannot be written.
            SearchIndexError: an image is missing or was changed.
            SpaceError: the disk is full.
        """
        from dove_core.answers.explain import explain, write_explanations

        write_explanations(Path(path), self.question.title, explain(self._searcher, self.question.text, self))


def _card(hit: Hit, image: str) -> str:
    drawn = f'<img src="{image}" style="width: {_SIDE}px; height: {_SIDE}px; object-fit: contain">' if image else ""
    words = f"<b>{hit.rank}</b> {hit.score:.3f}<br>{escape(hit.row.caption or hit.row.key)}"
    return f'<div style="width: {_SIDE}px; font-size: 12px; overflow-wrap: anywhere">{drawn}<div>{words}</div></div>'
