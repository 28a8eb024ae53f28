"""Makes small inputs for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw

from dove_core.config import ModelConfig

COLOURS = ("red", "green", "blue", "yellow", "white", "purple")
SHAPES = ("circle", "square", "cross", "stripe")
SMALL = ModelConfig(
    backbone="resnet18", image_size=32, embed_dim=32, heads=4, word_dim=16, region_grid=2, max_tokens=12
)


def draw_shape(colour: str, shape: str, size: int = 48, shift: int = 0) -> Image.Image:
    """Draw one coloured shape on grey ground."""
    image = Image.new("RGB", (size, size), (90, 90, 90))
    draw = ImageDraw.Draw(image)
    a, b = size // 5 + shift, 4 * size // 5
    if shape == "circle":
        draw.ellipse((a, a, b, b), fill=colour)
    elif shape == "square":
        draw.rectangle((a, a, b, b), fill=colour)
    elif shape == "cross":
        draw.line((a, a, b, b), fill=colour, width=size // 8)
        draw.line((a, b, b, a), fill=colour, width=size // 8)
    else:
        draw.rectangle((0, size // 2 - 4 + shift, size, size // 2 + 4 + shift), fill=colour)
    return image


def make_karpathy(folder: Path, counts: Mapping[str, int]) -> tuple[Path, Path]:
    """Write a Karpathy JSON and a folder of JPEGs; return both."""
    (folder / "images").mkdir(parents=True)
    images = []
    for split, count in counts.items():
        for k in range(count):
            colour, shape = COLOURS[k % len(COLOURS)], SHAPES[k // len(COLOURS) % len(SHAPES)]
            name = f"{split}_{k}.jpg"
            draw_shape(colour, shape, shift=k // 24 * 2).save(folder / "images" / name, quality=92)
            texts = [f"a {colour} {shape} on grey ground", f"There is one {shape}, and it is {colour}."]
            sentences = [{"raw": text, "tokens": text.split()} for text in texts]
            images.append({"filename": name, "imgid": len(images), "split": split, "sentences": sentences})
    captions = folder / "dataset_shapes.json"
    captions.write_text(json.dumps({"images": images, "dataset": "shapes"}))
    return captions, folder / "images"
