"""Random combinations of what caption files are like: every row is in the shards or counted, and nothing else."""

import csv
import io
import json
import random
import string
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from dove_core.config import ShardConfig
from dove_core.data.manifest import FAILED, MERGED, NO_CAPTION, OK
from dove_core.data.sample import clean_captions
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.splits import split_named
from dove_core.events import Event, Skipped
from tests.data.releases import table_of
from tests.data.test_image_depth import png

CONFIG = ShardConfig(shard_size=3, max_bad=1.0, workers=1)
QUICK = 40
SEEDS = [*range(QUICK), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(QUICK, 200))]

NAMES = {
    "train": "train", "valid": "val", "rsicd_test": "test", "val2014": "val", "captions": "train", "latest": "train",
    "x test(1)": "test", "RSICDtest": "test", "dev": "val", "evaluation": "val", "TRAIN": "train", "trainval": "train",
}  # fmt: skip
"""Names of files, and the splits that they mean."""

WORDS = [
    "a lake",
    "two, or three; planes",
    'a "quoted" pier',
    "line\nbreak",
    "机场 | 🛰️",
    "it's a road",
    "42",
    "[aerial] dock",
]
EMPTY = ["", " ", ".", "nan", "\t"]
SPLIT_WORDS = ["train", "Train", "val", "valid", "validation", "dev", "test", "TEST", "restval", ""]
HEADS = {
    "path": ["filepath", "file_name", "filename", "image", "Image_Path", " path "],
    "text": ["caption", "Title", "text"],
}


