"""A contact sheet: the images of hits in one PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from dove_core.files import atomic_file
from dove_core.index.images import decode_image
from dove_core.index.searchable import Searchable
from dove_core.search.query import Hit

_SIDE, _GAP, _TEXT_LINES, _FONT_SIZE = 240, 12, 4, 13
_PAPER, _INK, _FAINT = "white", "#1a1a1a", "#666666"


def write_sheet(path: Path, title: str, hits: Sequence[Hit], index: Searchable, *, columns: int = 5) -> None:
    """Write a PNG of the hits in rows of `columns`: each image with rank, score, source and caption below it.

    Raises:
        SearchIndexError: an image is missing or was changed.
        SpaceError: the disk is full.
    """
    font, bold = ImageFont.load_default(_FONT_SIZE), ImageFont.load_default(_FONT_SIZE + 6)
    text_height = _TEXT_LINES * (_FONT_SIZE + 3)
    columns = max(1, min(columns, len(hits)))
    lines = -(-len(hits) // columns)
    top = _GAP * 2 + _FONT_SIZE + 10
    size = (_GAP + columns * (_SIDE + _GAP), top + lines * (_SIDE + text_height + _GAP))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, _INK, font=bold)
    for k, hit in enumerate(hits):
        x, y = _GAP + k % columns * (_SIDE + _GAP), top + k // columns * (_SIDE + text_height + _GAP)
        image = decode_image(index.image(hit.row), hit.row)
        sheet.paste(ImageOps.fit(image, (_SIDE, _SIDE)), (x, y))
        draw.text((x, y + _SIDE + 3), f"{hit.rank}.  {hit.score:.3f}  {hit.row.source or ''}", _INK, font=font)
        words = textwrap.wrap(hit.row.caption or hit.row.key, 38)[: _TEXT_LINES - 1]
        draw.multiline_text((x, y + _SIDE + 6 + _FONT_SIZE), "\n".join(words), _FAINT, font=font, spacing=2)
    with atomic_file(path) as stream:
        sheet.save(stream, "PNG")
