"""Parquet files with images inside, in the layout of `arampacha/rsicd` on the Hugging Face Hub and in others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.releases import image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
RSICD = pa.schema([("filename", pa.string()), ("captions", pa.list_(pa.string())), ("image", IMAGE)])
COUNTS = {"train": 23, "valid": 7, "test": 5}


def captions(split: str, number: int) -> list[str]:
    return [f"a {split} lake {number} .", " two\nlines ", "."][: 1 + number % 3]


def name(split: str, number: int) -> str:
    return f"{split}_{number}.jpg"


def number_of(split: str, number: int) -> int:
    """Return the number of an image in all splits."""
    return 100 * list(COUNTS).index(split) + number


def rsicd_rows(split: str) -> list[dict[str, Any]]:
    return [
        {
            "filename": f"rsicd_images/{name(split, k)}",
            "captions": captions(split, k),
            "image": {"bytes": image(number_of(split, k)), "path": name(split, k)},
        }
        for k in range(COUNTS[split])
    ]


def make_rsicd(root: Path, **how: Any) -> Path:
    """Write a release as the Hub has it, one file for each split; return its folder."""
    for split in COUNTS:
        write_rows(root / "data" / f"{split}-00000-of-00001.parquet", rsicd_rows(split), RSICD, **how)
    return root


def write_rows(path: Path, rows: Sequence[dict[str, Any]], schema: Any = None, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path, **{"row_group_size": 4, **how})
    return path


def make_karpathy_of_rsicd(root: Path) -> tuple[Path, Path]:
    """Write the same images and captions as a JSON and a folder."""
    (root / "images").mkdir(parents=True)
    images = []
    for split in COUNTS:
        for k in range(COUNTS[split]):
            (root / "images" / name(split, k)).write_bytes(image(number_of(split, k)))
            sentences = [{"raw": text} for text in captions(split, k)]
            where = {"valid": "val"}.get(split, split)
            images.append({"filename": name(split, k), "split": where, "sentences": sentences})
    (root / "captions.json").write_text(json.dumps({"images": images}))
    return root / "captions.json", root / "images"
