"""What can go wrong that a user can mend.

DoveError
├── UsageError        a setting, path or query that cannot be used as given
├── DownloadError     a server refused, broke off, or sent something else
├── DataError         captions, images or shards are missing or damaged
├── CheckpointError   a checkpoint or run folder is missing, damaged or of another kind
├── SearchIndexError  an index is missing, damaged, or made by another model
├── TrainingError     training cannot start or cannot go on
└── SpaceError        the disk is full

Everything else that is raised is a bug and shows its traceback.
"""

from __future__ import annotations


class DoveError(Exception):
    """An error that says what happened, where, and (in `hint`) the way out.

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
        """Keep the hint when an error travels between processes."""
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[DoveError], message: str, hint: str) -> DoveError:
    return kind(message, hint=hint)


class UsageError(DoveError):
    """A setting, path or query that cannot be used as given."""


class DownloadError(DoveError):
    """A server refused, broke off, or sent something else than the file."""


class DataError(DoveError):
    """Captions, images or shards are missing or damaged."""


class CheckpointError(DoveError):
    """A checkpoint or run folder is missing, damaged or of another kind."""


class SearchIndexError(DoveError):
    """An index is missing, damaged, or was made by another model."""


class TrainingError(DoveError):
    """Training cannot start or cannot go on."""


class SpaceError(DoveError):
    """The disk is full."""
