"""Our own shards as an input of `dove embed`, here or in a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dove_core.data.reader import Record, Shards, split_folders
from dove_core.places import Place
from dove_core.sources.source import Input, Source


class ReleaseShards(Source):
    """Splits that `dove shard` made; a part is a shard."""

    def __init__(self, folder: Place, field: str) -> None:
        """Open a split, or a release with all its splits, here or in a bucket.

        Raises:
            DataError: shards are missing or damaged, or have several caption fields and not the wanted one.
        """
        self.root = folder
        self._splits = [Shards(split) for split in split_folders(folder)]
        self._fields = [split.choose_field(field) for split in self._splits]
        self._parts = [(k, shard) for k, split in enumerate(self._splits) for shard in range(len(split.counts))]

    def inputs(self) -> Sequence[Input]:
        """Return name, SHA-256 and number of images of each tar."""
        return [Input(self._name(part), *self._facts(part)) for part in range(len(self._parts))]

    def open(self, part: int) -> ShardSamples:
        """Return the samples of a shard."""
        split, shard = self._parts[part]
        return ShardSamples(self._splits[split], shard, self._name(part))

    def bring(self, part: int) -> None:
        """Bring here the shard of a part, if it lies in a bucket."""
        split, shard = self._parts[part]
        self._splits[split].bring(shard)

    def field(self, part: int) -> str:
        """Return the model's caption field, or the only one that the split has."""
        return self._fields[self._parts[part][0]]

    def _name(self, part: int) -> str:
        split, shard = self._parts[part]
        own = self._splits[split]
        return own.names[shard] if own.folder == self.root else f"{own.folder.name}/{own.names[shard]}"

    def _facts(self, part: int) -> tuple[str, int]:
        split, shard = self._parts[part]
        entry = self._splits[split].manifest.shards[shard]
        return entry.sha256, entry.samples


class ShardSamples:
    """The samples of one of our shards: whole, or an error."""

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
            DataError: the tar is missing or damaged.
        """
        return replace(self._split.read(self._start + number), shard=self._name)
