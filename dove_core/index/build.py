"""Making of an index from its embedding parts: a segment and the text side, and at last the manifest.

What an index has so far is never changed: a new segment is written beside the others, and `index.json` is replaced at
once. After that, segments and parts that no reader needs any more are removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dove_core.addresses import path_between
from dove_core.encoding.encoder import Encoder
from dove_core.errors import CheckpointError, SearchIndexError
from dove_core.files import atomic_file, atomic_folder
from dove_core.index.columns import write_rows
from dove_core.index.disk import SearchIndex
from dove_core.index.locks import unread
from dove_core.index.manifest import (
    MANIFEST,
    WORDS,
    IndexedInput,
    IndexManifest,
    input_values,
    manifest_bytes,
)
from dove_core.index.nearest import FEW
from dove_core.index.part_plan import number_of
from dove_core.index.parts import part_name, read_contents, read_rows, read_vectors
from dove_core.index.segments import CODES, CONTENTS, ROWS, SEGMENT_FILES, VECTORS, segment_name
from dove_core.places import Folder, Place

_FOLDER = "segment-"
_MERGED = 4
"""A segment is merged with the next one if that has more than a quarter of its rows."""


@dataclass(frozen=True)
class Draft:
    """What an index is to have: its inputs, the number of rows of each part by the part's number, and the paths.

    `old` is the manifest so far, None if there is none; `sound` tells whether its segments and words can be used.
    """

    inputs: Sequence[IndexedInput]
    counts: Mapping[int, int]
    checkpoint: Place
    shards: str
    old: IndexManifest | None
    sound: bool

    def is_made(self, out: Place, manifest: IndexManifest) -> bool:
        """Tell whether an index has all this already."""
        paths = path_between(out, self.checkpoint), self.shards
        return (
            self.sound
            and manifest.rows_of == self.counts
            and manifest.known == self.inputs
            and (manifest.checkpoint, manifest.shards) == paths
        )


def is_sound(place: Place, fingerprint: str) -> bool:
    """Tell whether there is an index of this model whose files can be opened."""
    try:
        index = SearchIndex(place.fresh)
        if index.fingerprint != fingerprint:
            return False
        for segment in index.segments:
            if len(segment) > FEW:
                len(segment.codes)
        return len(index.table) == len(index) and bool(index.words.digest())
    except (SearchIndexError, CheckpointError):
        return False


def build_index(out: Place, encoder: Encoder, counts: list[int], *, checkpoint: Place, shards: Place) -> None:
    """Make an index from its parts, numbered from 0, in the same folder or bucket; the manifest is written last.

    Args:
        out: folder of the parts and of the index.
        encoder: the model that made the parts.
        counts: number of rows of each part.
        checkpoint: folder of the model.
        shards: folder of the embedded images.

    Raises:
        SearchIndexError: a part is missing, damaged, or does not match `counts`.
        SpaceError: the disk is full.
        UsageError, DownloadError: the bucket cannot be read or written.
    """
    root = path_between(out, shards)
    inputs = [IndexedInput("", [root], [str(shards.absolute)], root, "", list(range(len(counts))))]
    publish(out, encoder, Draft(inputs, dict(enumerate(counts)), checkpoint, root, None, False))


def publish(out: Place, encoder: Encoder, draft: Draft) -> IndexManifest:
    """Make the index that a draft describes, and then remove what it does not have any more; errors as `build_index`.

    Until the last step, readers find the index as it was.
    """
    old, counts = draft.old, draft.counts
    kept, loose = _arranged(draft)
    number = old.next_segment if old else 0
    segments = [(name, len(parts)) for name, parts in kept]
    if loose:
        name = segment_name(number)
        segments.append((name, len(loose)))
        place = out / name if name else out
        if name:
            place.remove_all()  # of a writer that was killed
        prefixes = {part: one.prefix for one in draft.inputs for part in one.parts}
        with place.filling() as folder:
            _write_segment(folder, out, {part: counts[part] for part in loose}, prefixes, encoder.dim)
    words = _write_words(out, encoder, draft)
    parts = [part for _, some in kept for part in some] + loose
    manifest = IndexManifest(
        encoder.fingerprint, encoder.dim, [counts[part] for part in parts], path_between(out, draft.checkpoint),
        draft.shards, parts, [[name, count] for name, count in segments], [input_values(one) for one in draft.inputs],
        words, max([*parts, -1, (old.next_part if old else 0) - 1]) + 1, number + bool(loose),
    )  # fmt: skip
    with out.writing(MANIFEST) as stream:
        stream.write(manifest_bytes(manifest))
    _remove_unused(out.fresh, old, manifest)
    return manifest


def remove_left_over(out: Place, manifest: IndexManifest) -> None:
    """Remove what an index had before, if its writer was killed just then, or readers held it.

    In a bucket it stays until the next update.
    """
    if isinstance(out, Folder):
        _remove_unused(out, manifest, manifest)


def _arranged(draft: Draft) -> tuple[list[tuple[str, list[int]]], list[int]]:
    """Return the segments that stay, with their parts, and the parts of the new segment."""
    old, counts = draft.old, draft.counts
    kept, loose = list[tuple[str, list[int]]](), list[int]()
    prefixes = {part: one.prefix for one in draft.inputs for part in one.parts}
    same = old is not None and draft.sound and all(prefixes.get(k, name) == name for k, name in old.prefixes.items())
    for name, parts in old.segment_parts if old else []:
        if same and parts and all(part in counts for part in parts):
            kept.append((name, parts))
        else:
            loose += [part for part in parts if part in counts]
    placed = {part for _, parts in kept for part in parts} | set(loose)
    loose += [part for part in counts if part not in placed]
    rows = sum(counts[part] for part in loose)
    while loose and kept:
        last = sum(counts[part] for part in kept[-1][1])
        if last >= _MERGED * rows and last + rows > FEW:
            break
        loose, rows = kept.pop()[1] + loose, rows + last
    return kept, loose


def _write_segment(
    folder: Path, place: Place, counts: Mapping[int, int], prefixes: Mapping[int, str], dim: int
) -> None:
    """Write the files of a segment into a folder, from the parts in a place."""
    with atomic_file(folder / VECTORS) as stream, atomic_file(folder / CONTENTS) as contents:
        rows = sum(counts.values())
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": (rows, dim)})
        np.lib.format.write_array_header_1_0(contents, {"descr": "<u8", "fortran_order": False, "shape": (rows, 2)})
        for part, count in counts.items():
            with place.local_path(part_name(part)) as path:
                vectors, known = read_vectors(path), read_contents(path)
            if vectors.shape != (count, dim):
                message = (
                    f"{place.where(part_name(part))} has vectors of shape {vectors.shape}, expected {(count, dim)}"
                )
                raise SearchIndexError(message, hint="remove it and run `dove embed` again")
            stream.write(np.ascontiguousarray(vectors).tobytes())
            contents.write(b"".join(one or bytes(16) for one in known))

    def rows_of_parts() -> Iterator[Any]:
        for part in counts:
            with place.local_path(part_name(part)) as path:
                yield read_rows(path, prefixes[part])

    write_rows(folder / ROWS, rows_of_parts())
    (folder / CODES).unlink(missing_ok=True)  # of an earlier, larger index without a manifest
    if rows > FEW:
        from dove_core.index.codes import build_codes  # noqa: PLC0415  # faiss

        build_codes(folder / CODES, np.load(folder / VECTORS, mmap_mode="r"))


def _write_words(out: Place, encoder: Encoder, draft: Draft) -> str:
    """Write the text side of the model, unless it is there; return the name of its folder."""
    name, old = WORDS, draft.old
    if old:
        name = old.words if old.fingerprint == encoder.fingerprint else f"{WORDS}-{encoder.fingerprint}"
    if draft.sound:
        return name
    with out.filling() as folder, atomic_folder(folder / name) as words:
        encoder.save_text_side(words)
    return name


def _remove_unused(out: Place, old: IndexManifest | None, new: IndexManifest) -> None:
    """Remove segments and parts that an index does not have any more, unless a reader holds one of the segments.

    Buckets have no locks: there, what the last index had stays until the next update.
    """
    stay = [new] if isinstance(out, Folder) or old is None else [new, old]
    segments = {name for one in stay for name, _ in one.segments}
    unused = [name for name in out.folders() if name.startswith(_FOLDER) and name not in segments]
    if "" not in segments and any(map(out.has, SEGMENT_FILES)):
        unused.append("")
    with ExitStack() as stack:
        if isinstance(out, Folder):
            free = [stack.enter_context(unread(out.path / name / VECTORS)) for name in unused]
            if not all(free):
                return
        for name in unused:
            if name:
                (out / name).remove_all()
            else:
                for file in SEGMENT_FILES:
                    out.remove(file)
        parts = {part for one in stay for part in one.parts}
        for name in out.sizes():
            number = number_of(name)
            if number is not None and number not in parts:
                out.remove(name)
        for name in out.folders():
            if name.startswith(WORDS) and name not in {one.words for one in stay}:
                (out / name).remove_all()
