"""The SQLite file of marks beside an index.

The file lies beside the folder of the index, not in it, so that an index which is removed and made again keeps them.
Marks are added and never changed: of one analyst, the latest mark of an image for a query counts, and the earlier ones
are its history; a withdrawal is a mark, too, after which none counts. The journal is a write-ahead log, synchronised
with the disk at every commit: once `add` returns, the marks survive a kill of the process and a loss of power.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from urllib.parse import quote

from dove_core.errors import DataError, DoveError, SpaceError, UsageError
from dove_core.files import LocalPath, free_space, make_folder
from dove_core.index.disk import SearchIndex
from dove_core.index.searchable import Searchable
from dove_core.places import Folder
from dove_core.review.marks import Mark, current_marks, folded, now

_FORMAT = 1
_WAIT = 30.0
"""Seconds to wait for another process that writes."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS marks (
    id INTEGER PRIMARY KEY, "key" TEXT NOT NULL, query TEXT NOT NULL, verdict TEXT NOT NULL, note TEXT NOT NULL,
    who TEXT NOT NULL, "when" TEXT NOT NULL, model TEXT NOT NULL,
    UNIQUE ("key", query, who, "when", verdict, note, model)
);
PRAGMA user_version = {_FORMAT};
COMMIT;
"""
_COLUMNS = '"key", query, verdict, note, who, "when", model'
_INSERT = f"INSERT OR IGNORE INTO marks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_HISTORY = f'SELECT {_COLUMNS} FROM marks ORDER BY "when", id'
_HINT = "give a file of marks, such as index/NAME.marks.sqlite"
_NO_DISK = 1 << 20
"""Free bytes below which a failed write means that the disk is full."""


def marks_path(index: Searchable) -> Path:
    """Return where the marks of an index are: `NAME.marks.sqlite` beside its folder.

    Those of an index in a bucket or in Milvus are in `index/` of the current folder. Links are not resolved, so a link
    that points to a new version of an index keeps the marks.

    >>> marks_path(dove.open_index("index/shapes").searcher.index).name
    'shapes.marks.sqlite'
    """
    if isinstance(index, SearchIndex) and isinstance(index.place, Folder):
        folder = Path(os.path.abspath(index.place.path))  # noqa: PTH100  # removes .. without following links
        return folder.with_name(f"{folder.name}.marks.sqlite")
    return Path("index") / f"{index.name.rstrip('/').rpartition('/')[2]}.marks.sqlite"


class Marks:
    """A file of marks; it is made by the first mark. Several threads and processes may use it at once.

    >>> marks = dove.Marks("index/circles.marks.sqlite")
    >>> marks.add([dove.Mark("test_1", "a red circle", "confirm", who="eva", when="2026-11-28")])
    1
    >>> marks.add([dove.Mark("test_1", "a red circle", "reject", who="eva")])
    1
    >>> [mark.verdict for mark in marks.current("a red circle")], len(marks.history())
    (['reject'], 2)
    """

    def __init__(self, path: LocalPath) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"<marks {self.path}>"

    def exists(self) -> bool:
        """Tell whether the file exists."""
        return self.path.exists()

    def add(self, marks: Sequence[Mark]) -> int:
        """Store marks, all or none, and return how many are new; when this returns, they are on the disk.

        A mark that equals a stored one in everything, its time too, is not stored again.

        Raises:
            SpaceError: the disk is full; no mark was stored.
            UsageError: the file cannot be written.
            DataError: the file is not one of marks, or is damaged.
        """
        make_folder(self.path.resolve().parent)
        moment = now()
        rows = [astuple(mark if mark.when else replace(mark, when=moment)) for mark in marks]
        with self._connected(writing=True) as database:
            before = database.total_changes
            database.execute("BEGIN IMMEDIATE")
            database.executemany(_INSERT, rows)
            database.execute("COMMIT")
            return database.total_changes - before

    def history(self) -> list[Mark]:
        """Return all marks ever made, the earliest first; errors as `add`. A file that does not exist has none."""
        if not self.exists():
            return []
        with self._connected(writing=False) as database:
            return [Mark(*row) for row in database.execute(_HISTORY)]

    def current(self, query: str | None = None) -> list[Mark]:
        """Return the latest mark of each image, query and analyst, the earliest first; of one query, or of all.

        Queries are compared without letter case and spaces; errors as `add`.
        """
        return [mark for mark in current_marks(self.history()) if query is None or folded(mark.query) == folded(query)]

    def queries(self) -> dict[str, int]:
        """Return each query that has marks, with the number of its current ones, the largest first."""
        counts = Counter(folded(mark.query) for mark in self.current())
        return dict(counts.most_common())

    @contextmanager
    def _connected(self, *, writing: bool) -> Iterator[sqlite3.Connection]:
        """Open the file for one operation, and turn SQLite's errors into ours."""
        try:
            with closing(self._connect(writing)) as database:
                yield database
        except sqlite3.Error as error:
            raise _error_of(error, self.path, writing) from error

    def _connect(self, writing: bool) -> sqlite3.Connection:
        address = f"file:{quote(str(self.path.absolute()))}"
        if not writing and not os.access(self.path.absolute().parent, os.W_OK) and not _log_of(self.path).exists():
            address += "?immutable=1"  # SQLite reads a file with a log only where it may make the log
        database = sqlite3.connect(address, uri=True, timeout=_WAIT, isolation_level=None)
        try:
            version = int(database.execute("PRAGMA user_version").fetchone()[0])
            if version not in (0, _FORMAT):
                hint = "use the version of dove that wrote it, or export the marks there as CSV"
                raise DataError(f"{self.path} is of format {version}; this version reads {_FORMAT}", hint=hint)
            if not version and database.execute("SELECT 1 FROM sqlite_master WHERE tbl_name != 'marks'").fetchone():
                raise DataError(f"{self.path} is a database of another program", hint=_HINT)
            if writing:
                _log_writes(database)
                database.execute("PRAGMA synchronous = FULL")
            if writing and not version:
                database.executescript(_SCHEMA)
            return database
        except BaseException:
            database.close()
            raise


def _log_writes(database: sqlite3.Connection) -> None:
    """Let the file have a write-ahead log; SQLite does not wait for other processes when it changes this, so wait."""
    end = time.monotonic() + _WAIT
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _error_of(error: sqlite3.Error, path: Path, writing: bool) -> DoveError:
    """Return what a user can act on in an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    is_full = code == sqlite3.SQLITE_IOERR and free_space(path) < _NO_DISK
    if code == sqlite3.SQLITE_FULL or (writing and is_full):
        hint = "free some space and mark again: marks that were stored before are kept"
        return SpaceError(f"no space left while writing {path}", hint=hint)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
        hint = "check the permissions of the file and of its folder, or choose another file with --marks"
        return UsageError(f"{path} cannot be {'written' if writing else 'read'}: {error}", hint=hint)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        hint = "end the process that writes to it, then mark again"
        return UsageError(f"{path} was in use for {_WAIT:.0f} seconds", hint=hint)
    return DataError(f"{path} cannot be read as marks: {error}", hint=_HINT)
