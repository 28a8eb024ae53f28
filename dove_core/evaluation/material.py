"""What can be evaluated besides shards: captions or labels with images, in any form that people have them.

Everything becomes shards in a passing folder, so that there is one path from images to numbers. The forms:

- a zip or folder of images, and a CSV or Karpathy JSON beside it;
- a zip or folder with the CSV in it, and perhaps `classnames.txt`: SkyScript's benchmark sets;
- a zip or folder of images in folders named like their classes.
"""

from __future__ import annotations

import csv
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from dove_core.config import ShardConfig
from dove_core.data.sharding.archives import image_places, index_images
from dove_core.data.sharding.shards import shard_captions
from dove_core.data.sharding.skyscript import PATH_COLUMNS, split_of
from dove_core.errors import DataError, UsageError
from dove_core.evaluation.zero_shot import read_class_names
from dove_core.events import Noted, Report, Skipped, silent

LABEL = "label"
"""The field of captions that labels go to."""

_CAPTION_COLUMNS = ("title", "title_multi_objects", "caption", "captions", "text")
_SPLITS = ("test", "val", "train")
_LEFT_OUT = "what was left out, and why, is said above"


@dataclass(frozen=True)
class Material:
    """A split made of somebody's files; `label_field` is empty where it has captions instead of labels."""

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
) -> Iterator[Material]:
    """Make shards of images with captions or labels; they last as long as the context.

    Args:
        images: a zip or folder of images.
        captions: a CSV or Karpathy JSON; without it, one is looked for in `images`, and else folders are classes.
        split: which split of a JSON, and of several CSVs in `images`; empty: what the CSV's name says, else `test`.
        label_field: the column that holds labels, where it is not `label`; a CSV without captions needs none.
        class_names: the names of the classes, one a line; without it, `classnames.txt` beside the CSV.
        report: hears what is left out.

    Raises:
        DataError: files are missing or unreadable, labels do not fit the classes, or too many images are broken.
        UsageError: `split` is none of a JSON's.
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
        config = ShardConfig(max_bad=1.0)  # what cannot be used is left out and counted, as everywhere
        (made,) = shard_captions(table, images, out, config, split=wanted, report=_quiet(report))
        if not made.samples:
            raise DataError(f"{images}: none of its {made.rows} rows can be used", hint=_LEFT_OUT)
        yield Material(out / made.split, LABEL if label else "", str(names) if label and names else "")


def _split_in_name(table: Path) -> str:
    """Return the split that a CSV's name tells, if it does."""
    found = split_of(table)
    return found if table.suffix.lower() == ".csv" and found in table.stem.lower() else ""


def _beside(captions: Path) -> tuple[Path, Path | None]:
    """Return a table and the list of classes that lies beside it, if there is one."""
    names = captions.with_name("classnames.txt")
    return captions, names if names.is_file() else None


def _quiet(report: Report) -> Report:
    """Pass on only what was left out: that shards come and go is nobody's business here."""

    def passed(event: object) -> None:
        if isinstance(event, Skipped):
            report(event)

    return passed


def _found_inside(images: Path, scratch: Path, split: str, label_field: str) -> tuple[Path | None, Path | None]:
    """Return copies of the CSV and of the list of classes that lie among the images, None where there is none."""
    texts = _texts_inside(images)
    tables = [name for name in texts if name.lower().endswith(".csv")]
    if len(tables) > 1:
        by_split = {name: split_of(Path(name)) for name in tables}
        best = next((s for s in ((split,) if split else _SPLITS) if s in by_split.values()), None)
        tables = [name for name in tables if by_split[name] == best] if best else tables
    if len(tables) > 1:
        raise DataError(f"{images} holds several tables: {', '.join(tables)}", hint="choose one: --captions FILE")
    if not tables:
        return None, None
    suffix = label_field.removeprefix(LABEL) if label_field.startswith(LABEL) else ""
    wanted = (f"classnames{suffix}.txt", "classnames.txt", "classnames_v1.txt")
    listed = [n for w in wanted for n in texts if PurePosixPath(n).name.lower() == w]
    return _copied(images, tables[0], scratch), _copied(images, listed[0], scratch) if listed else None


def _texts_inside(images: Path) -> list[str]:
    """Return the names of tables and lists of classes in a zip, or at the top of a folder and one level below."""
    if images.is_dir():
        files = [*images.glob("*"), *images.glob("*/*.csv"), *images.glob("*/classnames*.txt")]
        names = [path.relative_to(images).as_posix() for path in sorted(files)]
    else:
        try:
            with zipfile.ZipFile(images) as archive:
                names = sorted(archive.namelist())
        except FileNotFoundError:
            raise DataError(f"{images} does not exist", hint="give a zip or a folder: --images PLACE") from None
        except (OSError, zipfile.BadZipFile) as error:
            hint = "give a zip or a folder of images; a zip that broke off has to be fetched again"
            raise DataError(f"{images} cannot be read as a zip: {error}", hint=hint) from error
    is_text = re.compile(r"(?i)(?:\.csv|(?:^|/)classnames[^/]*\.txt)$")
    return [name for name in names if is_text.search(name) and not name.startswith("__MACOSX/")]


