"""An index: what is made from the parts so that a query is answered at once.

`rows.arrow` holds what is known of every row, `vectors.npy` the vectors, `codes.faiss` their coarse codes where there
are many, `words/` the text side of the model. All are mapped from disk. The parts are the truth: everything here can be
made from them again, and is refused under another model.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from dove_core.config import FilterConfig
from dove_core.encoding.dove_text import PlainText, copy_text_side
from dove_core.errors import SearchIndexError
from dove_core.files import atomic_file, atomic_folder, json_bytes, read_record, record_values
from dove_core.index.images import read_image, read_images
from dove_core.index.nearest import FEW, nearest, nearest_many
from dove_core.index.regions import Regions, has_regions
from dove_core.index.rows import PART_COLUMNS, Row, RowTable
from dove_core.places import Copies, Folder, Location, Place, absolute, located, place_of

if TYPE_CHECKING:
    from dove_core.index.codes import Codes

FORMAT = 2
MANIFEST, VECTORS, CODES, ROWS, WORDS = "index.json", "vectors.npy", "codes.faiss", "rows.arrow", "words"
MADE = (MANIFEST, VECTORS, CODES, ROWS)
"""Files made from the parts."""

_HINT = "an index is a folder such as index/NAME, made by `dove embed`"
_AGAIN = "run `dove embed` again to make it from the parts"


@dataclass(frozen=True)
class IndexManifest:
    """What an index is: whose vectors, of which shards. Paths are relative to the index's folder.

    What does not lie in the same bucket, or on the same machine, has its full path or address instead.
    """

    fingerprint: str
    dim: int
    counts: list[int]
    checkpoint: str
    shards: str


class SearchIndex:
    """An opened index; rows are numbered through all parts."""

    def __init__(self, location: Location, *, shards: Location | None = None) -> None:
        """Open an index; one in a bucket comes here first, unless it is here already.

        `shards` is where what was embedded lies, if it was moved.

        Raises:
            SearchIndexError: there is none, or its files do not fit together.
            UsageError, DownloadError: the bucket cannot be reached, or refuses.
        """
        self.location, self._place = location, place_of(location)
        self._copies = _copies(self._place)
        self.folder = folder = self._copies.folder
        self._shards = shards
        self.manifest = read_record(folder / MANIFEST, IndexManifest, FORMAT, SearchIndexError, hint=_HINT)
        try:
            self.vectors: np.ndarray = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise SearchIndexError(f"{folder / VECTORS} cannot be read: {error}", hint=_AGAIN) from error
        if self.vectors.shape != (sum(self.manifest.counts), self.manifest.dim):
            message = f"{folder / VECTORS} has shape {self.vectors.shape}, unlike {MANIFEST}"
            raise SearchIndexError(message, hint=_AGAIN)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.vectors)

    @property
    def name(self) -> str:
        """Return where it lies, as messages call it."""
        return str(self.location)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the model that made the index."""
        return self.manifest.fingerprint

    @property
    def checkpoint(self) -> Location:
        """Return the folder of the checkpoint that made the index."""
        return _towards(self._place, self.manifest.checkpoint)

    @property
    def shards(self) -> Location:
        """Return the folder below which the rows' shards lie."""
        return self._shards or _towards(self._place, self.manifest.shards)

    def part(self, name: str) -> AbstractContextManager[Path]:
        """Give the file of an embedding part on this machine.

        Raises:
            FileNotFoundError: the bucket has none of that name.
        """
        return self._place.here(name)

    @cached_property
    def table(self) -> RowTable:
        """What is known of the rows.

        Raises:
            SearchIndexError: the file is missing, damaged, or has other rows than there are vectors.
        """
        table = RowTable(self.folder / ROWS)
        if len(table) != len(self):
            raise SearchIndexError(f"{self.folder / ROWS} has {len(table)} rows, not {len(self)}", hint=_AGAIN)
        return table

    @cached_property
    def words(self) -> PlainText:
        """The text side of the model that made the index.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        return PlainText.open(self.folder / WORDS)

    @cached_property
    def regions(self) -> Regions | None:
        """The images' regions, None if they were not kept."""
        counts = self.manifest.counts
        return Regions(self.folder, counts) if has_regions(self.folder, len(counts)) else None

    def kept(self, filters: FilterConfig) -> np.ndarray | None:
        """Return `(N,)` bool, the rows that pass every filter; None where there is no filter.

        Raises:
            UsageError: a filter cannot be understood.
        """
        if filters == FilterConfig():
            return None
        from dove_core.index.filters import kept_rows

        return kept_rows(self.table, filters)

    def search(
        self, vector: np.ndarray, top: int, *, keep: np.ndarray | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers and cosines of the `top` rows nearest to a vector `(D,)`, best first, equal ones by row.

        Vectors are stored as float16 and compared in float32. Large indexes are searched by their codes first, which
        finds the same rows but for a few in a thousand; `exact` compares with every vector.

        Args:
            vector: of length 1.
            top: how many.
            keep: `(N,)` bool, which rows may be found; None for all.
            exact: see above.
        """
        by_codes = None if exact or len(self) <= FEW else lambda: self.codes
        return nearest(self.vectors, np.asarray(vector, np.float32), top, by_codes, keep)

    def search_many(
        self, vectors: np.ndarray, top: int, *, keep: np.ndarray | None = None, exact: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each of several vectors `(Q, D)` what `search` does, in less time than one by one."""
        by_codes = None if exact or len(self) <= FEW else lambda: self.codes
        return nearest_many(self.vectors, np.asarray(vectors, np.float32), top, by_codes, keep)

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Return what is known of some rows.

        Raises:
            SearchIndexError: the file of rows is missing or damaged.
        """
        return self.table.rows(numbers)

    def find(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the first row of each key that is there."""
        return self.table.find(keys)

    def vectors_of(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the vectors `(K, D)` float16 of some rows."""
        vectors: np.ndarray = self.vectors[np.asarray(numbers, np.int64)]
        return vectors

    def image(self, row: Row) -> bytes:
        """Read a row's image straight from its tar, wherever that lies.

        Raises:
            SearchIndexError: the tar is not there any more, or shorter than before.
        """
        return read_image(self.shards, row.shard, row.offset, row.size)

    def images(self, rows: Sequence[Row]) -> list[bytes]:
        """Read the images of some rows; those in a bucket several at once. Errors as of `image`."""
        return read_images(self.shards, rows)

    @cached_property
    def codes(self) -> Codes:
        """The coarse codes, which an index of few rows has none of.

        Raises:
            SearchIndexError: the file is missing, damaged, or has other rows than there are vectors.
        """
        from dove_core.index.codes import Codes

        codes = Codes(self.folder / CODES)
        if len(codes) != len(self):
            raise SearchIndexError(f"{self.folder / CODES} has {len(codes)} rows, not {len(self)}", hint=_AGAIN)
        return codes


def build_index(
    out: Location, *, fingerprint: str, counts: list[int], dim: int, checkpoint: Location, shards: Location
) -> None:
    """Make an index from its parts, here, and put it where they lie; the manifest comes last.

    Raises:
        SearchIndexError: a part is missing, damaged, or has other rows than `counts` says.
        CheckpointError: the checkpoint cannot be read.
        SpaceError: the disk is full.
        UsageError, DownloadError: the bucket cannot be reached, or refuses.
    """
    from dove_core.buckets import Bucket
    from dove_core.encoding.checkpoint import checkpoint_here

    place = place_of(out)
    place.remove(MANIFEST)
    with ExitStack() as stack:
        folder = out if isinstance(out, Path) else Path(stack.enter_context(TemporaryDirectory(prefix="dove-")))
        _write_from_parts(folder, place, counts, dim)
        if not isinstance(checkpoint, Path) or checkpoint.is_dir():
            with checkpoint_here(checkpoint) as model, atomic_folder(folder / WORDS) as words:
                copy_text_side(model, words)
        if isinstance(place, Bucket):
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                place.put(path, path.relative_to(folder).as_posix())
            if not (folder / CODES).exists():
                place.remove(CODES)  # of a larger index that was there before
    manifest = IndexManifest(fingerprint, dim, counts, *(_from(out, other) for other in (checkpoint, shards)))
    with place.writing(MANIFEST) as stream:
        stream.write(json_bytes(record_values(manifest, FORMAT)))


def _write_from_parts(folder: Path, place: Place, counts: list[int], dim: int) -> None:
    """Write vectors, rows and codes into a folder; the parts lie in a place."""
    from dove_core.index.columns import write_rows
    from dove_core.index.parts import part_name, read_part, read_vectors

    with atomic_file(folder / VECTORS) as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": (sum(counts), dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        for part, count in enumerate(counts):
            with place.here(part_name(part)) as path:
                vectors = read_vectors(path)
            if vectors.shape != (count, dim):
                message = f"{place.where(part_name(part))} holds {vectors.shape} vectors, not {(count, dim)}"
                raise SearchIndexError(message, hint="remove it and run `dove embed` again")
            stream.write(np.ascontiguousarray(vectors).tobytes())

    def rows() -> Iterator[Any]:
        for part in range(len(counts)):
            with place.here(part_name(part)) as path:
                yield read_part(path, PART_COLUMNS)

    write_rows(folder / ROWS, rows())
    (folder / CODES).unlink(missing_ok=True)
    if sum(counts) > FEW:
        from dove_core.index.codes import build_codes  # faiss is imported where it is used

        build_codes(folder / CODES, np.load(folder / VECTORS, mmap_mode="r"))


def _copies(place: Place) -> Copies:
    """Return the files of an index that a query may need: all but the parts."""
    if isinstance(place, Folder):
        return place.hold(MADE)
    from dove_core.buckets import Bucket

    assert isinstance(place, Bucket)
    names = [name for name in place.facts() if name in MADE or name.startswith((f"{WORDS}/", "regions-"))]
    if MANIFEST not in names:
        raise SearchIndexError(f"{place.where(MANIFEST)} does not exist", hint=_HINT)
    return place.hold(names)


def _from(out: Location, other: Location) -> str:
    """Return the way from an index to something else: relative on one machine or in one bucket, or else in full."""
    if isinstance(out, Path) and isinstance(other, Path):
        return os.path.relpath(other, out)
    here, there = absolute(out).split("/"), absolute(other).split("/")
    if here[:3] != there[:3] or isinstance(out, Path):  # ["s3:", "", "bucket"]
        return absolute(other)
    return posixpath.relpath("/".join(["", *there[3:]]), "/".join(["", *here[3:]]))


def _towards(place: Place, way: str) -> Location:
    """Return where such a way leads."""
    if "://" in way or (way.startswith("/") and not isinstance(place, Folder)):
        return located(way, place.cache)
    if isinstance(place, Folder):
        return Path(os.path.normpath(place.path / way))
    kind, _, rest = place.url.partition("://")
    return located(f"{kind}://{posixpath.normpath(f'{rest}/{way}')}", place.cache)
