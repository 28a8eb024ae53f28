"""The files of a split's folder: their names, the done-marker of a shard, the manifest of the split."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dove_core.addresses import Address, place_of
from dove_core.errors import DataError, reason_of
from dove_core.files import json_bytes, parse_record, record_values
from dove_core.places import Place

OK = "ok"
MISSING_IMAGE = "missing picture"
DAMAGED_IMAGE = "damaged picture"
NO_CAPTION = "no caption"
DUPLICATE_KEY = "duplicate key"
MERGED = "merged"
"""A further row of the same image, whose captions went to the first."""
FAILED = (MISSING_IMAGE, DAMAGED_IMAGE)
"""Statuses that another run may change."""

STATUSES = (OK, MISSING_IMAGE, DAMAGED_IMAGE, NO_CAPTION, DUPLICATE_KEY, MERGED)
"""The possible outcomes of an input row; only `ok` ones are in a tar."""

WARNED_IMAGE = "image that the decoder warns of"
DEEP_IMAGE = "image read as scenes are"
KEPT = (WARNED_IMAGE, DEEP_IMAGE)
"""What is to be said of images although they are kept."""

FORMAT = 1
MANIFEST = "manifest.json"
SIZES = "sizes.json"
IN_PROGRESS = ".dove"
"""Name of an empty file in a split's folder while its shards are made: the folder's files are dove's."""

SHARD_FILE = re.compile(r"(\d{5,})\.(tar|parquet|done)")
"""Names of the files of a shard."""

_HINT = "run `dove shard` again: finished shards are kept"


def tar_name(shard: int) -> str:
    """Return the name of a shard's tar."""
    return f"{shard:05d}.tar"


def sidecar_name(shard: int) -> str:
    """Return the name of a shard's sidecar."""
    return f"{shard:05d}.parquet"


def marker_name(shard: int) -> str:
    """Return the name of a shard's done-marker."""
    return f"{shard:05d}.done"


@dataclass(frozen=True)
class ShardMarker:
    """`00000.done`: a finished shard. `counts` is by status, `meta_problems` by reason, `examples` has one of each.

    `fingerprint` covers everything that decided its bytes, `rows_fingerprint` everything but images and metadata.
    `table` is the name of the caption file, and `captions` its SHA-256.
    """

    rows: int
    samples: int
    counts: Mapping[str, int]
    dropped_captions: int
    meta_problems: Mapping[str, int]
    examples: Mapping[str, str]
    bytes: int
    sha256: str
    sidecar_sha256: str
    fingerprint: str
    rows_fingerprint: str
    table: str = ""
    captions: str = ""

    @property
    def refused_meta(self) -> int:
        """Return the number of problems of metadata, without what is only said of images."""
        return sum(count for reason, count in self.meta_problems.items() if reason not in KEPT)

    def write(self, place: Place, name: str) -> None:
        """Write the marker; it is written last, so that a shard with one is whole."""
        with place.writing(name) as stream:
            stream.write(json_bytes(record_values(self, FORMAT)))


def _read_values(place: Place, name: str) -> Any:
    try:
        return json.loads(place.read(name))
    except FileNotFoundError:
        raise DataError(f"{place.where(name)} does not exist", hint=_HINT) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{place.where(name)} cannot be read: {reason_of(error)}", hint=_HINT) from error


def read_marker(place: Place, name: str) -> ShardMarker:
    """Read a done-marker.

    Raises:
        DataError: it is missing, damaged or of another format.
    """
    values = _read_values(place, name)
    if isinstance(values, dict):
        values = {"table": "", "captions": "", **values}  # markers of earlier versions have neither
    marker = parse_record(values, place.where(name), ShardMarker, FORMAT, DataError, hint=_HINT)
    counts = marker.counts
    if set(counts) != set(STATUSES) or sum(counts.values()) != marker.rows or counts[OK] != marker.samples:
        raise DataError(f"{place.where(name)}: its counts do not agree", hint=_HINT)
    return marker


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a manifest; `name` is its tar's."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardManifest:
    """The contents of a split's folder: `rows` counts input rows, `counts` them by status, `samples` those in tars."""

    release: str
    split: str
    caption_fields: tuple[str, ...]
    samples: int
    rows: int
    counts: Mapping[str, int]
    dropped_captions: int
    meta_problems: int
    fingerprint: str
    shards: tuple[ShardEntry, ...] = field(default=())

    def write(self, place: Place) -> None:
        """Write `sizes.json`, then `manifest.json`."""
        sizes = {shard.name: shard.samples for shard in self.shards}
        for name, values in ((SIZES, sizes), (MANIFEST, record_values(self, FORMAT))):
            with place.writing(name) as stream:
                stream.write(json_bytes(values))


def read_manifest(address: Address) -> ShardManifest:
    """Read the manifest of a split's folder.

    Raises:
        DataError: it is missing, damaged, of another format, has an unknown or missing key, or its sums do not agree.

    >>> manifest = dove.read_manifest("shards/shapes/test")
    >>> manifest.samples, manifest.caption_fields
    (12, ('caption',))
    """
    place = place_of(address)
    path = place.where(MANIFEST)
    values = _read_values(place, MANIFEST)
    manifest = parse_record(values, path, ShardManifest, FORMAT, DataError, hint=_HINT)
    kinds = {"shards": (list, "a list"), "caption_fields": (list, "a list"), "counts": (dict, "an object")}
    for name, (kind, what) in kinds.items():
        if not isinstance(getattr(manifest, name), kind):
            raise DataError(f"{path}: {name} is not {what}", hint=_HINT)
    shards = tuple(_entry(path, values) for values in manifest.shards)
    if sum(shard.samples for shard in shards) != manifest.samples:
        raise DataError(f"{path}: the samples of its shards are not {manifest.samples} in all", hint=_HINT)
    return dataclasses.replace(manifest, shards=shards, caption_fields=tuple(map(str, manifest.caption_fields)))


def _entry(path: str, values: Any) -> ShardEntry:
    kinds = {"name": str, "samples": int, "bytes": int, "sha256": str}
    fits = isinstance(values, dict) and {name: type(value) for name, value in values.items()} == kinds
    if not fits or "/" in values["name"]:
        raise DataError(f"{path}: a shard is not {{name, samples, bytes, sha256}} but {values}", hint=_HINT)
    return ShardEntry(**values)