def _copied(images: Path, name: str, scratch: Path) -> Path:
    target = scratch / PurePosixPath(name).name
    if images.is_dir():
        target.write_bytes((images / name).read_bytes())
    else:
        with zipfile.ZipFile(images) as archive:
            target.write_bytes(archive.read(name))
    return target


def _table_of_folders(images: Path, scratch: Path, report: Report) -> Path:
    """Write a table of images whose folders are named like their classes.

    Raises:
        DataError: there are less than two such folders.
    """
    found = index_images(image_places(images))
    names = [found.name(entry) for entry in range(len(found))]
    folders = [PurePosixPath(name).parent.name for name in names]
    if len(set(folders)) < 2:
        message = f"{images} holds neither a CSV nor images in folders named like their classes"
        raise DataError(message, hint="give captions or labels: --captions FILE")
    words = {folder: in_words(folder) for folder in folders}
    if len(set(words.values())) < len(words):
        twice = sorted(folder for folder, word in words.items() if list(words.values()).count(word) > 1)
        report(Noted(f"folders that are one class in words: {', '.join(twice)}"))
    table = scratch / "folders_test.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("filepath", LABEL))
        rows.writerows((name, words[folder]) for name, folder in zip(names, folders, strict=True))
    return table


def in_words(name: str) -> str:
    """Return a folder's name as words: `AnnualCrop` as `annual crop`, `storage_tank` as `storage tank`."""
    return re.sub(r"[\s_-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).strip().lower()


def _label_column(table: Path, names: Path | None, wanted: str) -> str:
    """Return the column of labels, or nothing if the table holds captions."""
    if table.suffix.lower() == ".json":
        if wanted:
            raise UsageError(f"--label-field {wanted}: {table.name} has captions", hint="labels come in a CSV")
        return ""
    columns = _columns(table)
    plain = {name.lower(): name for name in reversed(columns)}
    if wanted:
        if wanted.lower() not in plain:
            hint = f"it has {', '.join(columns)}"
            raise UsageError(f"--label-field {wanted}: {table.name} has no such column", hint=hint)
        return plain[wanted.lower()]
    found = next((plain[name] for name in (LABEL, f"{LABEL}_v1") if name in plain), "")
    has_captions = bool(set(plain) & set(_CAPTION_COLUMNS))
    if not found and not has_captions:
        hint = "labels: --label-field COLUMN; captions are read from title, title_multi_objects or caption"
        raise DataError(f"{table.name} has neither captions nor labels; columns: {', '.join(columns)}", hint=hint)
    return found if names or not has_captions else ""


def _columns(table: Path) -> list[str]:
    return [name.strip() for name in _frame(table, rows=0).columns]


def _frame(table: Path, rows: int | None = None) -> pd.DataFrame:
    hint = "expected a CSV with a header: filepath,label or filepath,title"
    try:
        return pd.read_csv(table, dtype=str, keep_default_na=False, nrows=rows, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{table} cannot be read as a CSV: {error}", hint=hint) from error


def _labels(table: Path, column: str, names: Path | None, scratch: Path, report: Report) -> Path:
    """Write a table of paths and labels in words; rows without a label are left out and counted."""
    frame = _frame(table).rename(columns=str.strip)
    plain = {name.lower(): name for name in reversed(list(frame.columns))}
    path = next((plain[name] for name in PATH_COLUMNS if name in plain), None)
    if path is None:
        raise DataError(f"{table} has no column {', '.join(PATH_COLUMNS)}", hint=f"it has {', '.join(frame.columns)}")
    labels = frame[column].str.strip()
    kept = labels != ""
    if not kept.all():
        report(Skipped("labels", "no label", int((~kept).sum()), str(frame[path][~kept].iloc[0])))
    words = _in_classes(labels[kept].tolist(), read_class_names(names) if names else [], table)
    target = scratch / f"labels_{split_of(table)}.csv"
    pd.DataFrame({"filepath": frame[path][kept].str.strip(), LABEL: words}).to_csv(target, index=False)
    return target


def _in_classes(labels: Sequence[str], classes: Sequence[str], table: Path) -> list[str]:
    """Return labels as words; numbers count the classes from 0."""
    if not labels:
        raise DataError(f"{table} has no row with a label", hint="expected the columns filepath,label")
    if not all(re.fullmatch(r"-?\d+(\.0)?", label) for label in labels):
        return list(labels)
    numbers = [int(float(label)) for label in labels]
    if not classes:
        hint = "give --class-names FILE, or put a classnames.txt beside the table: the name of a class in each line"
        raise DataError(f"{table} has numbers as labels, and no names for them", hint=hint)
    if max(numbers) >= len(classes) or min(numbers) < 0:
        wrong = max(numbers) if max(numbers) >= len(classes) else min(numbers)
        message = f"{table} has the label {wrong}, and there are {len(classes)} classes, counted from 0"
        raise DataError(message, hint="are table and classnames.txt of the same set?")
    return [classes[number] for number in numbers]
