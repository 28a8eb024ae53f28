"""Evaluation data other than shards: images with captions or labels, in several forms.

All forms are converted to shards in a temporary folder, so that images are read in one way. The forms:

- a zip or folder of images, and a separate CSV or Karpathy JSON;
- a zip or folder with images, a CSV and possibly `classnames.txt`, as SkyScript's benchmark sets;
- a zip or folder of images in folders named after their classes.
"""

from __future__ import annotations

import csv
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dove_core.config import ShardConfig
from dove_core.data.caption_forms import caption_columns
from dove_core.data.csv_tables import CSV_ENDINGS, column_names, path_column, plain_names, read_columns
from dove_core.data.sharding.archives import image_places, index_images
from dove_core.data.sharding.json_captions import JSON_ENDINGS
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.splits import SPLIT_COLUMNS, split_in
from dove_core.errors import DataError, UsageError, reason_of
from dove_core.evaluation.zero_shot import read_class_names
from dove_core.events import Noted, Report, Skipped, silent

LABEL = "label"
"""Caption field of the labels."""

_SPLITS = ("test", "val", "train")
_LEFT_OUT = "see the reasons above"


@dataclass(frozen=True)
class ShardedInput:
    """A split made of the user's files; `label_field` is empty if it has captions, not labels."""

    shards: Path
    label_field: str = ""
    class_names: str = ""


@contextmanager
def sharded(
    images: Path,
    captions: Path | None = None,
    *,
    split: str = "",
    label_field: str = "",
    class_names: Path | None = None,
    report: Report = silent,
) -> Iterator[ShardedInput]:
    """Make temporary shards of images with captions or labels; leaving the context deletes them.

    Args:
        images: a zip or folder of images.
        captions: a CSV or Karpathy JSON; without it, a CSV in `images`, and without that, folders are classes.
        split: split of a JSON, or of several CSVs in `images`; empty: the split in the CSV's name, else `test`.
        label_field: column of the labels, if it is not `label`.
        class_names: file of class names, one a line; without it, the `classnames.txt` next to the CSV.
        report: receives an event for rows that are left out.

    Raises:
        DataError: a file is missing or unreadable, a label is not one of the classes, or no row can be used.
        UsageError: the table has no column `label_field`.
    """
    with tempfile.TemporaryDirectory(prefix="dove-") as folder:
        scratch = Path(folder)
        table, names = _beside(captions) if captions else _found_inside(images, scratch, split, label_field)
        if table is None:
            table, label = _table_of_folders(images, scratch, report), LABEL
        else:
            label = _label_column(table, names or class_names, label_field)
            if label:
                table = _labels(table, label, names or class_names, scratch, report)
        name = re.sub(r"[^\w.-]", "_", images.absolute().name.removesuffix(".zip")) or "images"
        wanted = split or (_split_in_name(captions) if captions else "") or "test"
        out = scratch / "shards" / name
        config = ShardConfig(max_bad=1.0)  # rows that cannot be used are left out and counted
        (made,) = shard_captions(table, images, out, config, split=wanted, report=_quiet(report))
        if not made.samples:
            raise DataError(f"{images} has {made.rows} rows, and none can be used", hint=_LEFT_OUT)
        yield ShardedInput(out / made.split, LABEL if label else "", str(names) if label and names else "")


def _split_in_name(table: Path) -> str:
    """Return the split in the name of a CSV, or an empty text."""
    return split_in(table.name) if table.suffix.lower() in CSV_ENDINGS else ""


def _beside(captions: Path) -> tuple[Path, Path | None]:
    """Return a table and the `classnames.txt` in its folder, if there is one."""
    names = captions.with_name("classnames.txt")
    return captions, names if names.is_file() else None


def _quiet(report: Report) -> Report:
    """Return a callable that passes on only events of skipped rows, not of temporary shards."""

    def report_skipped(event: object) -> None:
        if isinstance(event, Skipped):
            report(event)

    return report_skipped


def _found_inside(images: Path, scratch: Path, split: str, label_field: str) -> tuple[Path | None, Path | None]:
    """Return copies of the CSV and the list of classes in `images`; None for one that does not exist."""
    texts = _texts_inside(images)
    tables = [name for name in texts if name.lower().endswith(".csv")]
    if len(tables) > 1:
        by_split = {name: split_in(PurePosixPath(name).name) for name in tables}
        best = next((s for s in ((split,) if split else _SPLITS) if s in by_split.values()), None)
        tables = [name for name in tables if by_split[name] == best] if best else tables
    if len(tables) > 1:
        raise DataError(f"{images} has several tables: {', '.join(tables)}", hint="choose one with --captions FILE")
    if not tables:
        return None, None
    suffix = label_field.removeprefix(LABEL) if label_field.startswith(LABEL) else ""
    wanted = (f"classnames{suffix}.txt", "classnames.txt", "classnames_v1.txt")
    listed = [n for w in wanted for n in texts if PurePosixPath(n).name.lower() == w]
    return _copied(images, tables[0], scratch), _copied(images, listed[0], scratch) if listed else None


