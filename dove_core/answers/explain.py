"""Where the words of a query attend on the images of its hits: all words together, and those with most weight.

In ROAM each word of a query attends to the regions of an image, and the words are pooled by weights. A model without
such attention is explained by gradients: a map of the whole text, and a map of each word as a text of its own.

The drawing shows by how much each region has more than its uniform share, on a scale that is the same for all maps. So
a map without information is dark. Below each map is the share of it that lies above a uniform map, 0 % if all regions
have the same, and what the word adds to ROAM's score: attention has a maximum on any image, but a word that is not
there adds little or less than nothing. The map shows where the model looked; it does not show that the model is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dove_core.files import atomic_file
from dove_core.search.query import Hit, Searcher

_SIDE, _GAP, _LINE, _FONT = 200, 12, 18, 13
_PAPER, _INK, _FAINT, _GLOW = "white", "#1a1a1a", "#666666", (255, 120, 0)
_WORDS_SHOWN = 4
_LEAST_CERTAIN = 0.1
"""Share above uniform below which a map shows nothing: an attention that was never rewarded reaches 0.07."""

_BRIGHTEST = 2.0
"""Attention with the brightest colour: the binary logarithm of how many times the uniform share it is."""


@dataclass(frozen=True)
class Explanation:
    """The attention on one hit's image, over a grid of g x g regions.

    `image` is the model's input, cropped, squashed or padded as the model needs it. `words` are those of the query and
    `weights (T,)` their shares in it, which sum to one. `by_word (T, g, g)` is each word's attention and
    `whole (g, g)` that of all words. Each map sums to one at most: the region in the middle of the image, which a model
    may have in addition, is left out, and a map by gradients can be zero everywhere. If the exact score of the image is
    a sum, `of_words (T,)` are the terms of the words and `of_image` is that of the whole image.
    """

    hit: Hit
    image: Image.Image
    words: Sequence[str]
    weights: np.ndarray
    by_word: np.ndarray
    whole: np.ndarray
    of_words: np.ndarray | None = None
    of_image: float = 0.0

    @property
    def certainty(self) -> float:
        """Share of the map of all words that lies above a uniform map, from 0 to 1."""
        return share_above_uniform(self.whole)

    @property
    def shows_nothing(self) -> bool:
        """Tell whether the words attend to all regions alike, or do not fit the regions they attend to."""
        return self.certainty < _LEAST_CERTAIN or (self.of_words is not None and self.of_words.sum() <= 0)


def explain(searcher: Searcher, text: str, hits: Sequence[Hit]) -> list[Explanation]:
    """Return where the words of a query attend on the images of its hits.

    Raises:
        UsageError: the query has no words, or the model cannot say.
        DataError: an image cannot be decoded.
        SearchIndexError: an image is missing or was changed.
    """
    if not hits:
        return []
    data = searcher.index.images([hit.row for hit in hits])
    found = searcher.attention(text, [(one, hit.row.key) for one, hit in zip(data, hits, strict=True)])
    made = [
        Explanation(hit, _input(searcher, one, hit), found.words, found.weights, by_word, whole)
        for hit, one, by_word, whole in zip(hits, data, found.by_word, found.whole, strict=True)
    ]
    if found.parts is None:
        return made
    terms = zip(made, found.parts.by_word, found.parts.image.tolist(), strict=True)
    return [replace(one, of_words=of_words, of_image=of_image) for one, of_words, of_image in terms]


def _input(searcher: Searcher, data: bytes, hit: Hit) -> Image.Image:
    """Return the square that the model sees of an image, so that a map lies where it belongs."""
    pixels = searcher.embedder.encoder.preprocess.fit(data, hit.row.key)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)


def write_explanations(path: Path, title: str, found: Sequence[Explanation]) -> None:
    """Write a PNG with a row for each hit: its image, the attention of all words, and of those with most weight.

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
    sum_of = "" if one.of_words is None else f"image {one.of_image:.3f} + words {one.of_words.sum():.3f}"
    certainty = "nothing to see" if one.shows_nothing else f"{one.certainty:.0%} above uniform"
    panels = [
        (one.image, f"{hit.rank}.  {hit.score:.3f}", hit.row.key[:30]),
        (highlight(one.image, one.whole), f"all words: {certainty}", sum_of),
    ]
    for k in np.argsort(-one.weights, kind="stable")[:_WORDS_SHOWN].tolist():
        term = f"weight {one.weights[k]:.0%}" if one.of_words is None else f"adds {one.of_words[k]:.3f}"
        label = f"{share_above_uniform(one.by_word[k]):.0%} above uniform, {term}"
        panels.append((highlight(one.image, one.by_word[k]), one.words[k], label))
    return panels


def above_uniform(attention: np.ndarray) -> np.ndarray:
    """Return by how much each region of `(..., g, g)` has more than its uniform share: 1 is twice that share."""
    whole = attention.sum(axis=(-2, -1), keepdims=True)
    found: np.ndarray = np.maximum(attention * attention.shape[-1] ** 2 / np.maximum(whole, 1e-12) - 1, 0)
    return found


def share_above_uniform(attention: np.ndarray) -> float:
    """Return the share of a map `(g, g)` that lies above a uniform map: 0 if it is uniform, near 1 for one region."""
    return float(above_uniform(attention).mean())


def brightness(attention: np.ndarray) -> np.ndarray:
    """Return how bright each region of `(..., g, g)` is drawn: 0 at its uniform share or below, 1 at four times it."""
    found: np.ndarray = np.minimum(np.log2(1 + above_uniform(attention)) / _BRIGHTEST, 1)
    return found


def highlight(image: Image.Image, attention: np.ndarray) -> Image.Image:
    """Return an image that is bright where attention `(g, g)` is above its uniform share, and dark elsewhere.

    The scale is the same for all maps: the brightest colour is four times the uniform share, half of it is twice.
    """
    shares = np.uint8(255 * brightness(attention))
    mask = Image.fromarray(shares).resize(image.size, Image.Resampling.BICUBIC)
    dark = Image.blend(image, Image.new("RGB", image.size), 0.35)
    lit = Image.blend(image, Image.new("RGB", image.size, _GLOW), 0.6)
    return Image.composite(lit, dark, mask)
