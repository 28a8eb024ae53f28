"""The grid pointing game: do the maps of a query lie on the part of an image that it describes?

    dove shard --captions dataset_rsicd.json --images RSICD_images.zip --name rsicd
    python -m benchmarks.pointing --shards shards/rsicd/val --checkpoint runs/rsicd/best

Four images of different kinds make a mosaic of 2 x 2, and a caption of one of them is the query; it is not a caption of
the other three. The kind of an image is its first tag, or its file's name without the number (`airport_1.jpg` is an
airport), or its first caption if the split has fewer than four kinds.

Measured are a map's share in the quarter of the right image, how often its largest cell lies there, and its entropy
divided by that of a uniform map. Chance is a quarter. `attention` is ROAM's attention of all words, `--explain` what
`dove query --explain` draws. A model without ROAM has only the second.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dove_core.answers.explain import above_uniform
from dove_core.config import ComputeConfig
from dove_core.data.reader import Shards
from dove_core.data.sample import Sample
from dove_core.encoding.embedder import Embedder
from dove_core.encoding.load import load_encoder, load_text_side
from dove_core.encoding.text_side import TextReranker

_SIDE, _AT_ONCE = 224, 50


class Mosaic(NamedTuple):
    """A mosaic as PNG, a caption of one of its four images, and the quarter of that image, row by row."""

    data: bytes
    caption: str
    quarter: int


class Figures(NamedTuple):
    """Of one map or, as means, of many: share in the right quarter, largest cell there (0 to 1), relative entropy."""

    share: float
    hit: float
    entropy: float


def kind_of(sample: Sample) -> str:
    """Return the kind of an image; empty if neither tags nor name tell."""
    tag = next((f"{key}={value}" for key, value in sample.tags.items()), "")
    return tag or re.sub(r"_?[0-9]+$", "", Path(sample.path).stem)


def kinds_of(samples: Sequence[Sample], field: str) -> list[str]:
    """Return the kind of each image by tags and names, or by captions if those tell fewer than four kinds apart."""
    kinds = [kind_of(sample) for sample in samples]
    if len({*kinds} - {""}) >= 4:
        return kinds
    return [sample.captions[field][0] if sample.captions.get(field) else "" for sample in samples]


def mosaics(shards: Shards, field: str, count: int, seed: int) -> Iterator[Mosaic]:
    """Draw mosaics; images of unknown kind are left out."""
    samples = [shards.read(number).sample for number in range(len(shards))]
    kinds = kinds_of(samples, field)
    known = [number for number, kind in enumerate(kinds) if kind and samples[number].captions.get(field)]
    if len({kinds[number] for number in known}) < 4:
        raise SystemExit(f"{shards.folder} has fewer than four kinds of images")
    random, made = np.random.default_rng(seed), 0
    while made < count:
        chosen = random.choice(known, 4, replace=False).tolist()
        quarter = int(random.integers(4))
        caption = str(random.choice(samples[chosen[quarter]].captions[field]))
        others = [number for place, number in enumerate(chosen) if place != quarter]
        if len({kinds[number] for number in chosen}) == 4 and not any(
            caption in samples[number].captions[field] for number in others
        ):
            yield Mosaic(joined([shards.read(number).image for number in chosen]), caption, quarter)
            made += 1


def joined(images: Sequence[bytes]) -> bytes:
    """Return the middle squares of four images as one PNG."""
    sheet = Image.new("RGB", (2 * _SIDE, 2 * _SIDE))
    for place, data in enumerate(images):
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        sheet.paste(square, (place % 2 * _SIDE, place // 2 * _SIDE))
    stream = io.BytesIO()
    sheet.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def figures(found: np.ndarray, quarter: int) -> Figures:
    """Return the figures of a map `(g, g)` >= 0; a map of zeros counts as uniform."""
    grid = len(found)
    shares = found / found.sum() if found.sum() > 0 else np.full(found.shape, grid**-2.0)
    largest = shares >= shares.max() * (1 - 1e-6)
    row, column = quarter // 2 * grid, quarter % 2 * grid
    inside, hit = (
        float(m.repeat(2, axis=0).repeat(2, axis=1)[row : row + grid, column : column + grid].sum() / 4)
        for m in (shares, largest / largest.sum())
    )  # a cell in the middle of an odd grid belongs to several quarters
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum() / np.log(max(2, grid * grid))
    return Figures(inside, hit, float(entropy))


def measure(embedder: Embedder, reranker: TextReranker | None, found: Sequence[Mosaic]) -> dict[str, list[Figures]]:
    """Return the figures of each kind of map on each mosaic."""
    results: dict[str, list[Figures]] = {"attention": [], "--explain": []} if reranker else {"--explain": []}
    for start in range(0, len(found), _AT_ONCE):
        block = found[start : start + _AT_ONCE]
        images = [(one.data, "mosaic") for one in block]
        parts = embedder.describe_regions(images) if reranker else ()
        for number, one in enumerate(block):
            if reranker is not None:
                regions, fused = (part[number : number + 1] for part in parts)
                whole = reranker.attention(one.caption, regions, fused).whole[0]
                results["attention"].append(figures(whole, one.quarter))
            else:
                whole = embedder.relevance(images[number : number + 1], [one.caption])[0, 0]
            results["--explain"].append(figures(above_uniform(whole), one.quarter))
    return results


def main() -> None:
    """Play the game and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder of a split, such as shards/rsicd/val")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--caption-field", default="", help="by default the field that the model was trained on")
    parser.add_argument("--mosaics", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    embedder = Embedder(load_encoder(arguments.checkpoint), ComputeConfig(device=arguments.device))
    reranker = load_text_side(arguments.checkpoint).reranker
    shards = Shards(arguments.shards)
    field = shards.choose_field(arguments.caption_field or embedder.encoder.caption_field)
    found = list(mosaics(shards, field, arguments.mosaics, arguments.seed))
    print(f"{len(found)} mosaics of {arguments.shards}, seed {arguments.seed}\n")
    print("| map | share in the right quarter | ratio to chance | largest cell there | entropy to uniform |")
    print("| --- | --- | --- | --- | --- |")
    rows = {
        name: Figures(*np.mean(all_of_it, axis=0)) for name, all_of_it in measure(embedder, reranker, found).items()
    }
    for name, mean in (rows | {"chance": Figures(0.25, 0.25, 1.0)}).items():
        print(f"| {name} | {mean.share:.3f} | {mean.share / 0.25:.2f} | {mean.hit:.3f} | {mean.entropy:.3f} |")


if __name__ == "__main__":
    main()
