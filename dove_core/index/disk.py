"""An index on disk: files made from the embedding parts, so that a query is fast.

Each segment has the metadata of its rows in `rows.arrow`, their vectors in `vectors.npy`, and coarse codes in
`codes.faiss` if there are many. `words/` has the text side of the model. Files are mapped, not read. All of them can be
made again from the parts by the same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dove_core.addresses import Address, follow_path, place_of
from dove_core.config import FilterConfig
from dove_core.encoding.load import load_text_side
from dove_core.encoding.text_side import TextSide
from dove_core.errors import ReplacedError, SearchIndexError
from dove_core.index.images import read_image, read_images
from dove_core.index.manifest import IndexManifest, read_manifest
from dove_core.index.nearest import FEW
from dove_core.index.regions import StoredRegions, regions_name
from dove_core.index.rows import Row, RowTable
from dove_core.index.segments import AGAIN, ROWS, SEGMENT_FILES, Segment, nearest_in, nearest_many_in
from dove_core.places import LocalFiles, Place

_ATTEMPTS = 20
"""How often an index is opened again because a writer has replaced it meanwhile."""


class SearchIndex:
    """An opened index; rows are numbered over all parts.

    It stays the same, and readable, while another process brings the index up to date.
    """

    def __init__(self, address: Address, *, checkpoint: Address | None = None, shards: Address | None = None) -> None:
        """Open an index; one in a bucket is downloaded to the cache.

        Args:
            address: of the index.
            checkpoint: folder of the model, if it was moved.
            shards: folder of the embedded images, if they were moved.

        Raises:
            SearchIndexError: the index is missing, damaged, or its files do not match each other.
            UsageError, DownloadError: the bucket cannot be read.
        """
        self.place = place_of(address)
        self._checkpoint = None if checkpoint is None else place_of(checkpoint)
        self._shards = None if shards is None else place_of(shards)
        self.manifest, self._words, self._segments = _opened(self.place)
        self.folder = self._words.folder

    def __len__(self) -> int:
        """Count the rows."""
        return sum(self.manifest.counts)

    @property
    def name(self) -> str:
        """Return the path or address, for messages."""
        return str(self.place)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the model that made the index."""
        return self.manifest.fingerprint

    @property
    def checkpoint(self) -> Place:
        """Return the folder of the checkpoint that made the index."""
        return self._checkpoint or self._beside(self.manifest.checkpoint)

    @property
    def shards(self) -> Place:
        """Return the folder of the embedded images, which file names in rows are relative to.

        If there are several inputs it is that of the first one.
        """
        return self._shards or self._beside(self.manifest.shards)

    def _beside(self, path: str) -> Place:
        """Return the place at a path from the index, which may be a link that was made later."""
        found, other = follow_path(self.place, path), follow_path(self.place.resolved, path)
        return other if other.exists() and not found.exists() else found

    @cached_property
    def vectors(self) -> np.ndarray:
        """All vectors `(N, D)` float16: mapped if there is one segment, otherwise a copy in memory."""
        if len(self._segments) == 1:
            return self._segments[0].vectors
        empty = np.zeros((0, self.manifest.dim), np.float16)
        return np.concatenate([empty, *(one.vectors for one in self._segments)])

    @cached_property
    def table(self) -> RowTable:
        """The metadata of the rows.

        Raises:
            SearchIndexError: a file is missing, damaged, or its number of rows is wrong.
        """
        paths = {one.folder / ROWS: len(one) for one in self._segments}
        table = RowTable(*paths)
        for (path, expected), found in zip(paths.items(), table.lengths, strict=True):
            if found != expected:
                raise SearchIndexError(f"{path} has {found} rows, expected {expected}", hint=AGAIN)
        return table

    @cached_property
    def words(self) -> TextSide:
        """The text side of the model that made the index.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        return load_text_side(self.folder / self.manifest.words)

    @cached_property
    def regions(self) -> StoredRegions | None:
        """Regions of the images; None if they were not stored."""
        segments = zip(self._segments, self.manifest.segment_parts, strict=True)
        paths = [one.files.folder / regions_name(part) for one, (_, parts) in segments for part in parts]
        return StoredRegions(paths, self.manifest.counts) if all(path.exists() for path in paths) else None

    def open_files(self) -> None:
        """Open every file that a question may need, so that questions do not see a later rebuild of the index."""
        self.table, self.words  # noqa: B018
        if self.regions is not None:
            self.regions.open_files()
        for one in self._segments:
            if len(one) > FEW:
                one.codes  # noqa: B018

    def kept(self, filters: FilterConfig) -> np.ndarray | None:
        """Return `(N,)` bool, the rows that pass every filter; None without filters.

        Raises:
            UsageError: a filter is invalid.
        """
        if filters == FilterConfig():
            return None
        from dove_core.index.filters import kept_rows

        return kept_rows(self.table, filters)

    def search(
        self, vector: np.ndarray, top: int, *, keep: np.ndarray | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the `top` rows nearest to a vector `(D,)` and their cosines, best first; equal ones by row.

        Vectors are stored as float16 and compared in float32. Large indexes are searched by codes first, which misses a
        few rows in a thousand; `exact` compares with every vector.

        Args:
            vector: of length 1.
            top: number of rows.
            keep: `(N,)` bool, the rows that may be returned; None for all.
            exact: do not use the codes.
        """
        return nearest_in(self._segments, np.asarray(vector, np.float32), top, keep, exact)

    def search_many(
        self, vectors: np.ndarray, top: int, *, keep: np.ndarray | None = None, exact: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the result of `search` for each of several vectors `(Q, D)`; faster than one by one."""
        return nearest_many_in(self._segments, np.asarray(vectors, np.float32), top, keep, exact)

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return the metadata of some rows.

        Raises:
            SearchIndexError: `rows.arrow` is missing or damaged.
        """
        return self.table.rows(numbers)

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that exists."""
        return self.table.find(keys)

    def vectors_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the vectors `(K, D)` float16 of some rows."""
        wanted = np.asarray(numbers, np.int64)
        found = np.empty((len(wanted), self.manifest.dim), np.float16)
        for one in self._segments:
            inside = (wanted >= one.start) & (wanted < one.stop)
            found[inside] = one.vectors[wanted[inside] - one.start]
        return found

    @property
    def segments(self) -> Sequence[Segment]:
        """Return the opened segments."""
        return self._segments

    def image(self, row: Row) -> bytes:
        """Read the image of a row from the file that was embedded.

        Raises:
            SearchIndexError: the file is missing, or shorter than when it was embedded.
        """
        return read_image(self.shards, row)

    def images(self, rows: Sequence[Row]) -> list[bytes]:
        """Read the images of some rows, several at once from a bucket; errors as `image`."""
        return read_images(self.shards, rows)


def _opened(place: Place) -> tuple[IndexManifest, LocalFiles, list[Segment]]:
    """Open an index, and hold its text side and its segments; begin again if a writer replaces it meanwhile.

    Raises:
        SearchIndexError: the index is missing or damaged.
    """
    before: IndexManifest | None = None
    replaced: Exception | None = None
    for _ in range(_ATTEMPTS):
        fresh = place.fresh
        try:
            manifest = read_manifest(fresh)
            if manifest == before:
                break
            before = manifest
            return manifest, _words_of(fresh, manifest), _segments_of(fresh, manifest)
        except (FileNotFoundError, ReplacedError) as error:
            replaced = error
    what = getattr(replaced, "filename", None) or replaced
    raise SearchIndexError(f"{what} does not exist, or is replaced all the time", hint=AGAIN) from replaced


def _words_of(place: Place, manifest: IndexManifest) -> LocalFiles:
    return place.local_files_matching(lambda name: name.startswith(f"{manifest.words}/"))


def _segments_of(place: Place, manifest: IndexManifest) -> list[Segment]:
    """Open the segments; of a bucket each is an entry of the cache, which stays while the others change."""
    rows, found, start = manifest.rows_of, list[Segment](), 0
    for name, parts in manifest.segment_parts:
        needed = {f"{name}/{file}".lstrip("/") for file in SEGMENT_FILES} | {regions_name(part) for part in parts}
        files, count = place.local_files_matching(needed.__contains__), sum(rows[part] for part in parts)
        found.append(Segment(files, name, start, count, manifest.dim, held=not place.is_remote))
        start += count
    return found
