"""Indexes that are served. One that is made again is opened when it is whole; requests in flight keep the old one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from dove_core.addresses import Address, place_of
from dove_core.buckets import Bucket
from dove_core.config import ComputeConfig
from dove_core.errors import DataError, DoveError, SearchIndexError, UsageError
from dove_core.index.disk import SearchIndex
from dove_core.index.manifest import MANIFEST
from dove_core.index.milvus.address import is_address
from dove_core.index.searchable import Searchable
from dove_core.places import Place
from dove_core.search.query import Searcher
from dove_core.serve.summary import Summary, summary_of

_log = logging.getLogger("dove.serve")
_NO_LOADERS = ComputeConfig(workers=0)
_ATTEMPTS = 5
"""Attempts to open an index that is replaced meanwhile."""


@dataclass(frozen=True)
class OpenedIndex:
    """One state of an index."""

    name: str
    searcher: Searcher
    summary: Summary

    @property
    def index(self) -> Searchable:
        """The index itself."""
        return self.searcher.index


@contextmanager
def own_files() -> Iterator[None]:
    """Turn errors of files of this machine, such as its marks, into one whose details only the log has.

    Raises:
        SearchIndexError: instead of a UsageError or DataError.
    """
    try:
        yield
    except (DataError, UsageError) as error:
        raise SearchIndexError(error.message, hint=error.hint) from error


class ServedIndex:
    """An index with a name; `opened` is its present state."""

    def __init__(self, address: Address, open_it: Callable[[], Searcher]) -> None:
        """Open an index; errors as of `Searcher.open`."""
        self._address, self._open = address, open_it
        self._opening, self._failed = Lock(), None
        self._mark, self.opened = self._opened()
        self.changes = 0
        """How often it was opened again."""
        self.computing = Lock()
        """Held while the whole model computes: one question at a time, since it takes all cores."""

    def refresh(self) -> None:
        """Open the index again if it was made again and is whole; otherwise the old state stays."""
        mark = _mark_of(self._address)
        if mark is None or mark in (self._mark, self._failed) or not self._opening.acquire(blocking=False):
            return
        try:
            self._mark, self.opened = self._opened()
            self.changes += 1
            _log.info("%s was made again: %d images", self.opened.name, len(self.opened.index))
        except DoveError as error:
            if _mark_of(self._address) is not None:  # otherwise it is being made again once more
                self._failed = mark
                _log.warning("%s was made again and cannot be opened: %s", self.opened.name, error.message)
        finally:
            self._opening.release()

    def _opened(self) -> tuple[Any, OpenedIndex]:
        """Return the mark of an index, and the index with all its files open; both belong to one state."""
        for _ in range(_ATTEMPTS):
            mark, problem = _mark_of(self._address), None
            try:
                searcher = self._open()
                _open_files(searcher)
                opened = OpenedIndex(_name_of(searcher.index), searcher, summary_of(searcher.index))
            except DoveError as error:
                problem = error
            if mark == _mark_of(self._address):
                if problem is not None:
                    raise problem
                return mark, opened
        raise SearchIndexError(f"{self._address} is replaced all the time", hint="wait until `dove embed` has finished")


def open_served(
    addresses: Sequence[Address],
    *,
    checkpoint: Address | None = None,
    shards: Address | None = None,
) -> dict[str, ServedIndex]:
    """Open indexes, by their names.

    Args:
        addresses: folders, buckets, or collections in Milvus.
        checkpoint: the model of the only index, if it was moved.
        shards: the embedded images of the only index, if they were moved.

    Raises:
        UsageError: there is none, two have one name, or `checkpoint` or `shards` is given for several.
        SearchIndexError, CheckpointError: as of `Searcher.open`.
    """
    if not addresses:
        raise UsageError("no index is given", hint="run `dove embed` first, then dove serve index/NAME")
    if len(addresses) > 1 and (checkpoint or shards):
        hint = "serve one index, or put models and images back where they were"
        raise UsageError("--checkpoint and --shards are for one index only", hint=hint)
    found: dict[str, ServedIndex] = {}
    for address in addresses:
        one = ServedIndex(address, partial(_searcher, address, checkpoint, shards))
        name = one.opened.name
        if name in found:
            raise UsageError(f"two indexes have the name {name}", hint="rename the folder of one of them")
        found[name] = one
    return found


def _name_of(index: Searchable) -> str:
    """Return the last part of an index's address."""
    return index.place.name if isinstance(index, SearchIndex) else index.name.rpartition("/")[2]


def _searcher(address: Address, checkpoint: Address | None, shards: Address | None) -> Searcher:
    fresh = address if is_address(str(address)) else _fresh(address)
    return Searcher.open(fresh, _NO_LOADERS, checkpoint=checkpoint, shards=shards)


def _open_files(searcher: Searcher) -> None:
    """Open what a question may need now, so that no later change of the files matters."""
    if isinstance(searcher.index, SearchIndex):
        searcher.index.open_files()
    with suppress(UsageError):  # the model does not know the word
        searcher.index.words.encode("image")


def _mark_of(address: Address) -> Any:
    """Return what changes when an index is made again; None while it is not there."""
    if is_address(str(address)):
        return "milvus"
    place = _fresh(address)
    try:
        if isinstance(place, Bucket):
            return place.facts().get(MANIFEST)
        state = Path(place.where(MANIFEST)).stat()
        return state.st_ino, state.st_mtime_ns, state.st_size
    except (OSError, DoveError):
        return None


def _fresh(address: Address) -> Place:
    """Return the place of an address without what is remembered of its files."""
    return place_of(address.url, address.cache) if isinstance(address, Place) else place_of(address)
