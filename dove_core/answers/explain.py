"""Why an image fits words: where ROAM's attention lies on it, for the whole query and for its weightiest words.

IGA lets every word of a query attend to the regions of an image, and pools the words by weights. Drawn is the share
of that attention that each region has, the mean over heads: where the model looked, not that it was right to.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from dove_core.files import atomic_file
from dove_core.index.images import not_there
from dove_core.search.query import Hit, Searcher

_SIDE, _GAP, _LINE, _FONT = 200, 12, 18, 13
_PAPER, _INK, _FAINT, _GLOW = "white", "#1a1a1a", "#666666", (255, 120, 0)
_WORDS_SHOWN = 4


@dataclass(frozen=True)
class Explanation:
    """One hit: `image` as the model saw it, cut to a square, and for its grid of g x g regions the attention.

    `words` are the query's, `weights (T,)` their shares of the pooled caption, which sum to one, `by_word (T, g, g)`
    each word's attention and `whole (g, g)` that of all of them, each summing to one at most: a box around the middle,
    if the model has one, is left out.
    """

    hit: Hit
    image: Image.Image
    words: Sequence[str]
    weights: np.ndarray
    by_word: np.ndarray
    whole: np.ndarray


def explain(searcher: Searcher, text: str, hits: Sequence[Hit]) -> list[Explanation]:
    """Return where the words of a query lie on the images of its hits.

    Raises:
        UsageError: the query has no words.
        SearchIndexError: an image is not there any more.
    """
    if not hits:
        return []
    data = [searcher.index.image(hit.row) for hit in hits]
    found = searcher.attention(text, [(one, hit.row.key) for one, hit in zip(data, hits, strict=True)])
    return [
        Explanation(hit, _square(one, hit), found.words, found.weights, by_word, whole)
        for hit, one, by_word, whole in zip(hits, data, found.by_word, found.whole, strict=True)
    ]


def write_explanations(path: Path, title: str, found: Sequence[Explanation]) -> None:
    """Draw a row for each hit: the image, the attention of all words, and of the weightiest, as a PNG.

    Raises:
        SpaceError: the disk is full.
    """
    columns = 2 + min(_WORDS_SHOWN, max((len(one.words) for one in found), default=0))
    font, bold = ImageFont.load_default(_FONT), ImageFont.load_default(_FONT + 6)
    top, step = 2 * _GAP + _FONT + 10, _SIDE + 2 * _LINE + _GAP
    sheet = Image.new("RGB", (_GAP + columns * (_SIDE + _GAP), top + max(1, len(found)) * step), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, _INK, font=bold)
    for row, one in enumerate(found):
        y = top + row * step
        for column, (image, label, faint) in enumerate(_panels(one)):
            x = _GAP + column * (_SIDE + _GAP)
            sheet.paste(image, (x, y))
            draw.text((x, y + _SIDE + 3), label, _INK, font=font)
            draw.text((x, y + _SIDE + 3 + _LINE), faint, _FAINT, font=font)
    with atomic_file(path) as stream:
        sheet.save(stream, "PNG")


def _panels(one: Explanation) -> list[tuple[Image.Image, str, str]]:
    hit = one.hit
    panels = [
        (one.image, f"{hit.rank}.  {hit.score:.3f}", hit.row.key[:30]),
        (glowing(one.image, one.whole), "all words", ""),
    ]
    weightiest = np.argsort(-one.weights, kind="stable")[:_WORDS_SHOWN].tolist()
    shown = [(glowing(one.image, one.by_word[k]), one.words[k], f"weight {one.weights[k]:.0%}") for k in weightiest]
    return panels + shown


def glowing(image: Image.Image, attention: np.ndarray) -> Image.Image:
    """Lay attention `(g, g)` over an image: the more, the brighter; the least of it leaves the image dark."""
    spread = attention - attention.min()
    shares = np.uint8(255 * spread / max(float(spread.max()), 1e-12))
    mask = Image.fromarray(shares).resize(image.size, Image.Resampling.BICUBIC)
    dark = Image.blend(image, Image.new("RGB", image.size), 0.35)
    lit = Image.blend(image, Image.new("RGB", image.size, _GLOW), 0.6)
    return Image.composite(lit, dark, mask)


def _square(data: bytes, hit: Hit) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return ImageOps.fit(image.convert("RGB"), (_SIDE, _SIDE))
    except OSError as error:
        raise not_there(hit.row.shard, hit.row.key) from error
