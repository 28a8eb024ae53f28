"""The built-in release on disk: images and metadata in zips, captions in CSVs, in SkyScript's own layout."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import random
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dove_core.data.scenes.kinds import KINDS
from dove_core.data.scenes.scene import Drawn, Order, draw
from dove_core.events import Advanced, Report, Saved, Started, silent
from dove_core.files import LocalPath, atomic_file, make_folder, sha256_of, write_json
from dove_core.processes import begin

COUNTS: Mapping[str, int] = {"train": 2000, "val": 200, "test": 200}
"""Images in each split."""

SEED = 2024

PARTS = (2, 3)
"""Numbers of the zips."""

RUNWAYS = 0.1
"""Share of the first kind, runways, in each split."""

DONE = "scenes.json"
"""Name of the done-marker: settings, and the size and SHA-256 of every file."""

Row = tuple[str, str, str]

COLUMNS = ("filepath", "title", "title_multi_objects")

_FORMAT = 1
_TASK = "draw"
_CHUNK = 8


def draw_release(
    folder: LocalPath,
    *,
    workers: int = 2,
    counts: Mapping[str, int] = COUNTS,
    seed: int = SEED,
    report: Report = silent,
) -> None:
    """Draw the built-in release into `folder`, or do nothing if it is there and whole.

    The bytes depend on `counts` and `seed` alone, not on `workers`.

    Args:
        folder: where `images2.zip`, `meta2.zip`, ... and `dataframe/sample_train.csv`, ... go.
        workers: processes that draw; 1 draws in this one.
        counts: images in each split; a kind is missing from a split with fewer images than kinds.
        seed: another seed draws other images.
        report: receives Started, Advanced and Saved.

    Raises:
        ValueError: fewer than one worker.
        SpaceError: the disk is full.
        UsageError: `folder` cannot be made.

    >>> dove.draw_release("data/scenes", counts={"train": 8, "test": 4}, workers=1)
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    recipe, folder = {"format": _FORMAT, "seed": seed, "counts": dict(counts)}, Path(folder)
    make_folder(folder)
    if _is_whole(folder, recipe):
        return
    (folder / DONE).unlink(missing_ok=True)
    orders, splits = plan(counts, seed)
    report(Started(_TASK, len(orders), "images"))
    rows = _write_zips(folder, orders, workers, report)
    for split in counts:
        _write_table(
            folder / _table_name(split), [row for row, where in zip(rows, splits, strict=True) if where == split]
        )
    files = [f"{name}.zip" for name in _zip_names()] + [_table_name(split) for split in counts]
    write_json(folder / DONE, {**recipe, "files": {name: _facts(folder / name) for name in files}})
    for name in files:
        report(Saved(str(folder / name)))


def plan(counts: Mapping[str, int], seed: int) -> tuple[list[Order], list[str]]:
    """Return what to draw, in order, and the split of each: kinds in even shares except runways, then shuffled."""
    orders: list[Order] = []
    splits: list[str] = []
    for split, count in counts.items():
        runways = round(count * RUNWAYS)
        kinds = [0] * runways + [1 + i % (len(KINDS) - 1) for i in range(count - runways)]
        random.Random(f"{seed}/{split}").shuffle(kinds)
        orders += [Order(seed, len(orders) + i, kind) for i, kind in enumerate(kinds)]
        splits += [split] * count
    return orders, splits


def _write_zips(folder: Path, orders: list[Order], workers: int, report: Report) -> list[Row]:
    """Draw all images into the zips; return a table's row for each."""
    rows: list[Row] = []
    with ExitStack() as stack:
        zips = {name: stack.enter_context(_stored(folder / f"{name}.zip")) for name in _zip_names()}
        for order, drawn in zip(orders, _drawn(orders, workers), strict=True):
            part = PARTS[order.serial % len(PARTS)]
            image = f"images{part}/{drawn.stem}.jpg"
            _put(zips[f"images{part}"], image, drawn.jpeg)
            _put(zips[f"meta{part}"], f"meta{part}/{drawn.stem}.pickle", drawn.meta)
            rows.append((image, drawn.captions.title, drawn.captions.title_multi_objects))
            report(Advanced(_TASK))
    return rows


def _drawn(orders: list[Order], workers: int) -> Iterator[Drawn]:
    """Draw in this process or in others; yield the images in the order of `orders`."""
    if workers == 1:
        yield from map(draw, orders)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=begin)
    try:
        yield from pool.map(draw, orders, chunksize=_CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


def _zip_names() -> list[str]:
    return [f"{what}{part}" for part in PARTS for what in ("images", "meta")]


def _table_name(split: str) -> str:
    return f"dataframe/sample_{split}.csv"


@contextmanager
def _stored(path: Path) -> Iterator[zipfile.ZipFile]:
    with atomic_file(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        yield archive


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a member whose header depends on its name and bytes alone."""
    member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    member.create_system, member.external_attr = 3, 0o644 << 16
    archive.writestr(member, data)


def _write_table(path: Path, rows: list[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    with atomic_file(path) as stream:
        stream.write(text.getvalue().encode())


def _facts(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _is_whole(folder: Path, recipe: Mapping[str, object]) -> bool:
    """Tell whether the marker has these settings and every file agrees with it."""
    try:
        marker = json.loads((folder / DONE).read_text(encoding="utf-8"))
        files = marker.pop("files")
        return bool(marker == recipe and all(_facts(folder / name) == facts for name, facts in files.items()))
    except (OSError, ValueError, KeyError, AttributeError):
        return False
