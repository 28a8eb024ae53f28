"""The zips and folders of a release as the sources of its shards."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.sample import IMAGE_ENDINGS
from dove_core.data.sharding.archives import (
    META_ENDINGS,
    Archives,
    FoundFiles,
    identity_of,
    image_places,
    index_images,
    meta_places,
)
from dove_core.data.sharding.caption_table import CaptionTable, stems_of
from dove_core.data.sharding.shard_plan import FoundRows
from dove_core.events import Noted, Report, silent


class ArchiveSources:
    """The zips and folders of images and metadata; their contents are indexed once, when first needed."""

    def __init__(self, images: Path, report: Report = silent) -> None:
        """Find the zips and folders in `images`, a zip or a folder; `report` receives how images are found.

        Raises:
            DataError: it does not exist.
        """
        self.images, self.metas, self._report = image_places(images), meta_places(images), report

    @cached_property
    def identity(self) -> list[list[tuple[str, int, str]]]:
        """Name, size and digest of every place."""
        return [identity_of(self.images, IMAGE_ENDINGS), identity_of(self.metas, META_ENDINGS)]

    def find(self, table: CaptionTable) -> FoundRows:
        """Find the image and the metadata of every row by its path.

        Raises:
            DataError: a zip cannot be read, or there is no image at all.
        """
        found, images, metas = self._locate(table), self._image_index, self._meta_index
        meta_entry = _locate_metas(table.paths, metas)

        def columns(numbers: np.ndarray) -> dict[str, Any]:
            of_images = images.columns(found.entry[numbers], "picture_")
            return of_images | metas.columns(meta_entry[numbers], "meta_")

        return FoundRows(table, found.entry, found.problems, columns)

    def order(self, table: CaptionTable, seed: int) -> np.ndarray:
        """Return all rows in a random order."""
        # A bit generator's raw stream stays the same in every numpy version, which `permutation` does not promise.
        return np.argsort(np.random.PCG64(seed).random_raw(len(table)), kind="stable")

    def seen(self, table: CaptionTable) -> str:
        """Return the first expected path, and the number of images with an example."""
        images = self._image_index
        expected = f"expected images such as {table.paths[0].as_py()!r}"
        seen = f"seen: {len(images)} images such as {images.example()!r}"
        return f"{expected}; {seen}; one of both must end with the other: rename a folder, or give another --images"

    def _locate(self, table: CaptionTable) -> FoundFiles:
        """Find the images by path, else by name alone if the table has it apart; say what does not fit exactly."""
        found = self._image_index.locate(table.paths, loosely=True)
        if table.names is not None and len(left := np.flatnonzero(found.entry < 0)):
            by_name = self._image_index.locate(table.names.take(pa.array(left)), loosely=True)
            found.entry[left] = by_name.entry
            for row in left[by_name.entry >= 0].tolist():
                del found.problems[row]
        if len(found.loose):
            row = int(found.loose[0])
            name = self._image_index.name_of(int(found.entry[row]))
            message = f"{table.split}: {len(found.loose)} images have another ending or other capital letters"
            self._report(Noted(f"{message} than in {table.file.name}, such as {name} for {table.paths[row].as_py()}"))
        return found

    @cached_property
    def _image_index(self) -> Archives:
        return index_images(self.images)

    @cached_property
    def _meta_index(self) -> Archives:
        return Archives(self.metas, META_ENDINGS)


def _locate_metas(paths: Any, index: Archives) -> np.ndarray:
    """Return the entry of each row's metadata, the file with the image's stem; -1 where there is none."""
    entry = np.full(len(paths), -1, np.int64)
    if not len(index):
        return entry
    stems = stems_of(paths)
    for ending in sorted(META_ENDINGS):
        left = np.flatnonzero(entry < 0)
        nothing, end = (pa.scalar(text, pa.large_string()) for text in ("", ending))
        names = pc.binary_join_element_wise(stems.take(pa.array(left)), end, nothing)
        entry[left] = index.locate(names).entry
    return entry
