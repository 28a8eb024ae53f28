"""Small releases in SkyScript's layout, made for tests, and what to look at in their shards."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from dove_core.config import ShardConfig

SMALL = ShardConfig(shard_size=4, workers=1)
LENIENT = ShardConfig(shard_size=4, max_bad=1.0, workers=1)


def image(number: int, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def key(number: int) -> str:
    return f"a{number}_CH_19"


def make_release(root: Path, rows: int = 10, split: str = "train", nest: str = "images2/") -> Path:
    meta = {"box": (8.0, 47.0, 8.1, 47.1), "time": (2019, 7, 3, 10, 20), "center_tags": {"a": "b"}}
    (root / "dataframe").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "images2.zip", "w") as images, zipfile.ZipFile(root / "meta2.zip", "w") as metas:
        for i in range(rows):
            images.writestr(f"{nest}{key(i)}.jpg", image(i))
            metas.writestr(f"meta2/{key(i)}.pickle", pickle.dumps(meta))
    write_table(
        root / "dataframe" / f"SkyScript_{split}_5K.csv",
        [(f"images2/{key(i)}.jpg", f"a lake {i}") for i in range(rows)],
    )
    return root


def write_table(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [
        "filepath,title,title_multi_objects",
        *(f"{name},{text},{text and text + ' by a road'}" for name, text in rows),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def table_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
