"""Shards of `dove shard` as an input of `dove embed`, in a folder or a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dove_core.data.reader import Record, Shards, split_folders
from dove_core.places import Place
from dove_core.sources.source import Input, Source


class ReleaseShards(Source):
    """Splits of `dove shard`; a part is a shard."""

    def __init__(self, folder: Place, field: str) -> None:
        """Open a split, or a release with all its splits, in a folder or a bucket.

        Raises:
            DataError: shards are missing or damaged, or have several caption fields but not `field`.
        """
        self.root = folder
        self._splits = [Shards(split) for split in split_folders(folder)]
        self._fields = [split.choose_field(field) for split in self._splits]
        self._parts = [(k, shard) for k, split in enumerate(self._splits) for shard in range(len(split.counts))]

    def inputs(self) -> Sequence[Input]:
        """Return name, SHA-256 and number of images of each shard."""
        return [Input(self._name(part), *self._facts(part)) for part in range(len(self._parts))]

    def open(self, part: int) -> ShardSamples:
        """Return the samples of a shard."""
        split, shard = self._parts[part]
        return ShardSamples(self._splits[split], shard, self._name(part))

    def bring(self, part: int) -> None:
        """Download the shard of a part from a bucket."""
        split, shard = self._parts[part]
        self._splits[split].bring(shard)

    def field(self, part: int) -> str:
        """Return the caption field of the model, or the only one of the split."""
        return self._fields[self._parts[part][0]]

    def _name(self, part: int) -> str:
        number, shard = self._parts[part]
        split = self._splits[number]
        return split.names[shard] if split.folder == self.root else f"{split.folder.name}/{split.names[shard]}"

    def _facts(self, part: int) -> tuple[str, int]:
        split, shard = self._parts[part]
        entry = self._splits[split].manifest.shards[shard]
        return entry.sha256, entry.samples


class ShardSamples:
    """The samples of one shard; a damaged one is an error."""

    strict = True

    def __init__(self, split: Shards, shard: int, name: str) -> None:
        self._split, self._name = split, name
        self._start, self._stop = split.bounds(shard)

    def __len__(self) -> int:
        """Count the samples."""
        return self._stop - self._start

    def read(self, number: int) -> Record:
        """Read a sample.

        Raises:
            DataError: the shard is missing or damaged.
        """
        return replace(self._split.read(self._start + number), shard=self._name)
