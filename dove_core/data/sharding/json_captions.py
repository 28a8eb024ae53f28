"""Captions in JSON: one file with every image of every split, in the forms of Karpathy, COCO, NWPU and others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from dove_core.data.caption_forms import CAPTION_FIELD, caption_columns, encodable, texts_of
from dove_core.data.csv_tables import FOLDER_COLUMNS, ID_COLUMNS, PATH_COLUMNS, plain_names
from dove_core.data.file_kinds import refuse_other_kind
from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.data.sharding.caption_rows import CaptionRows
from dove_core.data.splits import SPLIT_COLUMNS, split_named
from dove_core.errors import DataError, reason_of

JSON_ENDINGS = (".json", ".jsonl", ".ndjson")

_HINT = (
    'expected the Karpathy form {"images": [{"filename", "split": "train|val|test", "sentences": [{"raw"}]}]}, COCO\'s '
    'images and annotations, or records such as {"file_name", "caption"}, in a list or one on each line'
)

_Record = tuple[Any, str]
"""An image as the JSON has it, and the split that the keys above it name."""


def read_json_rows(file: Path) -> CaptionRows:
    """Read the captions of every image in a JSON or in JSON lines; all captions of an image become one row.

    The forms: Karpathy's; COCO's, with `images` and `annotations`; a list of records, a list of them under each class
    or split, as NWPU-Captions, or one record on each line; an object of lists by file name; an object of columns.

    Raises:
        DataError: the file is missing or damaged, or has no record with the path of an image.
    """
    value = _load(file)
    records = list(_records(value, ""))
    paths = [_path(record) for record, _ in records]
    if not any(paths):
        seen = ", ".join(map(repr, list(value)[:8])) if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{file} has no record with the path of an image; seen: {seen}", hint=_HINT)
    captions = [_captions(record, path) for (record, _), path in zip(records, paths, strict=True)]
    fields = sorted({field for one in captions for field in one})
    if not fields:
        raise DataError(f"{file} has images such as {next(filter(None, paths))}, but no captions", hint=_HINT)
    lists = pa.large_list(pa.large_string())
    columns = {field: pa.array([one.get(field, []) for one in captions], lists) for field in fields}
    splits = _strings(_split(record) or above for record, above in records)
    names = [path.name for path in paths] if any(path.folder for path in paths) else None
    return CaptionRows(file, _strings(map(str, paths)), columns, splits, names=names and _strings(names))


def _strings(texts: Iterable[str]) -> Any:
    return pa.array([encodable(text) for text in texts], pa.large_string())


def _load(file: Path) -> Any:
    """Return the value of a JSON, or the list of values of JSON lines; in any Unicode encoding."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", hint="give a caption file: --captions FILE") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {reason_of(error)}", hint="check the file's permissions") from error
    refuse_other_kind(file, data[: 2**16] if b"\0" not in data[:4] else b"", hint=_HINT)
    try:
        text = data.decode(json.detect_encoding(data))
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            lines = [line for line in text.split("\n") if line.strip()]
            if error.msg != "Extra data" or len(lines) < 2:  # one line is not JSON lines
                raise
        return [_line(line, number) for number, line in enumerate(lines, 1)]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {reason_of(error)}", hint=_HINT) from error


def _line(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}: {error}") from error


def _records(value: Any, split: str) -> Iterator[_Record]:
    """Yield the records in a value, with the split that the keys above them name."""
    if isinstance(value, list):
        yield from ((record, split) for record in value)
    elif isinstance(value, dict) and isinstance(value.get("images"), list):
        yield from ((record, split) for record in _joined(value["images"], value.get("annotations")))
    elif isinstance(value, dict):
        columns = [plain_names(value)[name] for name in PATH_COLUMNS if name in plain_names(value)]
        lists = {key: inner for key, inner in value.items() if _has_records(inner)}
        if columns and isinstance(value[columns[0]], list | dict):
            yield from ((record, split) for record in _by_column(value, columns[0]))
        elif columns and isinstance(value[columns[0]], str):
            yield value, split  # JSON lines of one line
        elif lists or all(map(split_named, value)):
            for key, inner in (lists or value).items():
                yield from _records(inner, split_named(key) or split)
        else:
            yield from ((_named(name, inner), split) for name, inner in value.items() if inner not in ([], {}))


def _joined(images: list[Any], annotations: Any) -> Iterable[Any]:
    """Return the images, each with its captions of `annotations`, as in COCO; those of no image are records too."""
    if not isinstance(annotations, list):
        return images
    captions: dict[str, list[Any]] = {}
    for note in annotations:
        if isinstance(note, dict):
            captions.setdefault(str(note.get("image_id")), []).append(note)
    joined = []
    for image in images:
        notes = captions.pop(str(image.get("id")), []) if isinstance(image, dict) else []
        joined.append({**image, CAPTION_FIELD: notes} if isinstance(image, dict) else image)
    return [*joined, *({CAPTION_FIELD: [note]} for notes in captions.values() for note in notes)]


def _has_records(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) and _path(one) for one in value)


def _by_column(columns: Mapping[str, Any], path: str) -> Iterator[Any]:
    """Yield the records of a table written by column, as lists or, by pandas, as objects by row number."""
    paths = columns[path]
    for row in range(len(paths)) if isinstance(paths, list) else paths:
        record = {}
        for name, column in columns.items():
            try:
                record[name] = column[row]
            except (KeyError, IndexError, TypeError):
                continue
        yield record


def _named(name: str, value: Any) -> Any:
    """Return a record of a file's name and its captions, or its object."""
    return {"filename": name, **value} if isinstance(value, dict) else {"filename": name, CAPTION_FIELD: value}


class _Path(NamedTuple):
    """The path of an image: its name, and its folder if the JSON has it apart."""

    folder: str
    name: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name

    def __bool__(self) -> bool:
        return bool(self.name)


def _path(record: Any) -> _Path:
    """Return the path in a record, empty if there is none. `filepath` may be the folder, with the name beside it."""
    if not isinstance(record, dict):
        return _Path("", "")
    plain = {str(name).strip().lower(): value for name, value in reversed(record.items())}
    texts = {name: value for name, value in plain.items() if isinstance(value, str) and value.strip()}
    found = next((texts[name] for name in PATH_COLUMNS if name in texts), "")
    if found.lower().endswith(IMAGE_ENDINGS):
        return _Path("", found)
    ending = (
        texts[name] for name in (*PATH_COLUMNS, *ID_COLUMNS) if texts.get(name, "").lower().endswith(IMAGE_ENDINGS)
    )
    if name := next(ending, ""):
        folder = next((texts[column] for column in FOLDER_COLUMNS if column in texts), "")
        return _Path(folder, name)
    return _Path("", found)


def _captions(record: Any, path: _Path) -> dict[str, list[str]]:
    """Return the captions of each field; values that have the path are none."""
    if not isinstance(record, dict):
        return {}
    columns = caption_columns(key for key, value in record.items() if value != path.name)
    return {field: [text for key in keys for text in texts_of(record[key])] for field, keys in columns.items()}


def _split(record: Any) -> str:
    if not isinstance(record, dict):
        return ""
    plain = plain_names(map(str, record))
    values = (record.get(plain[name]) for name in SPLIT_COLUMNS if name in plain)
    return next((value.strip() for value in values if isinstance(value, str)), "")
