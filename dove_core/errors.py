"""Errors that a user can act on.

DoveError
├── UsageError        a setting, path or query is invalid
├── DownloadError     a server refused, did not finish, or sent something else
│   └── ReplacedError a file was replaced between two requests for it
├── DataError         captions, images or shards are missing or damaged
├── CheckpointError   a checkpoint or run folder is missing, damaged or incompatible
├── SearchIndexError  an index is missing, damaged, or was made by another model
├── TrainingError     training cannot start or continue
└── SpaceError        the disk is full

All other exceptions are bugs and show a traceback.
"""

from __future__ import annotations


class DoveError(Exception):
    """An error with a message that says what happened and where, and a `hint` that says what to do.

    >>> try:
    ...     index = dove.open_index("index/nowhere")
    ... except dove.DoveError as error:
    ...     print(error.message)
    index/nowhere/index.json does not exist
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the hint when the error is pickled."""
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[DoveError], message: str, hint: str) -> DoveError:
    return kind(message, hint=hint)


def reason_of(error: Exception) -> str:
    """Return why a file cannot be read, for a message that names the file already."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


class UsageError(DoveError):
    """A setting, path or query is invalid."""


class DownloadError(DoveError):
    """A server refused, did not finish, or sent something other than the file."""


class ReplacedError(DownloadError):
    """A file was replaced between two requests for it."""


class DataError(DoveError):
    """Captions, images or shards are missing or damaged."""


class CheckpointError(DoveError):
    """A checkpoint or run folder is missing, damaged or incompatible."""


class SearchIndexError(DoveError):
    """An index is missing, damaged, or was made by another model."""


class TrainingError(DoveError):
    """Training cannot start or continue."""


class SpaceError(DoveError):
    """The disk is full."""
