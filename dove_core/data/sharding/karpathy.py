"""Captions in the Karpathy form: one JSON file with every image of every split, as RSICD and others publish it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dove_core.data.sharding.caption_table import CaptionTable
from dove_core.errors import DataError
from dove_core.files import read_json

CAPTION_FIELD = "caption"
SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""The splits of the form, and the splits they become here."""

_HINT = 'expected the Karpathy form: {"images": [{"filename", "split": "train|val|test", "sentences": [{"raw"}]}]}'


def read_karpathy(file: Path, split: str | None = None) -> list[CaptionTable]:
    """Read the captions of every split in `file`, or of one; all sentences of an image become its captions.

    Raises:
        DataError: the file is missing or not of this form, or has no image of `split`.
    """
    values = read_json(file, DataError, hint=_HINT)
    images = values.get("images") if isinstance(values, dict) else None
    if not isinstance(images, list):
        seen = ", ".join(map(repr, list(values)[:8])) if isinstance(values, dict) else type(values).__name__
        raise DataError(f"{file} has no list of images; seen: {seen}", hint=_HINT)
    found: dict[str, tuple[list[str], list[list[str]]]] = {}
    for number, image in enumerate(images):
        name, where, texts = _read_image(file, number, image)
        paths, captions = found.setdefault(where, ([], []))
        paths.append(name)
        captions.append(texts)
    chosen = [name for name in ("train", "val", "test") if name in found and split in (None, name)]
    if not chosen:
        seen = ", ".join(sorted(found)) or "no image at all"
        hint = f"choose with --split: {seen}" if split and found else _HINT
        raise DataError(f"{file} has no image of split {split or 'train, val or test'}; seen: {seen}", hint=hint)
    return [CaptionTable.of(file, name, found[name][0], {CAPTION_FIELD: found[name][1]}) for name in chosen]


def _read_image(file: Path, number: int, image: Any) -> tuple[str, str, list[str]]:
    """Return file name, split and sentences of one entry."""
    if not isinstance(image, dict):
        raise DataError(f"{file}: image {number} is not an object but {type(image).__name__}", hint=_HINT)
    name, where, sentences = image.get("filename"), image.get("split"), image.get("sentences")
    if not isinstance(name, str) or not name:
        raise DataError(f"{file}: image {number} has no filename", hint=_HINT)
    if not isinstance(where, str) or where not in SPLITS:
        raise DataError(f"{file}: image {number} ({name}) has split {where!r}", hint=_HINT)
    if not isinstance(sentences, list):
        raise DataError(f"{file}: image {number} ({name}) has no list of sentences", hint=_HINT)
    texts = [sentence.get("raw") if isinstance(sentence, dict) else None for sentence in sentences]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{file}: image {number} ({name}) has a sentence without text in 'raw'", hint=_HINT)
    return _encodable(name), SPLITS[where], [_encodable(str(text)) for text in texts]


def _encodable(text: str) -> str:
    r"""Replace lone surrogates, which JSON can spell (`\ud800`) and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
