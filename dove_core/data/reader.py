"""The samples of a split's shards, read by number: a sidecar has the position of each image in its tar."""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dove_core.addresses import Address, place_of
from dove_core.data.manifest import MANIFEST, OK, ShardManifest, read_manifest
from dove_core.data.sample import Sample
from dove_core.errors import DataError, reason_of
from dove_core.places import LocalFiles, Place

_BLOCK = 512
_JSON_GUESS = 4096
_OPEN_FILES = 32
"""Tars kept open at once: twice the window of a shuffle, far below any system's limit.

Half as many are open from a bucket's cache: files that the cache has removed take space until they are closed.
"""
_HINT = "run `dove shard` again to repair it"


@dataclass(frozen=True)
class Record:
    """One sample of a shard: the image's bytes, its position in the tar, captions and metadata in `sample`.

    `content` is a digest of the image's bytes; empty if it was not computed.
    """

    number: int
    shard: str
    offset: int
    size: int
    image: bytes
    sample: Sample
    content: bytes = b""

    @property
    def name(self) -> str:
        """The image's file and its path, for messages; in a folder of images, both are the same."""
        path = self.sample.path
        return path if path == self.shard else f"{self.shard}: {path}"

    def without_image(self) -> Record:
        """Return the record without the image's bytes."""
        return replace(self, image=b"")


