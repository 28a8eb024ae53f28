"""An evaluation as a self-contained HTML page: tables, curves, queries with their images, confusions."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from PIL import Image

from dove_core.data.reader import Shards
from dove_core.encoding.preprocess import decode
from dove_core.evaluation.evaluate import Evaluation
from dove_core.evaluation.rows import RankedRow
from dove_core.evaluation.zero_shot import ZeroShot
from dove_core.files import LocalPath, atomic_file

_SHOWN = 8
_SIDE = 192
_CURVE = 100


@dataclass(frozen=True)
class Section:
    """What the page shows of one measurement: its JSON, curves, queries and confusions."""

    result: Mapping[str, Any]
    curves: Mapping[str, Mapping[str, Sequence[float]]]
    texts: Sequence[Mapping[str, Any]] = ()
    images: Sequence[Mapping[str, Any]] = ()
    wrong: Sequence[Mapping[str, Any]] = ()

    @property
    def recalls(self) -> list[str]:
        """Names of recall at each K, in both directions."""
        return [name for name in next(iter(self.result["metrics"].values())) if "_recall@" in name]


def write_report(path: LocalPath, sections: Sequence[Section]) -> None:
    """Write a page with a section for each measurement.

    Raises:
        SpaceError: the disk is full.

    >>> request = dove.EvaluationRequest("runs/shapes/best", with_section=True)
    >>> (record,) = dove.measure(request, dove.EvaluationInput(shards="shards/shapes/test"))
    >>> dove.write_report("report.html", [record.section])
    """
    environment = Environment(loader=PackageLoader("dove_core.evaluation", "."), autoescape=True, trim_blocks=True)
    environment.filters["polyline"] = _polyline
    page = environment.get_template("report.html.j2").render(sections=sections, width=_CURVE)
    with atomic_file(Path(path)) as stream:
        stream.write(page.encode())


def section_of(measured: Evaluation | ZeroShot, shards: Shards) -> Section:
    """Return the section of a measurement; its images are read from the shards.

    Raises:
        DataError: a shard is damaged.
    """
    return _retrieval(measured, shards) if isinstance(measured, Evaluation) else _classification(measured, shards)


def _retrieval(measured: Evaluation, shards: Shards) -> Section:
    curves = {name: _curves(row) for name, row in measured.ranked.items()}
    last = list(measured.ranked.values())[-1]
    return Section(
        measured.to_json(), curves, _text_queries(measured, last, shards), _image_queries(measured, last, shards)
    )


def _curves(row: RankedRow) -> dict[str, list[float]]:
    """Return recall at 1, 2, ..., 100 in percent, in both directions."""
    found = {}
    for direction, ranks in (("image_to_text", row.ranks.image_ranks), ("text_to_image", row.ranks.text_ranks)):
        counts = np.bincount(np.minimum(ranks, _CURVE + 1), minlength=_CURVE + 2)[1 : _CURVE + 1]
        found[direction] = (100 * counts.cumsum() / max(1, len(ranks))).tolist()
    return found


def _best_and_worst(ranks: np.ndarray, places: np.ndarray) -> list[int]:
    """Return the places with the lowest and the highest ranks; equal ranks are drawn from the whole split."""
    spread = np.random.default_rng(0).permutation(places)
    order = spread[np.argsort(ranks[spread], kind="stable")]
    half = min(_SHOWN, -(-len(order) // 2))
    return [*order[:half].tolist(), *order[max(half, len(order) - _SHOWN) :][::-1].tolist()]


def _text_queries(measured: Evaluation, row: RankedRow, shards: Shards) -> list[dict[str, Any]]:
    split = measured.encoded
    columns, positives = split.texts(split.protocol(measured.protocol))
    found = []
    _, alone = np.unique(columns[row.ranks.texts], return_index=True)  # show equal texts once
    for place in _best_and_worst(row.ranks.text_ranks, alone):
        text = int(row.ranks.texts[place])
        own = int(positives.images[positives.texts == text][0])
        first = int(row.first_image[columns[text]])
        found.append(
            {
                "text": split.caption_texts[columns[text]],
                "rank": int(row.ranks.text_ranks[place]),
                "own": _image(shards, own),
                "first": _image(shards, first) if first != own else None,
            }
        )
    return found


def _image_queries(measured: Evaluation, row: RankedRow, shards: Shards) -> list[dict[str, Any]]:
    split = measured.encoded
    found = []
    for place in _best_and_worst(row.ranks.image_ranks, np.arange(len(row.ranks.images))):
        number = int(row.ranks.images[place])
        own = dict.fromkeys(split.caption_texts[k] for k in split.distinct[split.owners == number])
        first = split.caption_texts[int(row.first_caption[number])]
        found.append(
            {
                "image": _image(shards, number),
                "rank": int(row.ranks.image_ranks[place]),
                "own": list(own),
                "first": first,
                "is_own": first in own,
            }
        )
    return found


def _classification(measured: ZeroShot, shards: Shards) -> Section:
    scores = list(measured.rows.values())[-1]
    others = scores.confusion.copy()
    np.fill_diagonal(others, 0)
    wrong = []
    for flat in np.argsort(-others, axis=None, kind="stable")[: 2 * _SHOWN]:
        true, predicted = np.unravel_index(flat, others.shape)
        if not others[true, predicted]:
            break
        examples = measured.numbers[(measured.labels == true) & (scores.predicted == predicted)]
        wrong.append(
            {
                "is": measured.classes[int(true)],
                "predicted": measured.classes[int(predicted)],
                "count": int(others[true, predicted]),
                "image": _image(shards, int(examples[0])),
            }
        )
    return Section(measured.to_json(), {}, wrong=wrong)


def _image(shards: Shards, number: int) -> str:
    """Return a small copy of an image as a data URL."""
    record = shards.read(number)
    small = Image.fromarray(decode(record.image, record.name).permute(1, 2, 0).numpy())
    small.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _polyline(values: Sequence[float]) -> str:
    """Return the points of a curve in a box of 100 by 100 with a logarithmic x axis from 1."""
    scale = 100 / np.log(len(values))
    return " ".join(f"{scale * np.log(k):.2f},{100 - value:.2f}" for k, value in enumerate(values, 1))