@dataclass
class Made:
    """A caption file, and what is to come of it: the paths of each split's rows, in their order."""

    file: Path
    rows: dict[str, list[str]] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def deep_picture(draw: random.Random) -> tuple[bytes, str, bool]:
    """Return bytes, ending, and whether they are an image, of one with more than 8 bits a channel or many bands."""
    values = np.random.default_rng(draw.randrange(9)).integers(0, 4000, (draw.choice([1, 2, 3, 4, 13]), 6, 9))
    kind = draw.choice(["uint8", "uint16", "uint16", "int16", "float32", "complex64"])
    if kind == "uint16" and len(values) < 5 and draw.random() < 0.5:
        data, ending = png(values.astype(kind)), draw.choice([".png", ".PNG", ".jpg"])
    else:
        how = {"interleave": draw.choice(["pixel", "band"]), "nodata": draw.choice([None, 0])}
        with rasterio.MemoryFile() as file:
            shape = {"count": len(values), "height": 6, "width": 9, "dtype": kind}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with file.open(driver="GTiff", **shape, **how) as dataset:
                    dataset.write(values.astype(kind))
            data, ending = bytes(file.getbuffer()), draw.choice([".tif", ".tiff", ".TIF"])
    if draw.random() < 0.1:
        return data[: len(data) // 3], ending, False
    return data, ending, kind != "complex64"


def picture(draw: random.Random) -> tuple[bytes, str, bool]:
    """Return bytes, ending, and whether they are an image."""
    if draw.random() < 0.3:
        return deep_picture(draw)
    pixels = np.random.default_rng(draw.randrange(9)).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image, stream = Image.fromarray(pixels), io.BytesIO()
    kind, mode, ending = draw.choice([
        ("JPEG", "RGB", ".jpg"), ("JPEG", "L", ".JPG"), ("JPEG", "CMYK", ".jpeg"), ("PNG", "RGBA", ".png"),
        ("PNG", "P", ".png"), ("PNG", "1", ".PNG"), ("WEBP", "RGB", ".webp"), ("GIF", "P", ".gif"),
        ("BMP", "RGB", ".bmp"), ("TIFF", "RGB", ".tif"), ("JPEG2000", "RGB", ".jp2"), ("WEBP", "RGB", ".jpg"),
    ])  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = draw.randint(1, 8)
    how: dict[str, Any] = {"exif": exif} if kind == "JPEG" and draw.random() < 0.3 else {}
    image.convert(mode).save(stream, kind, **how)
    data = stream.getvalue()
    match draw.randrange(12):
        case 0:
            return (
                draw.choice([b"", b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n"]),
                ending,
                False,
            )
        case 1 if kind == "JPEG":
            return data[: len(data) // 2], ending, False
        case 2 if kind == "JPEG":
            return data[:-2] + bytes(30) + data[-2:], ending, True
    return data, ending, True


def captions_of_row(draw: random.Random, count: int) -> list[str]:
    return [draw.choice(EMPTY if draw.random() < 0.2 else WORDS) for _ in range(count)]


def as_cell(draw: random.Random, texts: list[str]) -> str:
    """Return captions as one value of a CSV: printed by Python, by numpy, or as JSON."""
    printed = [str(texts), json.dumps(texts), json.dumps(texts, ensure_ascii=False), str(np.array(texts, dtype=object))]
    return draw.choice([*printed, str([{"raw": text, "tokens": text.split()} for text in texts])])


def write_csv(draw: random.Random, folder: Path, records: list[dict[str, Any]], has_split: bool) -> tuple[Path, str]:
    """Write records as a table of text; return its path and the split that its name means."""
    name, split = draw.choice(list(NAMES.items()))
    separator = draw.choice(",\t;|")
    file = folder / f"{name}{'.tsv' if separator == chr(9) and draw.random() < 0.5 else '.csv'}"
    count = max(len(record["texts"]) for record in records)
    form = draw.choice(["one", "columns", "printed"])
    text_head = draw.choice(HEADS["text"])
    heads = [f"{text_head}_{number}" for number in range(count)] if form == "columns" else [text_head]
    table = [[draw.choice(HEADS["path"]), *heads, *(["split"] if has_split else []), "source"]]
    for record in records:
        texts = record["texts"]
        if form == "one":
            record["texts"] = texts = texts[:1]
        cells = [*texts, *[""] * (count - len(texts))] if form == "columns" else texts
        cells = [as_cell(draw, texts)] if form == "printed" else cells
        record["texts"] = cells if form == "columns" else texts
        table.append([record["path"], *cells, *([record["split"]] if has_split else []), "google"])
    encoding = draw.choice(["utf-8", "utf-8-sig", "utf-16"])
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.writer(
            stream, delimiter=separator, lineterminator=draw.choice(["\n", "\r\n"]),
            quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        )  # fmt: skip
        writer.writerows(table)
        for _ in range(draw.choice([0, 0, 2])):
            writer.writerow([""] * len(table[0]))
    return file, split


def write_json(draw: random.Random, folder: Path, records: list[dict[str, Any]], has_split: bool) -> tuple[Path, str]:
    """Write records in one of JSON's forms; return its path and the split that its name means."""
    name, split = draw.choice(list(NAMES.items()))
    sentences = draw.choice([
        lambda texts: [{"raw": text, "tokens": []} for text in texts], lambda texts: texts,
        lambda texts: [None if text == "" else {"raw": text} for text in texts],
    ])  # fmt: skip
    plain = [
        {"filename": r["path"], "sentences": sentences(r["texts"]), **({"split": r["split"]} if has_split else {})}
        for r in records
    ]
    form = draw.choice(["karpathy", "list", "lines", "class", "coco"])
    ending, value = ".json", dict[str, Any]()
    match form:
        case "karpathy":
            text = json.dumps({"images": plain, "dataset": "x"})
        case "list":
            text = json.dumps(plain, ensure_ascii=False)
        case "lines":
            text, ending = "\n".join(map(json.dumps, plain)), draw.choice([".jsonl", ".json"])
        case "class":
            value = {"lake": plain[: len(plain) // 2], "pier": plain[len(plain) // 2 :]}
            text = json.dumps({key: inner for key, inner in value.items() if inner})
        case _:
            images = [{"id": k, "file_name": one["filename"], "split": one.get("split")} for k, one in enumerate(plain)]
            notes = [{"image_id": k, "caption": text} for k, record in enumerate(records) for text in record["texts"]]
            draw.shuffle(notes)
            text = json.dumps({"images": images, "annotations": notes})
            for record in records:
                record["texts"] = sorted(record["texts"])
    file = folder / f"{name}{ending}"
    file.write_text(text, encoding=draw.choice(["utf-8", "utf-8-sig", "utf-16"]))
    return file, split


def make(draw: random.Random, folder: Path) -> tuple[Made, Path]:
    """Draw images and a caption file; return the file and where the images are."""
    folder.mkdir()
    names, good = [], set[str]()
    packed = draw.random() < 0.5
    store: dict[str, bytes] = {}
    for number in range(draw.randint(4, 8)):
        stem = "".join(draw.choices(string.ascii_letters + "é机 _-", k=6)).strip() + str(number)
        data, ending, is_good = picture(draw)
        store[f"pics/{stem}{ending}"] = data
        names.append(stem + ending)
        good |= {stem + ending} if is_good else set()
    images = folder / "pics"
    if packed:
        images = folder / "pics.zip"
        with zipfile.ZipFile(images, "w", draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for name, data in store.items():
                archive.writestr(name, data)
    else:
        images.mkdir()
        for name, data in store.items():
            (folder / name).write_bytes(data)
    has_split = draw.random() < 0.5
    records = []
    for name in names:
        path = draw.choice([name, f"pics/{name}", f".\\pics\\{name}", f"C:\\x\\pics\\{name}", f"../pics/{name}"])
        records.append({"name": name, "path": path, "texts": captions_of_row(draw, draw.randint(1, 4))})
    nowhere = {"name": "", "path": "nowhere.jpg", "texts": ["a lake"]}
    again = [{**draw.choice(records), "texts": captions_of_row(draw, 2)} for _ in range(draw.choice([0, 0, 2]))]
    records += [*again, *([nowhere] if draw.random() < 0.3 else [])]
    draw.shuffle(records)
    for record in records:
        record["split"] = draw.choice(SPLIT_WORDS)
    write = draw.choice([write_csv, write_json])
    file, split = write(draw, folder, records, has_split)
    made = Made(file)
    has_split = has_split and any(record["split"] for record in records)
    for record in records:
        own = split_named(record["split"]) if has_split else split
        if not own:
            made.left_out["row without a split"] += 1
            continue
        made.rows.setdefault(own, []).append(record["path"])
        if record["name"] in good:
            made.captions.setdefault(f"{own} {record['name']}", []).extend(clean_captions(record["texts"]))
    return made, images


@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_of_a_random_table_is_in_the_shards_or_counted(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    made, images = make(draw, tmp_path / "in")
    events: list[Event] = []
    for split in made.rows:  # one after the other, since a split without a usable row is an error
        usable = any(key.startswith(f"{split} ") and texts for key, texts in made.captions.items())
        if not usable:
            continue
        (manifest,) = shard_captions(made.file, images, tmp_path / "out", CONFIG, split=split, report=events.append)
        rows = table_of(tmp_path / "out" / split)
        assert manifest.split == split
        assert manifest.rows == len(rows) == len(made.rows[split]) == sum(manifest.counts.values())
        assert sorted(row["path"] for row in rows) == sorted(made.rows[split])
        assert {row["status"] for row in rows} <= {OK, MERGED, NO_CAPTION, *FAILED}
        found = {}
        for row in rows:
            if row["status"] == OK:
                name = row["path"].replace("\\", "/").rsplit("/", 1)[-1]
                found[f"{split} {name}"] = sorted(text for _, texts in row["captions"] for text in texts)
        wanted = {key: sorted(texts) for key, texts in made.captions.items() if key.startswith(f"{split} ") and texts}
        assert found == wanted
    if made.left_out["row without a split"] and any(made.captions.values()):
        counts = Counter({event.reason: event.count for event in events if isinstance(event, Skipped)})
        assert counts["row without a split"] in (0, made.left_out["row without a split"])