class Shards:
    """The samples of one split, in shard order, read by number from 0.

    >>> shards = dove.Shards("shards/shapes/test")
    >>> len(shards)
    12
    >>> shards.read(0).sample.captions["caption"]
    ('a purple square on grey ground', 'There is one square, and it is purple.')
    """

    def __init__(self, address: Address) -> None:
        """Open a split's folder, on a disk or in a bucket.

        Raises:
            DataError: there is no manifest, or sidecars do not agree with it.
            UsageError, DownloadError: the bucket cannot be reached, or refuses.
        """
        self.folder = folder = place_of(address)
        if not folder.has(MANIFEST) and (splits := _splits_in(folder)):
            message = f"{folder} is the folder of a release: choose one split"
            raise DataError(message, hint=f"give one of {', '.join(str(folder / name) for name in splits)}")
        self.manifest: ShardManifest = read_manifest(folder)
        self._sidecars: LocalFiles | None = None
        self.names = [shard.name for shard in self.manifest.shards]
        self.counts = [shard.samples for shard in self.manifest.shards]
        self._starts = np.cumsum([0, *self.counts])
        positions = [self._positions(name, count) for name, count in zip(self.names, self.counts, strict=True)]
        empty = np.zeros(0, np.int64)
        self._offset = np.concatenate([empty, *(offset for offset, _ in positions)])
        self._size = np.concatenate([empty, *(size for _, size in positions)])
        self._files: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        """Count the samples."""
        return len(self._offset)

    def bounds(self, shard: int) -> tuple[int, int]:
        """Return the number of the first sample of a shard, and that of its last plus 1."""
        return int(self._starts[shard]), int(self._starts[shard + 1])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without open files, to be sent to another process."""
        return {**self.__dict__, "_files": OrderedDict(), "_sidecars": None}

    def __del__(self) -> None:
        """Close the tars."""
        for file in self.__dict__.get("_files", {}).values():
            os.close(file)

    def read(self, number: int) -> Record:
        """Read one sample.

        Raises:
            DataError: the tar is missing, shorter than in its sidecar, or damaged at this position.
        """
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        offset, size = int(self._offset[number]), int(self._size[number])
        padded = -(-size // _BLOCK) * _BLOCK
        data = self._pread(shard, offset, padded + _BLOCK + _JSON_GUESS)
        header = data[padded : padded + _BLOCK]
        try:
            length = int(header[124:136].rstrip(b"\0 "), 8)
        except ValueError:
            raise self._damaged(shard, number) from None
        start = padded + _BLOCK
        json = data[start : start + length]
        if len(json) < length:
            json = self._pread(shard, offset + start, length)
        if len(json) < length or not header[:100].rstrip(b"\0").endswith(b".json"):
            raise self._damaged(shard, number)
        return Record(number, self.names[shard], offset, size, data[:size], Sample.from_json(json))

    def captions(self, field: str) -> Iterator[list[str]]:
        """Yield the captions of every sample; only sidecars are read."""
        for captions in self.column("captions"):
            yield dict(captions).get(field, [])

    def column(self, name: str) -> Iterator[Any]:
        """Yield one column of the sidecars for every sample, one shard in memory at a time."""
        for shard in self.names:
            yield from self._sidecar(shard, [name])[name].to_pylist()

    def with_captions(self, field: str) -> Shards:
        """Return the same shards without the samples that have no caption in a field.

        Raises:
            DataError: no sample has one.
        """
        keep = np.fromiter((bool(captions) for captions in self.captions(field)), bool, len(self))
        if keep.all():
            return self
        if not keep.any():
            raise DataError(
                f"no sample of {self.folder} has a caption {field!r}", hint="choose another --caption-field"
            )
        kept = copy.copy(self)
        kept._files = OrderedDict()
        kept.counts = [int(keep[slice(*self.bounds(shard))].sum()) for shard in range(len(self.counts))]
        kept._starts = np.cumsum([0, *kept.counts])
        kept._offset, kept._size = self._offset[keep], self._size[keep]
        return kept

    def choose_field(self, wanted: str) -> str:
        """Return `wanted`, or the only caption field there is.

        Raises:
            DataError: there are several fields, and `wanted` is not among them.
        """
        fields = self.manifest.caption_fields
        if wanted in fields or not fields:
            return wanted
        if len(fields) == 1:
            return fields[0]
        hint = f"choose one with --caption-field: {', '.join(fields)}; a model reads the field it was trained with"
        raise DataError(f"{self.folder} has no caption field {wanted!r}", hint=hint)

    def bring(self, shard: int) -> None:
        """Download a shard into the cache, if it is in a bucket.

        Raises:
            DataError, UsageError, DownloadError: it is missing, or cannot be reached.
        """
        if self.folder.is_remote:
            os.close(self._open(self.names[shard]))

    def shards_of(self, numbers: np.ndarray) -> list[int]:
        """Return the shards of some samples, in the order of their first samples."""
        found = np.searchsorted(self._starts, numbers, side="right") - 1
        return list(dict.fromkeys(found.tolist()))

    def largest(self) -> int:
        """Return the length of the largest tar in bytes."""
        return max((shard.bytes for shard in self.manifest.shards), default=0)

    def _sidecar(self, name: str, columns: list[str]) -> Any:
        own = _sidecar_of(name)
        try:
            if self._sidecars is None:
                self._sidecars = self.folder.local_files([_sidecar_of(name) for name in self.names])
            return pq.read_table(self._sidecars.folder / own, columns=columns, filters=[("status", "=", OK)])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.folder.where(own)} cannot be read: {reason_of(error)}", hint=_HINT) from error

    def _open(self, name: str) -> int:
        try:
            with self.folder.local_path(name) as path:
                return os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{self.folder.where(name)} cannot be opened: {reason_of(error)}", hint=_HINT) from error

    def _positions(self, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        table = self._sidecar(name, ["offset", "size"])
        if len(table) != count:
            message = f"{self.folder.where(name)} has {len(table)} samples in its sidecar and {count} in the manifest"
            raise DataError(message, hint=_HINT)
        return table["offset"].to_numpy(), table["size"].to_numpy()

    def _pread(self, shard: int, offset: int, length: int) -> bytes:
        if shard not in self._files:
            if len(self._files) >= (_OPEN_FILES // 2 if self.folder.is_remote else _OPEN_FILES):
                os.close(self._files.popitem(last=False)[1])
            self._files[shard] = self._open(self.names[shard])
        self._files.move_to_end(shard)
        try:
            return os.pread(self._files[shard], length, offset)
        except OSError as error:
            raise DataError(
                f"{self.folder.where(self.names[shard])} cannot be read: {reason_of(error)}", hint=_HINT
            ) from error

    def _damaged(self, shard: int, number: int) -> DataError:
        where = f"{self.folder.where(self.names[shard])} at byte {int(self._offset[number])}"
        return DataError(f"{where} does not hold the sample that its sidecar names", hint=_HINT)


def split_folders(release: Place) -> list[Place]:
    """Return `release` itself if it is a split's folder, else the splits in it.

    Raises:
        DataError: there are no shards.
        UsageError, DownloadError: the bucket cannot be reached, or refuses.
    """
    if release.has(MANIFEST):
        return [release]
    found = _splits_in(release)
    if not found:
        raise DataError(
            f"{release} holds no shards", hint="make them with `dove shard`, or give a folder with a manifest.json"
        )
    return [release / name for name in found]


def _sidecar_of(tar: str) -> str:
    return PurePath(tar).with_suffix(".parquet").name


def _splits_in(place: Place) -> list[str]:
    return [name for name in place.folders() if (place / name).has(MANIFEST)]
