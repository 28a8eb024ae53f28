"""Preparing a row for its shard: a sample with its image, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dove_core.config import ShardConfig
from dove_core.data.manifest import (
    DAMAGED_IMAGE,
    DEEP_IMAGE,
    DUPLICATE_KEY,
    MERGED,
    MISSING_IMAGE,
    NO_CAPTION,
    OK,
    WARNED_IMAGE,
)
from dove_core.data.sample import Sample, clean_captions, source_of
from dove_core.data.sharding.image import MAX_IMAGE_BYTES, StoredImage, read_image
from dove_core.data.sharding.member_reader import MemberLocation, MemberReader, NoImageError
from dove_core.data.sharding.meta import MAX_META_BYTES, Meta, read_meta
from dove_core.data.sharding.shard_plan import PlannedRow
from dove_core.errors import DataError

MISSING_META = "missing meta"
DAMAGED_META = "damaged meta"


class ImageReader(Protocol):
    """Reads the images that a plan names: of zips and folders, or of Parquet files."""

    def expect(self, locations: Sequence[Any]) -> None:
        """Prepare to read some images."""
        ...

    def read(self, where: Any, limit: int) -> bytes:
        """Return the bytes of an image, at most `limit`; a DataError says why there are none."""
        ...

    def check_unchanged(self) -> None:
        """Raise a LostSourceError if a source was written to since it was opened."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """The outcome of a row: it has an `image` if `status` is `ok`, else an `error`.

    `meta_problems` are reasons to be counted although the image is kept.
    """

    sample: Sample
    status: str
    error: str | None = None
    image: StoredImage | None = None
    dropped_captions: int = 0
    meta_problems: tuple[str, ...] = ()


def prepare(row: PlannedRow, images: ImageReader, metas: MemberReader | None, config: ShardConfig) -> Prepared:
    """Clean the captions, check the image, and read its metadata if there is any."""
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
        image = read_image(images.read(row.image, MAX_IMAGE_BYTES), config)
    except NoImageError as error:
        return Prepared(sample, MISSING_IMAGE, error.message, dropped_captions=dropped)
    except DataError as error:
        return Prepared(sample, DAMAGED_IMAGE, error.message, dropped_captions=dropped)
    meta = _read_meta(row.meta, metas) if metas is not None else Meta()
    sample = Sample(row.key, row.path, captions, meta.box, meta.time, source, gsd, meta.tags, meta.surrounding_tags)
    problems = (*meta.problems, *([WARNED_IMAGE] if image.warning else []), *([DEEP_IMAGE] if image.note else []))
    return Prepared(sample, OK, None, image, dropped, problems)


def _read_meta(where: MemberLocation | None, metas: MemberReader) -> Meta:
    if where is None:
        return Meta(problems=(MISSING_META,))
    try:
        return read_meta(metas.read(where, MAX_META_BYTES))
    except DataError:
        return Meta(problems=(DAMAGED_META,))
