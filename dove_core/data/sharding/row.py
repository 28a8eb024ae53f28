"""One row of a caption table becomes a sample with its picture, or the reason why it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dove_core.data.manifest import DAMAGED_PICTURE, DUPLICATE_KEY, MISSING_PICTURE, NO_CAPTION, OK
from dove_core.data.sample import Sample, clean_captions, source_of
from dove_core.data.sharding.archives import MAX_PICTURE_BYTES, META_ENDINGS, Archives
from dove_core.data.sharding.meta import MAX_META_BYTES, Meta, read_meta
from dove_core.data.sharding.picture import Picture, read_picture
from dove_core.errors import DataError

MISSING_META = "missing meta"
DAMAGED_META = "damaged meta"


@dataclass(frozen=True, slots=True)
class Row:
    """An input row: its key, the picture's path, captions as they came, and whether an earlier row has this key."""

    key: str
    path: str
    captions: Mapping[str, Sequence[str]]
    is_repeated: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a row; `picture` is there when `status` is `ok`, `error` says more when it is not."""

    sample: Sample
    status: str
    error: str | None = None
    picture: Picture | None = None
    dropped_captions: int = 0
    meta_problems: tuple[str, ...] = ()


def prepare(row: Row, pictures: Archives, metas: Archives | None, *, quality: int) -> Prepared:
    """Clean the captions, decode the picture once, and read its metadata if there is any.

    Safe to call in several threads.
    """
    captions = {name: texts for name, raw in row.captions.items() if (texts := clean_captions(raw))}
    dropped = sum(map(len, row.captions.values())) - sum(map(len, captions.values()))
    source, gsd = source_of(row.key)
    sample = Sample(row.key, row.path, captions, source=source, gsd=gsd)
    if row.is_repeated:
        error = f"an earlier row has the key {row.key}"
        return Prepared(sample, DUPLICATE_KEY, error, dropped_captions=dropped)
    if not captions:
        return Prepared(sample, NO_CAPTION, "no caption with a letter or digit", dropped_captions=dropped)
    try:
        member = pictures.find(row.path)
    except DataError as error:
        return Prepared(sample, MISSING_PICTURE, error.message, dropped_captions=dropped)
    try:
        picture = read_picture(member.read(MAX_PICTURE_BYTES), quality)
    except DataError as error:
        return Prepared(sample, DAMAGED_PICTURE, error.message, dropped_captions=dropped)
    meta = _meta_of(row.path, metas) if metas is not None else Meta()
    sample = Sample(
        row.key, row.path, captions, meta.box, meta.time, source, gsd, meta.tags, meta.surrounding_tags
    )  # fmt: skip
    return Prepared(sample, OK, None, picture, dropped, meta.problems)


def _meta_of(path: str, metas: Archives) -> Meta:
    """Return the metadata whose file has the picture's stem."""
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    stem = name.rsplit(".", 1)[0]
    for ending in sorted(META_ENDINGS):
        try:
            member = metas.find(stem + ending)
        except DataError:
            continue
        try:
            return read_meta(member.read(MAX_META_BYTES))
        except DataError:
            return Meta(problems=(DAMAGED_META,))
    return Meta(problems=(MISSING_META,))
