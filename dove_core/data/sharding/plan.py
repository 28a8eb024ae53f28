"""Which rows make which shard, fixed before anything is written, and the fingerprint of all that decides its bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dove_core.config import ShardConfig
from dove_core.data.sharding.archives import Archives
from dove_core.data.sharding.captions import CaptionTable
from dove_core.data.sharding.row import Row
from dove_core.files import sha256_of

_FORMAT = 1
"""Raised when the bytes of shards change, so that older ones are made again."""


@dataclass(frozen=True)
class Sources:
    """Where pictures, and perhaps their metadata, are read from."""

    pictures: Archives
    metas: Archives | None


@dataclass(frozen=True)
class ShardPlan:
    """Shard i is made of rows `order[i * shard_size : (i + 1) * shard_size]` of the table; `len` counts shards.

    `keys` is an Arrow array, `is_repeated` tells of each row whether an earlier one has its key.
    """

    table: CaptionTable
    keys: Any
    is_repeated: np.ndarray
    order: np.ndarray
    shard_size: int
    fingerprint: str

    def __len__(self) -> int:
        return -(-len(self.order) // self.shard_size)

    def rows(self, shard: int) -> list[Row]:
        """Return the input rows of a shard, in the order in which they go into its tar."""
        numbers = self.order[shard * self.shard_size : (shard + 1) * self.shard_size]
        keys = self.keys.take(numbers).to_pylist()
        facts = zip(self.table.rows(numbers), keys, self.is_repeated[numbers].tolist(), strict=True)
        return [Row(key, path, captions, is_repeated) for (path, captions), key, is_repeated in facts]


def make_plan(table: CaptionTable, sources: Sources, config: ShardConfig) -> ShardPlan:
    """Spread the rows of a table over shards in an order that the seed alone decides."""
    keys = table.keys()
    # A bit generator's raw stream stays the same in every numpy version, which `permutation` does not promise.
    order = np.argsort(np.random.PCG64(config.seed).random_raw(len(table)), kind="stable")
    settings = asdict(config)
    del settings["max_bad"]  # decides whether shards are accepted, not what is in them
    identity = {
        "format": _FORMAT,
        "captions": sha256_of(table.file),
        "split": table.split,
        "pictures": sources.pictures.identity,
        "metas": sources.metas.identity if sources.metas is not None else None,
        "config": settings,
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return ShardPlan(table, keys, _repeats(keys), order, config.shard_size, fingerprint)


def _repeats(keys: Any) -> np.ndarray:
    """Return for each row whether an earlier one has the same key."""
    codes = keys.dictionary_encode().indices.to_numpy()
    is_repeated = np.ones(len(codes), dtype=bool)
    is_repeated[np.unique(codes, return_index=True)[1]] = False
    return is_repeated
