"""Some members of a zip that lies elsewhere, brought by ranges into a smaller zip of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dove_core.data.fetching.answers import Pace, Version
from dove_core.data.fetching.origins import Origin
from dove_core.data.fetching.progress import Progress
from dove_core.data.fetching.segments import Stop, at_once, fetch_range
from dove_core.data.fetching.subset_zip import Record, SubsetZip, local_header
from dove_core.data.zips import ZipDirectory, content, data_start, record_length
from dove_core.errors import DataError
from dove_core.events import Report, Saved, Skipped, silent

_SPARE = 0.1
"""Bytes between members that may be fetched in vain, as a share of the members' own, to save requests."""

_LONGEST_RUN = 4 * 2**20


@dataclass(frozen=True)
class Run:
    """One request: bytes `start` to `end` of a zip, and which entries of its directory lie in there, in this order."""

    start: int
    end: int
    members: np.ndarray


def bring_members(
    origin: Origin,
    version: Version,
    directory: ZipDirectory,
    wanted: np.ndarray,
    target: Path,
    *,
    pace: Pace,
    report: Report = silent,
) -> np.ndarray:
    """Make `target` a zip that holds the members with the numbers `wanted`, beside those that it has already.

    Every member's length and CRC are checked. What a kill leaves is gone on from; a zip that has all is not touched.

    Returns:
        Numbers of wanted members that are damaged where they come from.

    Raises:
        ChangedError: the zip is of another version now; what is here stays, as far as it fits.
        DownloadError: refused, missing, or patience is at its end.
        SpaceError: the disk is full.
    """
    subset = SubsetZip(target)
    nothing = np.array([], dtype=np.int64)
    if not subset.part.exists() and not len(_missing(subset.finished(), directory, wanted)) and target.exists():
        return nothing
    subset.begin(version)
    records = subset.begun()
    missing = _missing(records, directory, wanted)
    keep = _matches(records, directory) >= 0
    records = [record for record, is_kept in zip(records, keep.tolist(), strict=True) if is_kept]
    total = int(directory.packed[wanted].sum())
    progress = Progress(f"fetch members of {target.name}", report)
    progress.at(total - int(directory.packed[missing].sum()), total)
    damaged: list[int] = []
    fetcher = _Fetcher(origin, version, directory, pace, report)
    runs = at_once(fetcher.bring, runs_of(directory, missing), pace.connections)
    with subset.growing() as stream, closing(runs):
        for run, found in runs:
            damaged += set(run.members.tolist()) - {number for number, _, _ in found}
            for number, record, packed in found:
                records.append(record._replace(header=stream.tell()))
                stream.write(packed)
                progress.advance(int(directory.packed[number]))
            stream.flush()
    progress.flush()
    if damaged:
        example = directory.names[damaged[0]].as_py()
        report(Skipped(f"fetch members of {target.name}", "damaged on the server", len(damaged), example))
    subset.finish(records)
    report(Saved(str(target)))
    return np.array(sorted(damaged), dtype=np.int64) if damaged else nothing


def missing_bytes(directory: ZipDirectory, wanted: np.ndarray, target: Path) -> int:
    """Return how many bytes of members are still to come into `target`."""
    try:
        records = SubsetZip(target).finished()
    except DataError:
        records = []
    return int(directory.packed[_missing(records, directory, wanted)].sum())


def runs_of(directory: ZipDirectory, numbers: np.ndarray) -> list[Run]:
    """Put neighbouring members into one request each: the smallest gaps are closed first, up to a tenth in vain."""
    if not len(numbers):
        return []
    order = numbers[np.argsort(directory.header[numbers], kind="stable")]
    starts = directory.header[order]
    lengths = [
        record_length(header, end, packed)
        for header, end, packed in zip(
            starts.tolist(), directory.end[order].tolist(), directory.packed[order].tolist(), strict=True
        )
    ]
    ends = np.maximum.accumulate(starts + np.array(lengths, dtype=np.int64))
    gaps = np.maximum(starts[1:] - ends[:-1], 0)
    by_size = np.argsort(gaps, kind="stable")
    is_closed = np.zeros(len(gaps), dtype=bool)
    is_closed[by_size[np.cumsum(gaps[by_size]) <= _SPARE * int(np.sum(lengths))]] = True
    return list(_cut(order, starts, ends, is_closed))


def _cut(order: np.ndarray, starts: np.ndarray, ends: np.ndarray, is_closed: np.ndarray) -> Iterator[Run]:
    first, closed = 0, [*is_closed.tolist(), False]
    begins, stops = starts.tolist(), ends.tolist()
    for i, goes_on in enumerate(closed):
        if not goes_on or stops[i + 1] - begins[first] > _LONGEST_RUN:
            yield Run(begins[first], stops[i], order[first : i + 1])
            first = i + 1


def _missing(records: list[Record], directory: ZipDirectory, wanted: np.ndarray) -> np.ndarray:
    """Return those of the wanted members that are not among the records."""
    found = _matches(records, directory)
    missing: np.ndarray = np.setdiff1d(wanted, found[found >= 0])
    return missing


def _matches(records: list[Record], directory: ZipDirectory) -> np.ndarray:
    """Return for each record which member of the directory it is, -1 for one that is not, or no longer, in there."""
    if not records:
        return np.array([], dtype=np.int64)
    names = pa.array([record.name for record in records], type=pa.large_string())
    found: np.ndarray = pc.fill_null(pc.index_in(names, value_set=directory.names), -1).to_numpy().astype(np.int64)
    facts: dict[str, Any] = {"crc": directory.crc, "packed": directory.packed, "method": directory.method}
    for name, column in facts.items():
        mine = np.array([getattr(record, name) for record in records], dtype=np.int64)
        found[(found >= 0) & (column[found] != mine)] = -1
    return found


class _Fetcher:
    """Brings one run after another, each member checked and written anew as a record of its own."""

    def __init__(self, origin: Origin, version: Version, directory: ZipDirectory, pace: Pace, report: Report) -> None:
        self._origin, self._version, self._directory = origin, version, directory
        self._pace, self._report = pace, report

    def bring(self, run: Run, stop: Stop) -> list[tuple[int, Record, bytes]]:
        """Return number, record and bytes of each member that is sound; one that is not is asked for twice."""
        data = memoryview(self._fetch(run.start, run.end, stop))
        found = []
        for number in run.members.tolist():
            start = int(self._directory.header[number])
            try:
                found.append(self._record(number, bytes(data[start - run.start :][: self._length(number)])))
            except DataError:
                again = self._fetch(start, min(start + self._length(number), run.end), stop)
                try:
                    found.append(self._record(number, again))
                except DataError:
                    continue
        return found

    def _fetch(self, start: int, end: int, stop: Stop) -> bytes:
        return fetch_range(self._origin, start, end, self._version, pace=self._pace, stop=stop, report=self._report)

    def _length(self, number: int) -> int:
        directory = self._directory
        return record_length(int(directory.header[number]), int(directory.end[number]), int(directory.packed[number]))

    def _record(self, number: int, raw: bytes) -> tuple[int, Record, bytes]:
        directory = self._directory
        name = directory.names[number].as_py()
        packed, size = int(directory.packed[number]), int(directory.size[number])
        method, crc = int(directory.method[number]), int(directory.crc[number])
        content(raw, packed, size, crc, method, name)
        record = Record(name, method, crc, packed, size, 0)
        start = data_start(raw, name)
        return number, record, local_header(record) + raw[start : start + packed]
