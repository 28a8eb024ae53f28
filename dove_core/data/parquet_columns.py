"""The columns of a Parquet file with images inside: which has the images, which their names, which their captions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dove_core.data.caption_forms import CAPTION_FIELD, is_printed, texts_of
from dove_core.data.splits import SPLIT_COLUMNS
from dove_core.errors import DataError

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "tif", "tiff", "image_bytes", "image_data", "bytes")
"""Names of columns with images, best first. A plain binary column must have one: it may be anything, as a geometry."""

_NAMES = ("filename", "file_name", "filepath", "file_path", "path", "image_path", "__key__")
_NUMBERED = re.compile(r"captions?_?(\d*)")
_TEXTS = ("text", "texts", "sentence", "sentences")
_HINT = (
    "expected images as struct<bytes, path> or as a binary column called image, and captions as caption, captions, "
    "caption_0, ... or text; rename columns with pyarrow: table.rename_columns({'old': 'new'})"
)


@dataclass(frozen=True)
class ImageColumns:
    """The columns of the images, of their names ("" if there is none), and of the captions of each field.

    A column within a struct is written with a dot: `image.bytes`, `image.path`.
    """

    image: str
    name: str
    captions: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        """Return the choice in words, for a message."""
        captions = ", ".join(column for columns in self.captions.values() for column in columns)
        return f"images from {self.image}, captions from {captions or 'none'}, names from {self.name or 'row numbers'}"

    def name_in(self, row: Mapping[str, Any]) -> str:
        """Return the name in a row; empty if there is none."""
        name = _value(row, self.name) if self.name else None
        return name if isinstance(name, str) else ""

    def image_in(self, row: Mapping[str, Any]) -> bytes | None:
        """Return the image in a row; None if it is null."""
        image: bytes | None = _value(row, self.image)
        return image

    def captions_in(self, row: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return the captions in a row by field, not cleaned; nulls are left out, printed lists are read as lists."""
        found = {}
        for field, columns in self.captions.items():
            values = [value if isinstance(value, list) else [value] for value in (row[column] for column in columns)]
            texts = [text for texts in values for text in texts if text is not None]
            found[field] = [one for text in texts for one in (texts_of(text) if is_printed(text) else [text])]
        return found

    def texts(self) -> list[str]:
        """Return the columns of names and captions."""
        return [*([self.name] if self.name else []), *(c for columns in self.captions.values() for c in columns)]


def choose_columns(file: object, schema: Any) -> ImageColumns:
    """Choose the columns of images, names and captions by their types and names.

    Captions are the columns `caption`, `captions`, `caption_0`, `caption_1`, ...; else `text` or `sentences`; else
    every other column of text is a field of its own, as in a CSV.

    Raises:
        DataError: no column has images, or several do and none is called `image` or the like.
    """
    types = {field.name: field.type for field in schema}
    image = _image_column(file, types)
    plain = {name.lower(): name for name in reversed(types)}
    texts = [name for name, kind in types.items() if _is_text(kind)]
    names = [plain[name] for name in _NAMES if plain.get(name) in texts and not _is_list(types[plain[name]])]
    column = types[image]
    if pa.types.is_struct(column):
        names += [f"{image}.path"] if _child(column, "path", _is_string) else []
        image = f"{image}.bytes"
    numbered = {name: match[1] for name in texts if (match := _NUMBERED.fullmatch(name.lower()))}
    if numbered:
        captions = {CAPTION_FIELD: tuple(sorted(numbered, key=lambda name: int(numbered[name] or -1)))}
    elif text := next((plain[name] for name in _TEXTS if plain.get(name) in texts), ""):
        captions = {CAPTION_FIELD: (text,)}
    else:
        captions = {name: (name,) for name in texts if name not in names and name.lower() not in SPLIT_COLUMNS}
    return ImageColumns(image, names[0] if names else "", captions)


def no_captions(file: object, schema: Any) -> DataError:
    """Return the error for a file without a column of captions."""
    return DataError(f"{file} has no column of captions; columns: {_listed(schema)}", hint=_HINT)


def _image_column(file: object, types: Mapping[str, Any]) -> str:
    found = [
        name
        for name, kind in types.items()
        if _child(kind, "bytes", _is_bytes) or (_is_bytes(kind) and name.lower() in _IMAGES)
    ]
    if not found:
        columns = _listed(pa.schema(list(types.items())))
        raise DataError(f"{file} has no column of images; columns: {columns}", hint=_HINT)
    best = min(found, key=lambda name: _IMAGES.index(name.lower()) if name.lower() in _IMAGES else len(_IMAGES))
    if len(found) > 1 and best.lower() not in _IMAGES:
        message = f"{file} has several columns of images: {', '.join(found)}"
        raise DataError(message, hint="rename the wanted one: table.rename_columns({'old': 'image'}) with pyarrow")
    return best


def _listed(schema: Iterable[Any]) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"


def _value(row: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column; `image.bytes` is a value within a struct, which may be null."""
    if column in row:
        return row[column]
    outer, _, inner = column.rpartition(".")
    values = row[outer]
    return None if values is None else values[inner]


def _child(kind: Any, name: str, fits: Callable[[Any], bool]) -> bool:
    return bool(pa.types.is_struct(kind)) and kind.get_field_index(name) >= 0 and fits(kind.field(name).type)


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_text(kind: Any) -> bool:
    return _is_string(kind.value_type if _is_list(kind) else kind)


def _is_string(kind: Any) -> bool:
    return _plain(kind) in (pa.string(), pa.large_string(), pa.string_view())


def _is_bytes(kind: Any) -> bool:
    return _plain(kind) in (pa.binary(), pa.large_binary(), pa.binary_view())


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
