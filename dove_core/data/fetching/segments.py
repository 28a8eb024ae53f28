"""A large file in several segments at once, each of which goes on where it stopped."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import islice
from typing import TypeVar

from dove_core.data.fetching.answers import ChangedError, Pace, PassingError, Version, persist
from dove_core.data.fetching.origins import Origin
from dove_core.data.fetching.part import Part, Segments
from dove_core.data.fetching.progress import Progress
from dove_core.events import Noted, Report

_PIECE = 2**20  # largest piece that is written, and then noted, at once

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoppedError(Exception):
    """The other requests came to an end, and so shall this one. Never leaves `at_once`."""


class Stop:
    """Tells threads that a job is over."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End the job."""
        self._event.set()

    def check(self) -> None:
        """Raise StoppedError once the job is over."""
        self.pause(0)

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the job lasts."""
        if self._event.wait(seconds):
            raise StoppedError


def at_once(
    job: Callable[[Item, Stop], Result], items: Iterable[Item], connections: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item with `job(item, stop)` as they are done, so many at once; the first error ends them all.

    Close it where errors may come between two items: threads end with it.

    No more items are taken than are at work or done and not yet yielded, twice `connections` of them at most.
    """
    stop, pool, rest = Stop(), ThreadPoolExecutor(connections), iter(items)
    waiting: dict[Future[Result], Item] = {}
    try:
        while True:
            for item in islice(rest, 2 * connections - len(waiting)):
                waiting[pool.submit(job, item, stop)] = item
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                item = waiting.pop(future)
                yield item, future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def honours_ranges(origin: Origin, version: Version, *, pace: Pace, report: Report) -> bool:
    """Say whether the server serves parts of files.

    Raises:
        ChangedError: the file is of another version now.
        DownloadError: refused, missing, or patience is at its end.
    """

    def attempt() -> bool | None:
        try:
            with origin.answer(1, 2, version) as answer:
                return answer.offset == 1 if version.agrees_with(answer.version) else None
        except ChangedError:
            return None

    hint = "run the same command again later: what is here is not fetched twice"
    found = persist(attempt, origin.address, hint=hint, patience=pace.patience, report=report)
    if found is None:
        raise ChangedError
    return found


def receive_segments(
    origin: Origin, part: Part, version: Version, *, pace: Pace, progress: Progress, hint: str, report: Report
) -> None:
    """Bring `part` to its full length, `pace.connections` segments at once.

    A kill costs at most what was on its way: less than one segment in all.

    Raises:
        ChangedError: the file is of another version now.
        DownloadError: refused, missing, another kind of file, or patience is at its end.
        SpaceError: the disk is full.
    """
    kept = part.segments()
    if kept is not None and kept.version != version:
        report(Noted(f"{origin.address}: the file has changed on the server: starting over"))
        part.discard()
        kept = None
    segments = kept or part.begin_segments(version, pace.segment)
    progress.at(sum(segments.counts), version.size)
    try:
        with part.files() as (data, journal):
            receiver = _Receiver(origin, segments, data, journal, pace, progress, report, hint)
            with closing(at_once(receiver.bring, segments.missing(), pace.connections)) as done:
                for _ in done:
                    pass
    finally:
        progress.flush()


class _Receiver:
    """Writes segments where they belong, and notes how far each has come."""

    def __init__(
        self, origin: Origin, segments: Segments, data: int, journal: int, pace: Pace, progress: Progress,
        report: Report, hint: str,
    ) -> None:  # fmt: skip
        self._origin, self._segments, self._data, self._journal = origin, segments, data, journal
        self._pace, self._progress, self._report, self._hint = pace, progress, report, hint
        # What is on its way when a kill comes is fetched twice: all pieces together are less than a segment.
        self._piece = max(1, min(_PIECE, segments.segment // (2 * pace.connections)))

    def bring(self, number: int, stop: Stop) -> None:
        """Fetch what is missing of a segment, with retries; a change of the file ends all."""

        def attempt() -> bool:
            try:
                self._receive(number, stop)
            except ChangedError:  # not to be tried again here: everything starts over
                return False
            return True

        is_same = persist(
            attempt,
            self._origin.address,
            hint=self._hint,
            patience=self._pace.patience,
            reached=lambda: self._segments.counts[number],
            pause=stop.pause,
            report=self._report,
        )
        if not is_same:
            raise ChangedError

    def _receive(self, number: int, stop: Stop) -> None:
        segments, first = self._segments, number * self._segments.segment
        start, end = first + segments.counts[number], first + segments.length(number)
        with self._origin.answer(start, end, segments.version) as answer:
            if answer.offset != start:
                if not segments.version.agrees_with(answer.version):
                    raise ChangedError
                raise PassingError("the server sent the whole file in the place of a part")
            for piece in _pieces(answer.chunks, self._piece):
                stop.check()
                if start + len(piece) > end:
                    raise PassingError("the server sent more than was asked for")
                _write(self._data, piece, start)
                start += len(piece)
                segments.counts[number] += len(piece)
                _write(self._journal, struct.pack("=q", segments.counts[number]), 8 * number)
                self._progress.advance(len(piece))
        if start < end:
            raise PassingError(f"the server broke off {end - start} bytes before the end of a segment")


def fetch_range(
    origin: Origin, start: int, end: int, version: Version, *, pace: Pace, stop: Stop, report: Report
) -> bytes:
    """Return the bytes from `start` up to `end` of a file of this version, with retries.

    Raises:
        ChangedError: the file is of another version now.
        DownloadError: refused, missing, or patience is at its end.
    """
    found = bytearray()

    def attempt() -> bool:
        try:
            with origin.answer(start + len(found), end, version) as answer:
                if not version.agrees_with(answer.version):
                    return False
                if answer.offset != start + len(found):
                    raise PassingError("the server sent the whole file in the place of a part")
                for chunk in answer.chunks:
                    stop.check()
                    found.extend(chunk)
        except ChangedError:
            return False
        if start + len(found) != end:
            kept = min(len(found), end - start)
            del found[kept:]
            if start + kept < end:
                raise PassingError(f"the server broke off after {kept} of {end - start} bytes")
        return True

    hint = "run the same command again later: what is here is not fetched twice"
    pause, patience = stop.pause, pace.patience
    if not persist(attempt, origin.address, hint=hint, patience=patience, reached=lambda: len(found), pause=pause,
                   report=report):  # fmt: skip
        raise ChangedError
    return bytes(found)


def _pieces(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Cut what comes into pieces of at most `size` bytes, held back no longer than a chunk."""
    for chunk in chunks:
        if len(chunk) <= size:
            yield chunk
        else:
            for at in range(0, len(chunk), size):
                yield chunk[at : at + size]


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
