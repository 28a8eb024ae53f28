"""One origin -> one verified file.

Bytes go to `NAME.part` beside the target, and `NAME.part.json` says which version of the remote file they belong to.
The target itself appears by a rename, once its length, its first bytes and its MD5 sum are right. A kill, a dropped
connection or a full disk therefore loses nothing: the next call asks the server for the missing bytes only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from dove_core.data.fetching.answers import (
    Answer,
    ChangedError,
    Pace,
    PassingError,
    Version,
    persist,
)
from dove_core.data.fetching.origins import Origin
from dove_core.data.fetching.part import Part
from dove_core.data.fetching.progress import Progress
from dove_core.data.fetching.segments import honours_ranges, receive_segments
from dove_core.errors import DownloadError
from dove_core.events import Noted, Report, Saved, silent
from dove_core.files import make_folder


def download(
    origin: Origin,
    target: Path,
    *,
    version: Version | None = None,
    md5: str | None = None,
    md5_source: str = "the caller",
    pace: Pace | None = None,
    report: Report = silent,
) -> None:
    """Fetch a file into `target`, going on where an earlier call stopped.

    A file longer than a segment comes in several segments at once, if the server honours ranges and tells versions
    apart. One that has changed on the server meanwhile starts over, which a `Noted` and a second `Started` tell. After
    an MD5 mismatch the whole `.part` stays: another call without `md5` takes it as it is, without fetching it again.

    Args:
        origin: where the file lies.
        target: what it becomes; its ending (.zip, .csv) says which first bytes are believed.
        version: what the server said of the file; its size is believed if it is not told along with the bytes.
        md5: expected sum, 32 hexadecimal digits; None: no check.
        md5_source: who states that sum, for the error.
        pace: requests at once, length of segments, and how often and how long to retry.
        report: receives Started, Advanced, Noted and Saved.

    Raises:
        DownloadError: refused, missing, another kind of file, wrong sum, or patience is at its end.
        SpaceError: the disk is full.
    """
    part, pace, current = Part(target), pace or Pace(), version or Version(None, None)
    make_folder(target.parent)
    progress = Progress(f"fetch {target.name}", report)
    hint = f"run the same command again later: what is kept in {part.path} is not fetched twice"

    def attempt() -> None:
        nonlocal current
        try:
            if _comes_in_segments(origin, part, current, pace, report):
                receive_segments(origin, part, current, pace=pace, progress=progress, hint=hint, report=report)
            else:
                _receive(origin, part, current.size, progress, report)
        except ChangedError:
            part.discard()
            current = origin.examine().version
            raise

    persist(attempt, origin.address, hint=hint, patience=pace.patience, reached=part.length, report=report)
    part.check_start(origin.address)
    if md5 is not None:
        check_md5(part.path, md5, md5_source, report=report)
    part.finish()
    report(Saved(str(target)))


def check_md5(path: Path, md5: str, source: str, *, report: Report = silent) -> None:
    """Hold the bytes of `path` to an MD5 sum; the file stays, whatever comes out.

    Raises:
        DownloadError: the sum is another one; the message says who stated it.
    """
    digest = hashlib.md5(usedforsecurity=False)
    progress = Progress(f"verify {path.name.removesuffix('.part')}", report)
    progress.at(0, path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            progress.advance(len(chunk))
    progress.flush()
    if digest.hexdigest() != md5.lower():
        hint = (
            f"delete {path} and run the same command again to fetch it anew; if the sum is wrong again, the file may "
            "have been renewed since the sum was taken: --no-checksum accepts it as it is"
        )
        raise DownloadError(f"{path} has the MD5 sum {digest.hexdigest()}, not {md5} as stated by {source}", hint=hint)


def _comes_in_segments(origin: Origin, part: Part, version: Version, pace: Pace, report: Report) -> bool:
    """Say whether to fetch in segments: they are worth it, and the server can serve them."""
    if version.mark is None or version.size is None or pace.connections == 1 or version.size <= pace.segment:
        return False
    kept = part.version()
    is_whole = kept is not None and part.length() == version.size
    return not is_whole and honours_ranges(origin, version, pace=pace, report=report)


def _receive(origin: Origin, part: Part, size: int | None, progress: Progress, report: Report) -> None:
    """Bring `part` to its full length with one request."""
    kept = part.version()
    offset = part.length() if kept else 0
    if kept and kept.size == offset:
        if size in (None, offset):
            progress.at(offset, offset)
            return
        kept, offset = None, 0  # whole, but meanwhile the server has told another length
    with origin.answer(offset, kept=kept) as answer:
        offset, told = _place_of(answer, origin.address, part, kept, size, report)
        progress.at(offset, told.size)
        end = part.append(answer.chunks, offset, told.size, progress)
    if told.size is not None and end > told.size:
        part.discard()
        raise PassingError(f"the server sent more than the {told.size} bytes it announced")
    if told.size is not None and end < told.size:
        raise PassingError(f"the server broke off after {end} of {told.size} bytes")


def _place_of(
    answer: Answer, address: str, part: Part, kept: Version | None, size: int | None, report: Report
) -> tuple[int, Version]:
    """Return where an answer's bytes belong and what they are of; make `part` ready for them."""
    told = answer.version if answer.version.size is not None else Version(answer.version.mark, size)
    if kept and answer.offset:
        return answer.offset, told
    if kept:
        why = "the server cannot resume" if kept.agrees_with(told) else "the file has changed on the server"
        report(Noted(f"{address}: {why}: starting over"))
    part.begin(told)
    return 0, told
