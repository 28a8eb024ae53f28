"""One remote file -> one verified file, in one stream that resumes.

Bytes go to `NAME.part` beside the target, and `NAME.part.json` says which version of the remote file they belong to.
The target appears by a rename, when its length, its first bytes and its MD5 are right. So after a kill, a dropped
connection or a full disk the next call requests the missing bytes only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from dove_core.data.fetching.servers import WRONG_CONTENT, Origin, Version, content_problem
from dove_core.data.fetching.transfers import RERUN, ChangedError, PassingError, Progress, Transfers
from dove_core.errors import DownloadError
from dove_core.events import Noted, Saved
from dove_core.files import make_folder, read_record, space_checked, write_record

_FORMAT = 1


class Partial:
    """The file of a download that has not finished: its bytes, and a note of the version that they belong to."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self.note = target.with_name(f"{target.name}.part.json")

    def length(self) -> int:
        """Return how many bytes are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> Version | None:
        """Return the version of the bytes that are here; None if a download cannot resume from them."""
        try:
            version = read_record(self.note, Version, _FORMAT, DownloadError, hint="")
        except DownloadError:
            return None
        length = self.length()
        is_begun = version.mark is not None and length > 0 and (version.size is None or length < version.size)
        return version if is_begun or length == version.size else None

    def resumable(self) -> int:
        """Return from how many bytes a download would resume."""
        return self.length() if self.version() else 0

    def begin(self, version: Version) -> None:
        """Remove what is here, and note the version of the bytes to come."""
        self.discard()
        write_record(self.note, version, _FORMAT)

    def append(self, chunks: Iterator[bytes], size: int | None, progress: Progress, transfers: Transfers) -> None:
        """Write the next bytes, until there are more of them than the file should have."""
        with space_checked(self.path), self.path.open("ab") as stream:
            for chunk in chunks:
                transfers.check()  # before the bytes are written: another call may be at work here already
                stream.write(chunk)
                progress.advance(len(chunk))
                if size is not None and stream.tell() > size:
                    return

    def finish(self, target: Path) -> None:
        """Flush the bytes to the disk, then give them their name."""
        with space_checked(self.path), self.path.open("r+b") as stream:
            os.fsync(stream.fileno())
        subset_note(target).unlink(missing_ok=True)  # before the rename: no whole file is called a subset
        self.path.replace(target)
        self.discard()

    def discard(self) -> None:
        """Remove what is here."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def subset_note(path: Path) -> Path:
    """Return the note that says that a table has only some of the published rows."""
    return path.with_name(f"{path.name}.subset.json")


def download(
    origin: Origin, target: Path, transfers: Transfers, *, size: int | None = None, md5: str | None = None,
    md5_source: str = "the caller",
) -> None:  # fmt: skip
    """Fetch a file into `target`; resume where an earlier call was interrupted.

    A file that has changed on the server meanwhile starts over. After an MD5 mismatch the whole partial file stays:
    another call without `md5` accepts it without fetching it again.

    Args:
        origin: where the file is.
        target: its path here; the ending (.zip, .csv) says which first bytes are valid.
        transfers: how requests are retried; receives Started, Advanced, Noted and Saved.
        size: expected length in bytes, used if the server does not send one with the file.
        md5: expected MD5; None: no check.
        md5_source: who published it, for the error.

    Raises:
        DownloadError: refused, missing, another kind of file, a wrong MD5, or the retries are exhausted.
        SpaceError: the disk is full.
    """
    partial, progress = Partial(target), Progress(f"fetch {target.name}", transfers)
    make_folder(target.parent)

    def attempt() -> None:
        nonlocal size
        try:
            _receive(origin, partial, size, progress, transfers)
        except ChangedError:
            partial.discard()
            size = None
            raise
        finally:
            progress.end()

    transfers.persist(attempt, origin.address, hint=f"{RERUN}: {partial.path}", position=partial.length)
    with partial.path.open("rb") as stream:
        problem = content_problem(stream.read(1024), target.name)
    if problem:
        partial.discard()
        raise DownloadError(f"{origin.address} did not return {target.name}: {problem}", hint=WRONG_CONTENT)
    if md5 is not None:
        check_md5(partial.path, md5, md5_source, transfers)
    partial.finish(target)
    transfers.report(Saved(str(target)))


def check_md5(path: Path, md5: str, source: str, transfers: Transfers) -> None:
    """Compare the MD5 of a file with the published one; the file stays in any case.

    Raises:
        DownloadError: they differ; the message says who published it.
    """
    digest = hashlib.md5(usedforsecurity=False)
    progress = Progress(f"verify {path.name.removesuffix('.part')}", transfers)
    progress.begin(0, path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            transfers.check()
            digest.update(chunk)
            progress.advance(len(chunk))
    progress.end()
    if digest.hexdigest() != md5.lower():
        hint = (
            f"delete {path} and run the same command again to fetch it again; if the MD5 differs again, the file may "
            "have been replaced since that MD5 was published: --no-checksum accepts it as it is"
        )
        raise DownloadError(f"{path} has the MD5 {digest.hexdigest()}, not {md5}, published by {source}", hint=hint)


def _receive(origin: Origin, partial: Partial, size: int | None, progress: Progress, transfers: Transfers) -> None:
    """Complete the partial file with one request."""
    kept = partial.version()
    offset = partial.length() if kept is not None else 0
    if kept is not None and kept.size == offset:
        if size in (None, offset):
            progress.begin(offset, offset)
            return
        kept, offset = None, 0  # a whole file of another length than the server has now
    if kept is not None and origin.settled(kept).mark is None:
        reason = "each answer of the server has another ETag, so a download cannot resume: starting over"
        transfers.report(Noted(f"{origin.address}: {reason}"))
        kept, offset = None, 0
    with origin.answer(offset, kept=kept) as answer:
        size = size if answer.version.size is None else answer.version.size
        if not answer.offset:
            if kept is not None:
                reason = "the server cannot resume" if kept.agrees_with(answer.version) else "the file has changed"
                transfers.report(Noted(f"{origin.address}: {reason}: starting over"))
            partial.begin(Version(answer.version.mark, size))
        progress.begin(answer.offset, size)
        partial.append(answer.chunks, size, progress, transfers)
    if size is not None and partial.length() > size:
        partial.discard()
        raise PassingError(f"the server sent more than the {size} bytes it announced")
    if size is not None and partial.length() < size:
        raise PassingError(f"the connection ended after {partial.length()} of {size} bytes")