def _texts_inside(images: Path) -> list[str]:
    """Return the names of tables and lists of classes in a zip, or in a folder and its subfolders."""
    if images.is_dir():
        files = [*images.glob("*"), *images.glob("*/*.csv"), *images.glob("*/classnames*.txt")]
        names = [path.relative_to(images).as_posix() for path in sorted(files)]
    else:
        try:
            with zipfile.ZipFile(images) as archive:
                names = sorted(archive.namelist())
        except FileNotFoundError:
            raise DataError(f"{images} does not exist", hint="give a zip or a folder with --images") from None
        except (OSError, zipfile.BadZipFile) as error:
            hint = "give a complete zip, or a folder of images"
            raise DataError(f"{images} cannot be read as a zip: {reason_of(error)}", hint=hint) from error
    is_text = re.compile(r"(?i)(?:\.csv|(?:^|/)classnames[^/]*\.txt)$")
    return [name for name in names if is_text.search(name) and not name.startswith("__MACOSX/")]


def _copied(images: Path, name: str, scratch: Path) -> Path:
    root = images if images.is_dir() else zipfile.Path(images)
    target = scratch / PurePosixPath(name).name
    target.write_bytes((root / name).read_bytes())
    return target


def _table_of_folders(images: Path, scratch: Path, report: Report) -> Path:
    """Write a table of images in folders named after their classes.

    Raises:
        DataError: there are fewer than two such folders, or all of them are numbers.
    """
    names = index_images(image_places(images)).names()
    folders = [PurePosixPath(name).parent.name for name in names]
    if len(set(folders)) < 2:
        message = f"{images} has neither a CSV nor folders named after classes"
        raise DataError(message, hint="give captions or labels with --captions FILE")
    if not any(character.isalpha() for folder in folders for character in folder):
        message = f"{images}: the folders of classes are numbers, such as {folders[0]}, which no model knows by name"
        hint = "name them after their classes; or give --captions FILE (filepath,label) and --class-names FILE"
        raise DataError(message, hint=hint)
    words = {folder: in_words(folder) for folder in folders}
    if len(set(words.values())) < len(words):
        twice = sorted(folder for folder, word in words.items() if list(words.values()).count(word) > 1)
        report(Noted(f"folders with the same class name: {', '.join(twice)}"))
    return _write_labels(scratch / "folders_test.csv", zip(names, (words[folder] for folder in folders), strict=True))


def _write_labels(table: Path, rows: Iterable[tuple[str, ...]], *, split: bool = False) -> Path:
    """Write a table of paths, labels and possibly splits; return its path."""
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("filepath", LABEL, *(["split"] if split else [])))
        writer.writerows(rows)
    return table


def in_words(name: str) -> str:
    """Return the words of a folder name: `annual crop` for `AnnualCrop`, `storage tank` for `storage_tank`."""
    return re.sub(r"[\s_-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).strip().lower()


def _label_column(table: Path, names: Path | None, wanted: str) -> str:
    """Return the column of labels; empty if the table holds captions."""
    if table.suffix.lower() in JSON_ENDINGS:
        if wanted:
            raise UsageError(f"--label-field {wanted}: {table.name} has captions", hint="give a CSV with labels")
        return ""
    columns = column_names(table)
    plain = plain_names(columns)
    if wanted:
        if wanted.lower() not in plain:
            hint = f"its columns are {', '.join(columns)}"
            raise UsageError(f"--label-field {wanted}: {table.name} has no such column", hint=hint)
        return plain[wanted.lower()]
    found = next((plain[name] for name in (LABEL, f"{LABEL}_v1") if name in plain), "")
    has_captions = bool(caption_columns(columns))
    if not found and not has_captions:
        hint = "labels: --label-field COLUMN; captions are read from title, title_multi_objects or caption"
        raise DataError(f"{table.name} has neither captions nor labels; columns: {', '.join(columns)}", hint=hint)
    return found if names or not has_captions else ""


def _labels(table: Path, column: str, names: Path | None, scratch: Path, report: Report) -> Path:
    """Write a table of paths and labels in words; rows without a label are skipped and counted."""
    names_of = column_names(table)
    path, plain = path_column(table, names_of), plain_names(names_of)
    split = [plain[name] for name in SPLIT_COLUMNS[:1] if name in plain]
    columns = read_columns(table, [path, column, *split])
    values = zip(*(columns[name].to_pylist() for name in (path, column, *split)), strict=True)
    rows = [tuple(value.strip() for value in row) for row in values]
    kept = [row for row in rows if row[1]]
    if len(kept) < len(rows):
        report(Skipped("labels", "no label", len(rows) - len(kept), next(row[0] for row in rows if not row[1])))
    words = _in_classes([row[1] for row in kept], read_class_names(names) if names else [], table)
    pairs = ((row[0], word, *row[2:]) for row, word in zip(kept, words, strict=True))
    return _write_labels(scratch / f"labels_{split_in(table.name) or 'all'}.csv", pairs, split=bool(split))


def _in_classes(labels: Sequence[str], classes: Sequence[str], table: Path) -> list[str]:
    """Return labels as class names; a number is an index into `classes`, from 0."""
    if not labels:
        raise DataError(f"{table} has no labels", hint="expected the columns filepath,label")
    if not all(re.fullmatch(r"-?\d+(\.0)?", label) for label in labels):
        return list(labels)
    numbers = [int(float(label)) for label in labels]
    if not classes:
        hint = "give --class-names FILE, or put a classnames.txt next to the table: one class name in each line"
        raise DataError(f"{table} has numbers as labels, but no class names", hint=hint)
    if max(numbers) >= len(classes) or min(numbers) < 0:
        wrong = max(numbers) if max(numbers) >= len(classes) else min(numbers)
        message = f"{table} has the label {wrong}, but there are {len(classes)} classes, numbered from 0"
        raise DataError(message, hint="use the classnames.txt of the same data set")
    return [classes[number] for number in numbers]
