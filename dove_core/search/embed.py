"""embed(): shards to embedding parts, one for each shard, then the index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dove_core.config import ComputeConfig, EmbedConfig, check
from dove_core.data.reader import Record, Shards, split_folders
from dove_core.errors import SearchIndexError
from dove_core.events import Advanced, Report, Saved, Started, silent
from dove_core.files import make_folder
from dove_core.model.checkpoint import load_checkpoint
from dove_core.search.embedder import Embedder
from dove_core.search.index import MANIFEST, VECTORS, SearchIndex, build_index
from dove_core.search.parts import PartMark, part_name, read_mark, write_part

_TASK = "embedding"


def embed(
    checkpoint: Path,
    shards: Path,
    out: Path,
    embedding: EmbedConfig,
    compute: ComputeConfig,
    *,
    overwrite: bool = False,
    report: Report = silent,
) -> SearchIndex:
    """Embed every picture and make the index. What an earlier, broken-off call finished is kept.

    Args:
        checkpoint: folder of the model.
        shards: folder of a split, or of a release with all its splits.
        out: folder of the index.
        embedding: how many pictures at once.
        compute: where, and how precisely.
        overwrite: make an index of another model anew instead of refusing.
        report: receives progress.

    Raises:
        UsageError: a setting is out of bounds.
        CheckpointError: the checkpoint is missing or damaged.
        DataError: shards are missing or damaged.
        SearchIndexError: `out` holds the index of another model.
        SpaceError: the disk is full; finished parts are kept.
    """
    for config in (embedding, compute):
        check(config)
    splits = [Shards(folder) for folder in split_folders(shards)]
    embedder = Embedder(load_checkpoint(checkpoint), compute)
    parts = _plan(splits, shards, embedder.checkpoint.fingerprint)
    for split in splits:
        split.choose_field(embedder.checkpoint.config.caption_field)
    make_folder(out)
    finished = _finished(out, [mark for _, _, mark in parts], overwrite)
    for stale in (MANIFEST, VECTORS):
        (out / stale).unlink(missing_ok=True)
    counts = [split.counts[shard] for split, shard, _ in parts]
    done = sum(count for part, count in enumerate(counts) if part in finished)
    report(Started(_TASK, sum(counts), "pictures", done=done))
    for part, (split, shard, mark) in enumerate(parts):
        if part not in finished:
            _embed_shard(embedder, split, shard, out / part_name(part), mark, embedding, report)
    made_by = embedder.checkpoint
    build_index(out, fingerprint=made_by.fingerprint, counts=counts, dim=made_by.config.embed_dim,
                checkpoint=checkpoint, shards=shards)  # fmt: skip
    report(Saved(out))
    return SearchIndex(out)


def _plan(splits: Sequence[Shards], root: Path, fingerprint: str) -> list[tuple[Shards, int, PartMark]]:
    return [
        (split, number, PartMark(fingerprint, (split.folder / shard.name).relative_to(root).as_posix(), shard.sha256))
        for split in splits
        for number, shard in enumerate(split.manifest.shards)
    ]


def _finished(out: Path, marks: Sequence[PartMark], overwrite: bool) -> set[int]:
    """Return the parts that can be kept, and remove those that cannot."""
    finished = set()
    for path in sorted(out.glob("part-[0-9]*.parquet")):
        number = int(path.stem.removeprefix("part-"))
        mark = None if overwrite else read_mark(path)
        if number < len(marks) and mark == marks[number]:
            finished.add(number)
            continue
        if mark and marks and mark.fingerprint != marks[0].fingerprint and not overwrite:
            message = f"{out} was made by the model {mark.fingerprint}, not by {marks[0].fingerprint}"
            raise SearchIndexError(message, hint="name another folder with --out, or make it anew with --overwrite")
        path.unlink()
    return finished


def _embed_shard(
    embedder: Embedder,
    split: Shards,
    shard: int,
    path: Path,
    mark: PartMark,
    embedding: EmbedConfig,
    report: Report,
) -> None:
    records: list[Record] = []
    vectors = [np.zeros((0, embedder.checkpoint.config.embed_dim), np.float32)]  # a shard may have no usable picture
    start, stop = split.bounds(shard)
    for batch, features in embedder.embed_shards(split, batch_size=embedding.batch_size, start=start, stop=stop):
        records.extend(batch)
        vectors.append(features.embedding.float().cpu().numpy())
        report(Advanced(_TASK, len(batch)))
    field = split.choose_field(embedder.checkpoint.config.caption_field)
    write_part(path, records, np.concatenate(vectors), field=field, mark=mark)
