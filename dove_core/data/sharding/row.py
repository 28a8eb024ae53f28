"""One row of a caption table becomes a sample with its image, or the reason why it does not."""

from __future__ import annotations

from dataclasses import dataclass

from dove_core.data.manifest import DAMAGED_IMAGE, DUPLICATE_KEY, MERGED, MISSING_IMAGE, NO_CAPTION, OK
from dove_core.data.sample import Sample, clean_captions, source_of
from dove_core.data.sharding.image import Look, StoredImage, read_image
from dove_core.data.sharding.members import Location, Members
from dove_core.data.sharding.meta import MAX_META_BYTES, Meta, read_meta
from dove_core.data.sharding.plan import Row
from dove_core.errors import DataError

MISSING_META = "missing meta"
DAMAGED_META = "damaged meta"
MAX_IMAGE_BYTES = 256 * 2**20
"""Largest file that is read as one image; more is a mistake or an attack."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a row; `image` is there when `status` is `ok`, `error` says more when it is not."""

    sample: Sample
    status: str
    error: str | None = None
    image: StoredImage | None = None
    dropped_captions: int = 0
    meta_problems: tuple[str, ...] = ()


def prepare(row: Row, images: Members, metas: Members | None, look: Look) -> Prepared:
    """Clean the captions, look at the image, and read its metadata if there is any."""
    captions = {name: texts for name, raw in row.captions.items() if (texts := clean_captions(raw))}
    dropped = sum(map(len, row.captions.values())) - sum(map(len, captions.values()))
    source, gsd = source_of(row.key)
    sample = Sample(row.key, row.path, captions, source=source, gsd=gsd)
    if row.is_merged:
        return Prepared(sample, MERGED, f"an earlier row is of this image: its captions are {row.key}'s too")
    if row.is_repeated:
        error = f"an earlier row has the key {row.key}"
        return Prepared(sample, DUPLICATE_KEY, error, dropped_captions=dropped)
    if not captions:
        return Prepared(sample, NO_CAPTION, "no caption with a letter or digit", dropped_captions=dropped)
    if row.image is None:
        return Prepared(sample, MISSING_IMAGE, row.problem, dropped_captions=dropped)
    try:
        image = read_image(images.read(row.image, MAX_IMAGE_BYTES), look)
    except DataError as error:
        return Prepared(sample, DAMAGED_IMAGE, error.message, dropped_captions=dropped)
    meta = _read_meta(row.meta, metas) if metas is not None else Meta()
    sample = Sample(row.key, row.path, captions, meta.box, meta.time, source, gsd, meta.tags, meta.surrounding_tags)
    return Prepared(sample, OK, None, image, dropped, meta.problems)


def _read_meta(where: Location | None, metas: Members) -> Meta:
    if where is None:
        return Meta(problems=(MISSING_META,))
    try:
        return read_meta(metas.read(where, MAX_META_BYTES))
    except DataError:
        return Meta(problems=(DAMAGED_META,))
