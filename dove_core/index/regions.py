"""Regions of the images of an index, stored so that re-ranking reads no images and needs no torch.

The record of an image has `fused (D,)` as float16, and its regions `(R, D)` as bytes with a scale for each region. With
36 regions of 512 dimensions it has 19.5 kB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dove_core.errors import SearchIndexError, reason_of
from dove_core.places import Place

_HINT = "run `dove embed --regions` again"


def regions_name(part: int) -> str:
    """Return `regions-00000.npy` for part 0."""
    return f"regions-{part:05d}.npy"


def region_records(regions: np.ndarray, fused: np.ndarray) -> np.ndarray:
    """Return the records of some images.

    Args:
        regions: `V_R (N, R, D)`.
        fused: `v_MR (N, D)`.
    """
    count, regions_each, dim = regions.shape
    records = np.zeros(count, record_type(regions_each, dim))
    scale = np.abs(regions).max(axis=2, initial=1e-12) / 127
    records["fused"], records["scale"] = fused, scale
    records["regions"] = np.clip(np.rint(regions / scale[..., None]), -127, 127)
    return records


def write_regions(place: Place, part: int, records: np.ndarray) -> None:
    """Write the records of a part into the folder of the index.

    Raises:
        SpaceError: the disk is full.
    """
    with place.writing(regions_name(part)) as stream:
        np.lib.format.write_array(stream, records, allow_pickle=False)


class StoredRegions:
    """The records of all parts; rows are numbered over all parts."""

    def __init__(self, paths: Sequence[Path], counts: Sequence[int]) -> None:
        """Open the files of parts which have `counts` rows; they are mapped when needed."""
        self._paths, self._starts = paths, np.cumsum([0, *counts])
        self._parts: dict[int, np.ndarray] = {}

    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the regions `(K, R, D)` and fused vectors `(K, D)` of some rows as float32.

        Raises:
            SearchIndexError: a file is missing or damaged.
        """
        records = self.records(numbers)
        regions = records["regions"].astype(np.float32) * records["scale"].astype(np.float32)[..., None]
        return regions, records["fused"].astype(np.float32)

    def records(self, numbers: np.ndarray) -> np.ndarray:
        """Return the stored records of some rows.

        Raises:
            SearchIndexError: a file is missing or damaged.
        """
        return np.array([self._record(int(number)) for number in numbers])

    def open_files(self) -> None:
        """Map the files of all parts now; errors as `records`."""
        for part in range(len(self._starts) - 1):
            self._part(part)

    def _record(self, number: int) -> np.void:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        record: np.void = self._part(part)[number - self._starts[part]]
        return record

    def _part(self, part: int) -> np.ndarray:
        if part not in self._parts:
            path, count = self._paths[part], int(self._starts[part + 1] - self._starts[part])
            try:
                records = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise SearchIndexError(f"{path} cannot be read: {reason_of(error)}", hint=_HINT) from error
            if records.shape != (count,) or records.dtype.names != ("fused", "scale", "regions"):
                raise SearchIndexError(f"{path} does not have regions of {count} images", hint=_HINT)
            self._parts[part] = records
        return self._parts[part]


def record_type(regions: int, dim: int) -> np.dtype[np.void]:
    """Return the type of a record with `regions` regions of `dim` dimensions."""
    return np.dtype([("fused", "<f2", dim), ("scale", "<f2", regions), ("regions", "i1", (regions, dim))])
